"""What clients may send, with its limits."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from flask_host.target import local_path

Name = Annotated[str, Field(min_length=1, max_length=100)]
LocalPath = Annotated[str, Field(max_length=2_000), AfterValidator(local_path)]


class Schema(BaseModel):
    """A body: a misspelt field is an error, not a default."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Expectation(Schema):
    """What an answer must be; `fields` are of its JSON."""

    status: int = Field(default=200, ge=100, le=599)
    text: str | None = None
    fields: dict[str, Any] = {}


class Step(Schema):
    """One request of a script, and what is expected."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: LocalPath
    body: Any = None
    wait_seconds: float = Field(default=0, ge=0, le=10)
    expect: Expectation = Expectation()


class Script(Schema):
    """A web test."""

    name: Name
    requests: list[Step] = Field(min_length=1, max_length=100)


class Scenario(Schema):
    """A load test: `user_count` users, `spawn_rate` more of them a second, for `run_time` seconds."""

    name: Name
    user_count: int = Field(ge=1, le=50)
    spawn_rate: float = Field(gt=0, le=50)
    run_time: float = Field(gt=0, le=60)
    pause_seconds: float = Field(default=0.2, ge=0.05, le=10)
    paths: list[LocalPath] = Field(default=["/health"], min_length=1, max_length=20)


class Start(Schema):
    """How a run is to be started: 9 is the most urgent, as in AMQP."""

    priority: int = Field(default=5, ge=0, le=9)
