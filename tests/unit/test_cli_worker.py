"""`execution-logger worker`: what it starts. How it goes on is in the integration tests."""

import sys
from collections.abc import Callable, Sequence

import pytest
from click.testing import CliRunner, Result

from execution_logger.cli import foreground, main

ENVIRONMENT = {"DATABASE_URL": "sqlite:///x", "EXECUTION_LOGGER_QUEUE": "other"}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that a supervisor was given; none of them is run."""
    commands: list[list[str]] = []

    class FakeSupervisor:
        def __init__(
            self,
            command: Sequence[str],
            after_crash: Callable[[], object],
            *,
            name: str,
            look_after: Callable[[], object],
        ) -> None:
            commands.append(list(command))
            assert name == "the worker"
            assert callable(after_crash)
            assert callable(look_after)

        async def run(self) -> int:
            return 7

    monkeypatch.setattr(foreground, "Supervisor", FakeSupervisor)
    return commands


def run(*arguments: str, **environment: str | None) -> Result:
    """The outcome of `execution-logger worker`."""
    return CliRunner().invoke(main, ["worker", *arguments], env={**ENVIRONMENT, **environment})


def test_it_takes_from_the_configured_queue(started: list[list[str]]) -> None:
    """In a Python process that finds the installed package, and its exit code is passed on."""
    assert run().exit_code == 7
    (command,) = started
    assert command[:4] == [sys.executable, "-P", "-m", "execution_logger.worker"]
    assert command[4:] == ["-Q", "other", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]


def test_options_reach_celery(started: list[list[str]]) -> None:
    """Ours under Celery's names, and whatever comes after the two dashes as it is."""
    run("--pool", "solo", "--concurrency", "2", "--loglevel", "Debug", "--", "-n", "a@%h", "-E")
    (command,) = started
    assert command[command.index("--pool") + 1] == "solo"
    assert command[command.index("--concurrency") + 1] == "2"
    assert command[command.index("--loglevel") + 1] == "DEBUG"
    assert command[-3:] == ["-n", "a@%h", "-E"]


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
    started: list[list[str]], variable: str, value: str | None, error: str
) -> None:
    """One line says what to set; to start it again would not help."""
    result = run(**{variable: value})
    assert result.exit_code == 2
    assert result.stderr.startswith(f"execution-logger: {error}")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr
    assert not started


@pytest.mark.parametrize("options", [("--pool", "gevent"), ("--concurrency", "0"), ("--loglevel", "loud")])
def test_wrong_options_start_nothing(started: list[list[str]], options: tuple[str, str]) -> None:
    """The message names what is allowed."""
    result = run(*options)
    assert result.exit_code == 2
    assert options[1] in result.stderr
    assert not started
