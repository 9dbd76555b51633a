"""`execution-logger worker`: what it starts. How it goes on is in the integration tests."""

import sys
from collections.abc import Sequence
from functools import partial

import pytest
from celery import Celery
from click.testing import CliRunner, Result

from execution_logger import Settings
from execution_logger.cli import main, worker
from execution_logger.worker import poison
from execution_logger.worker.supervisor import CAUSE_REMOVED

ENVIRONMENT = {"DATABASE_URL": "sqlite:///x", "EXECUTION_LOGGER_QUEUE": "other"}


class Started:
    """What would have been run; nothing is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.first: list[str] = []
        self.again: list[str] = []
        self.celery: list[str] = []
        self.looks: list[str] = []
        self.moved = 0
        started = self

        class FakeSupervisor:
            def __init__(self, command: Sequence[str], after_crash: Sequence[str]) -> None:
                started.first, started.again = list(command), list(after_crash)

            async def run(self) -> int:
                return 7

        monkeypatch.setattr(worker, "Supervisor", FakeSupervisor)
        monkeypatch.setattr(worker, "stop_at_end_of_input", lambda: None)
        monkeypatch.setattr(Celery, "worker_main", lambda _, words: self.celery.extend(words))
        for name in ("quarantine_malformed", "keep_looking"):
            monkeypatch.setattr(poison, name, partial(self._look, name))

    def _look(self, name: str, _settings: Settings) -> int:
        self.looks.append(name)
        return self.moved


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Nothing yet."""
    return Started(monkeypatch)


def run(*arguments: str, **environment: str | None) -> Result:
    """The outcome of `execution-logger worker`."""
    return CliRunner().invoke(main, ["worker", *arguments], env={**ENVIRONMENT, **environment})


def run_child(started: Started, command: Sequence[str], **environment: str | None) -> Result:
    """The outcome of the process that the supervisor starts."""
    words = list(command)
    assert words[:4] == [sys.executable, "-P", "-m", "execution_logger.cli"]
    return CliRunner().invoke(main, words[4:], env={**ENVIRONMENT, **environment})


def test_it_takes_from_the_configured_queue(started: Started) -> None:
    """In a Python process that finds the installed package, and its exit code is passed on."""
    assert run().exit_code == 7
    assert run_child(started, started.first).exit_code == 0
    assert started.celery == [
        "worker", "-Q", "other", "--hostname", "other@%h",
        "--without-gossip", "--without-mingle", "--loglevel=INFO",
    ]  # fmt: skip


def test_it_looks_at_the_queue_before_it_starts_again(started: Started) -> None:
    """What has ended it would end it again; and every worker looks now and then."""
    run()
    run_child(started, started.first)
    assert started.looks == ["keep_looking"]
    run_child(started, started.again)
    assert started.looks[1:] == ["quarantine_malformed", "keep_looking"]


def test_it_tells_its_supervisor_that_a_cause_is_removed(started: Started) -> None:
    """Which has no reason to wait any longer then."""
    started.moved = 1
    run()
    assert run_child(started, started.again).exit_code == CAUSE_REMOVED
    assert not started.celery


def test_options_reach_celery(started: Started) -> None:
    """Ours under Celery's names, and whatever comes after the two dashes as it is."""
    run("--pool", "solo", "--concurrency", "2", "--loglevel", "Debug", "--", "-n", "a@%h", "-E")
    run_child(started, started.again)
    assert started.celery[5:] == ["--loglevel=DEBUG", "--pool=solo", "--concurrency=2", "-n", "a@%h", "-E"]


@pytest.mark.parametrize(
    ("variable", "value", "error"),
    [
        ("DATABASE_URL", None, "DATABASE_URL is not set: the worker needs it"),
        ("DATABASE_URL", "mysql://user:secret@host/logs", "DATABASE_URL"),
        ("CELERY_RESULT_BACKEND", "redis://:secret@host/letters", "CELERY_RESULT_BACKEND=(hidden)"),
        ("EXECUTION_LOGGER_BATCH_SIZE", "many", "EXECUTION_LOGGER_BATCH_SIZE='many'"),
    ],
)
def test_with_wrong_settings_nothing_is_started(
    started: Started, variable: str, value: str | None, error: str
) -> None:
    """One line says what to set; to start it again would not help."""
    run()
    result = run_child(started, started.first, **{variable: value})
    assert result.exit_code == 2
    assert result.stderr.startswith(f"execution-logger: {error}")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr
    assert not started.celery


@pytest.mark.parametrize("options", [("--pool", "gevent"), ("--concurrency", "0"), ("--loglevel", "loud")])
def test_wrong_options_start_nothing(started: Started, options: tuple[str, str]) -> None:
    """The message names what is allowed."""
    result = run(*options)
    assert result.exit_code == 2
    assert options[1] in result.stderr
    assert not started.first
