"""Confirmations of batches: where they are kept, and what is read from what is there."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
import redis
from celery import Celery

from execution_logger import Settings, SettingsError
from execution_logger.broker.confirmations import HELD, STORED, Confirmations, Outcome, result_backend_url
from execution_logger.errors import ResultsUnavailableError

# Celery's own call; with redis-py 8.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")

DONE = {"stored": 2, "duplicates": 1, "dead_lettered": 3}


@pytest.fixture(params=["redis", "folder"])
def confirmations(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Confirmations]:
    """Each kind of result backend that there is."""
    url = "redis://127.0.0.1:1/0" if request.param == "redis" else f"embedded://{tmp_path}/a broker"
    with closing(Confirmations(Settings(broker_url=url), timeout_seconds=1)) as confirmations:
        if request.param == "redis":
            confirmations.backend.client = fakeredis.FakeRedis()
        yield confirmations


def put(confirmations: Confirmations, batch_id: str, payload: bytes) -> None:
    """Store any bytes as a result."""
    confirmations.backend.set(confirmations.backend.get_key_for_task(batch_id), payload)


class TestUrl:
    """Where they are kept."""

    @pytest.mark.parametrize(
        ("settings", "url"),
        [
            ({}, "redis://localhost:6379/0"),
            ({"broker_url": "redis://:p@a:1/2;redis://b"}, "redis://:p@a:1/2"),
            ({"broker_url": "redis+socket:///run/redis.sock"}, "redis+socket:///run/redis.sock"),
            ({"broker_url": "amqp://host", "result_backend": "redis://other/3"}, "redis://other/3"),
            ({"result_backend": "file:///folder"}, "file:///folder"),
            ({"broker_url": "embedded:///a%20folder"}, "file:///a folder/results"),
            ({"broker_url": "rediss://host"}, "rediss://host"),
            (
                {"broker_url": "sentinel://a;sentinel://b", "sentinel_master_name": "logs"},
                "sentinel://a;sentinel://b",
            ),
            ({"result_backend": "sentinel://a", "sentinel_master_name": "logs"}, "sentinel://a"),
        ],
    )
    def test_it_is_the_result_backend_or_else_the_broker(self, settings: dict[str, Any], url: str) -> None:
        """Without any setting, a Redis broker confirms; and Celery's own needs are met."""
        assert result_backend_url(Settings(**settings)) == url

    @pytest.mark.parametrize(
        "url", ["rpc://", "rpc", "disabled", "db+postgresql://host/results", "sentinel://nameless"]
    )
    def test_one_that_will_not_do_leaves_it_to_the_broker(self, url: str) -> None:
        """A host has it for its own tasks, and need not give it up."""
        assert result_backend_url(Settings(result_backend=url)) == "redis://localhost:6379/0"

    @pytest.mark.parametrize(
        "settings",
        [
            {"confirmation": "off"},
            {"broker_url": "amqp://host"},
            {"broker_url": "amqp://host", "result_backend": "rpc://"},
        ],
    )
    def test_there_is_none_where_a_result_is_no_durable_word(self, settings: dict[str, Any]) -> None:
        """Then the broker's acceptance has to do; there is nothing to ask."""
        assert result_backend_url(Settings(**settings)) is None
        with pytest.raises(SettingsError, match="CELERY_RESULT_BACKEND"):
            Confirmations(Settings(**settings), timeout_seconds=1)

    @pytest.mark.parametrize(
        "url", ["redis://:se#cret@host/0", "redis://host/secret", "rediss://:secret@host:port/0"]
    )
    def test_a_url_that_cannot_be_used_is_not_shown(self, url: str) -> None:
        """It holds a password."""
        with pytest.raises(
            SettingsError, match=r"CELERY_RESULT_BACKEND=\(hidden\): cannot be used"
        ) as caught:
            Confirmations(Settings(result_backend=url), timeout_seconds=1)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "rediss://127.0.0.1:1/0?socket_timeout=60"])
    def test_an_outage_is_short_whatever_the_url_says(self, url: str) -> None:
        """Neither Celery nor redis-py tries again."""
        with closing(Confirmations(Settings(broker_url=url), timeout_seconds=0.5)) as confirmations:
            connection = confirmations.backend.client.connection_pool.make_connection()
            assert (connection.socket_timeout, connection.socket_connect_timeout) == (0.5, 0.5)
            assert connection.retry.get_retries() == 0
            assert confirmations.backend.retry_policy["max_retries"] == 0

    def test_the_configuration_of_the_environment_is_not_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A host's module may do anything when it is imported."""
        monkeypatch.setenv("CELERY_CONFIG_MODULE", "no_such_module")
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "no_such_module")
        with closing(Confirmations(Settings(), timeout_seconds=1)) as confirmations:
            assert confirmations.backend.serializer == "json"


