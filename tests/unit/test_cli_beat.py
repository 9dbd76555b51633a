"""`execution-logger beat`: what it starts. How it goes on is in the integration tests."""

from collections.abc import Sequence

import pytest
from click.testing import CliRunner, Result

from execution_logger.cli import beat, main


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, object]]]:
    """What was to be run, and how; nothing is."""
    calls: list[tuple[list[str], dict[str, object]]] = []

    def run_supervised(module: Sequence[str], **how: object) -> int:
        calls.append((list(module), how))
        return 7

    monkeypatch.setattr(beat, "run_supervised", run_supervised)
    return calls


def run(*arguments: str) -> Result:
    """The outcome of `execution-logger beat`."""
    return CliRunner().invoke(main, ["beat", *arguments])


def test_it_runs_beat_and_ends_with_its_exit_code(started: list[tuple[list[str], dict[str, object]]]) -> None:
    """Its log says that it is Beat that has died, not the worker."""
    assert run().exit_code == 7
    assert started == [
        (
            ["execution_logger.operate.services.beat", "--loglevel", "INFO"],
            {"name": "Beat", "stop_at_eof": False},
        )
    ]


def test_options_reach_celery(started: list[tuple[list[str], dict[str, object]]]) -> None:
    """Whatever comes after the two dashes, as it is."""
    run("--loglevel", "Debug", "--stop-at-eof", "--", "--max-interval", "5")
    ((module, how),) = started
    assert module[1:] == ["--loglevel", "DEBUG", "--max-interval", "5"]
    assert how["stop_at_eof"] is True
