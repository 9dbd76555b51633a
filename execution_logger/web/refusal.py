"""Refusals: why a request gets no answer, as JSON that says what to do."""

from collections.abc import Mapping

import msgspec
from starlette.responses import Response


class Problem(msgspec.Struct, frozen=True):
    """What was wrong.

    Attributes:
        code: for programs.
        message: for people.
    """

    code: str
    message: str


class Failure(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: Problem


class Refusal(Exception):  # noqa: N818 - it is the caller's error, not ours
    """A request that cannot be answered.

    Args:
        status: of HTTP.
        code: for programs.
        message: for people.
        headers: further ones of the answer.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


def refuse(refusal: Refusal) -> Response:
    """The answer that says so."""
    body = msgspec.json.encode(Failure(Problem(refusal.code, str(refusal))))
    headers = dict(refusal.headers or {})
    return Response(body, refusal.status, headers, media_type="application/json")