class TestOutcomes:
    """What is read."""

    def test_only_what_is_confirmed_is_there(self, confirmations: Confirmations) -> None:
        """Stored, held, or nothing: no more is told apart."""
        confirmations.store("a", STORED, DONE)
        confirmations.store("b", HELD, {"reason": "the database is away", "at": 1.5})
        assert confirmations.outcomes(["c", "b", "a"]) == {"a": Outcome(True, 3), "b": Outcome(False)}
        assert confirmations.outcomes([]) == {}

    def test_that_it_is_stored_is_the_last_that_is_said(self, confirmations: Confirmations) -> None:
        """It replaces that the batch is held, and a second delivery does not take it back."""
        confirmations.store("a", HELD, {})
        confirmations.store("a", STORED, DONE)
        confirmations.store("a", HELD, {})
        assert confirmations.outcomes(["a"]) == {"a": Outcome(True, 3)}

    def test_it_is_what_celery_reads(self, confirmations: Confirmations) -> None:
        """Key and format are those of any task's result."""
        confirmations.store("a", STORED, DONE)
        reader = Celery("reader", set_as_current=False)
        result = reader.AsyncResult("a", backend=confirmations.backend)
        assert (result.state, result.result) == ("SUCCESS", DONE)
        assert confirmations.backend.get_key_for_task("a") == b"celery-task-meta-a"

    @pytest.mark.parametrize(
        "payload",
        [
            b"", b'{"status": "SUCC', b"\xff\xfe", b"[]", b"5", b"null", b'{"result": {}}', b'{"status": 5}',
            b'{"status": "FAILURE", "result": {"exc_type": "x"}}', b'{"status": "STARTED"}',
            b'{"status":' + b"[" * 100_000,
        ],
    )  # fmt: skip
    def test_what_is_torn_or_strange_is_left_out(self, confirmations: Confirmations, payload: bytes) -> None:
        """Somebody may be writing it at this moment; the others are read all the same."""
        put(confirmations, "a", payload)
        confirmations.store("b", STORED, DONE)
        assert confirmations.outcomes(["a", "b"]) == {"b": Outcome(True, 3)}

    @pytest.mark.parametrize("result", [b"null", b'"text"', b"[1]", b'{"dead_lettered": "many"}'])
    def test_a_strange_result_of_a_stored_batch_counts_as_stored(
        self, confirmations: Confirmations, result: bytes
    ) -> None:
        """The state is what counts; the numbers are for the report."""
        put(confirmations, "a", b'{"status": "SUCCESS", "result": ' + result + b"}")
        assert confirmations.outcomes(["a"]) == {"a": Outcome(True, 0)}

    def test_all_are_asked_for_and_forgotten_at_once(self) -> None:
        """A shipper with hundreds of batches on the way asks often."""
        commands: list[tuple[Any, ...]] = []

        def mget(keys: list[bytes]) -> list[None]:
            commands.append(("mget", *keys))
            return [None] * len(keys)

        with closing(Confirmations(Settings(), timeout_seconds=1)) as confirmations:
            confirmations.backend.client = SimpleNamespace(
                mget=mget,
                delete=lambda *keys: commands.append(("delete", *keys)),
                connection_pool=confirmations.backend.client.connection_pool,
            )
            confirmations.outcomes(["a", "b"])
            confirmations.forget(["a", "b"])
            confirmations.forget([])
        keys = (b"celery-task-meta-a", b"celery-task-meta-b")
        assert commands == [("mget", *keys), ("delete", *keys)]


class TestForgetting:
    """What was read once is of no use any more."""

    def test_what_is_forgotten_is_gone(self, confirmations: Confirmations, tmp_path: Path) -> None:
        """Also what never was there."""
        confirmations.store("a", STORED, DONE)
        confirmations.store("b", STORED, DONE)
        confirmations.forget(["a", "b", "c"])
        assert confirmations.outcomes(["a", "b", "c"]) == {}
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    def test_a_word_expires_in_redis(self) -> None:
        """When nobody asks any more."""
        with closing(
            Confirmations(Settings(confirmation_expires_seconds=90), timeout_seconds=1)
        ) as confirmations:
            confirmations.backend.client = fakeredis.FakeRedis()
            confirmations.store("a", STORED, DONE)
            assert 80 < confirmations.backend.client.ttl("celery-task-meta-a") <= 90


class TestOutages:
    """Every failure is one kind of error."""

    @pytest.mark.parametrize("error", [redis.ConnectionError("refused"), redis.TimeoutError(), OSError("x")])
    def test_a_redis_that_fails(self, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        """Said with its place, and without its password."""

        def fail(*_: Any, **__: Any) -> Any:
            raise error

        with closing(
            Confirmations(Settings(broker_url="redis://:secret@host/0"), timeout_seconds=1)
        ) as confirmations:
            monkeypatch.setattr(redis.Redis, "execute_command", fail)
            for request in (confirmations.outcomes, confirmations.forget):
                with pytest.raises(ResultsUnavailableError, match=r"^redis://host/0: ") as caught:
                    request(["a"])
                assert "secret" not in str(caught.value)
            with pytest.raises(ResultsUnavailableError):
                confirmations.store("a", STORED, DONE)

    def test_a_folder_that_fails(self, tmp_path: Path) -> None:
        """Where a folder is in the place of a file."""
        with closing(
            Confirmations(Settings(result_backend=f"file://{tmp_path}"), timeout_seconds=1)
        ) as confirmations:
            (tmp_path / "celery-task-meta-a").mkdir()
            for request in (confirmations.outcomes, confirmations.forget):
                with pytest.raises(ResultsUnavailableError):
                    request(["a"])

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        """Is a wrong setting."""
        (tmp_path / "file").touch()
        with pytest.raises(SettingsError, match="NotADirectoryError"):
            Confirmations(Settings(result_backend=f"file://{tmp_path}/file/confirmations"), timeout_seconds=1)
