"""What the demonstration shows: the progress, a run's timeline, and the sums."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from doubles import ManualClock
from execution_logger import LogEntry, Settings, diagnostics
from execution_logger.cli.demo import default_folder
from execution_logger.demo.demonstration import Shares
from execution_logger.demo.meter import MeteredLogger
from execution_logger.demo.progress import Progress
from execution_logger.demo.summary import Summary
from execution_logger.demo.timeline import timeline
from execution_logger.demo.workspace import open_workspace
from execution_logger.testing import MemoryDelivery

PACKAGE = Path(diagnostics.__file__).parent
BEGAN_AT = datetime(2026, 11, 22, tzinfo=UTC)
SUMMARY = Summary(
    runs=2,
    files=5,
    runs_seconds=0.5,
    recorded_ids=["a", "b", "c"],
    stored_ids=["c", "b", "a"],
    call_cost="median 3.0 µs",
    call_seconds=0.005,
    batches=1,
    host_connections=0,
    worker_connections=2,
    worker_pool=4,
)


def page(*, terminal: bool = False) -> Console:
    """A console of a page's width, whose output is `text(console)`."""
    return Console(file=io.StringIO(), width=100, force_terminal=terminal, legacy_windows=False)


def text(console: Console) -> str:
    """What was printed."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def entry(milliseconds: int, category: str, message: str, level: str = "info") -> LogEntry:
    """One of a run."""
    created_at = BEGAN_AT + timedelta(milliseconds=milliseconds)
    return LogEntry("id", created_at, "t", level, category, message, agent_name="reader", duration_ms=1234)


def test_the_timeline_shows_when_and_what() -> None:
    """Offsets from the first entry, nothing cut at the width of a page."""
    console = page()
    console.print(timeline([entry(0, "agent", "Reading"), entry(1500, "agent", "Failed", "error")]))
    _, _, _, first, second, *_ = text(console).splitlines()
    assert first.split() == ["+0.000", "s", "info", "agent", "reader", "Reading", "1,234", "ms"]
    assert second.split() == ["+1.500", "s", "error", "agent", "reader", "Failed", "1,234", "ms"]


def test_most_tool_calls_in_a_row_are_left_out() -> None:
    """How many is said; a few are all shown."""
    many = [entry(number, "tool", f"call {number}") for number in range(10)]
    console = page()
    console.print(timeline([entry(0, "agent", "start"), *many, entry(9, "agent", "end"), *many[:3]]))
    shown = text(console)
    assert "… 8 more tool calls" in shown
    assert [shown.count(f"call {number}") for number in (0, 1, 2, 3)] == [2, 2, 1, 0]


def test_everything_stored_once_is_complete() -> None:
    """In whichever order the rows are read."""
    assert SUMMARY.is_complete
    console = page()
    console.print(SUMMARY.table())
    rows = [line.split() for line in text(console).splitlines()]
    assert ["lost", "0"] in rows
    assert ["connections", "host", "0;", "worker", "2,", "its", "pool", "is", "4"] in rows


@pytest.mark.parametrize(
    ("stored_ids", "lost", "duplicates"),
    [(["a", "b"], 1, 0), (["a", "b", "c", "c"], 0, 1), ([], 3, 0), (["a", "a", "b", "x"], 1, 1)],
)
def test_lost_and_duplicate_rows_are_counted(stored_ids: list[str], lost: int, duplicates: int) -> None:
    """One does not make up for the other."""
    summary = replace(SUMMARY, stored_ids=stored_ids)
    assert (summary.lost, summary.duplicates, summary.is_complete) == (lost, duplicates, False)


def test_progress_is_lines_where_there_is_no_terminal() -> None:
    """At most one a second, the last counts in any case, and nothing that moves the cursor."""
    console, clock = page(), ManualClock()
    with Progress(console, clock) as progress:
        for calls in range(24):
            progress.update(calls=calls, runs=1, runs_total=1)
            clock.advance(0.1)
    lines = text(console).splitlines()
    assert [line.partition(", delivered")[0] for line in lines] == [
        f"{seconds:5.1f} s  runs 1/1, calls {calls}"
        for seconds, calls in ((0, 0), (1, 10), (2, 20), (2.4, 23))
    ]
    assert "\x1b" not in text(console)


def test_progress_is_live_on_a_terminal() -> None:
    """The last counts stay on the screen."""
    console = page(terminal=True)
    with Progress(console) as progress:
        progress.update(calls=1234, stored=617)
    assert "1,234" in text(console)
    assert "━" in text(console)


def test_the_files_are_shared_out_evenly() -> None:
    """Each file belongs to one run, and no run is without."""
    paths = [Path(str(number)) for number in range(10)]
    shares = Shares.make(Path(), paths, 3, "demo").paths
    assert list(shares) == ["demo-1", "demo-2", "demo-3"]
    assert [path for share in shares.values() for path in share] == paths
    assert {len(share) for share in shares.values()} == {3, 4}
    assert len(Shares.make(Path(), paths[:2], 3, "demo").paths) == 2


def test_the_meter_has_every_call() -> None:
    """With its id and its time."""
    logger = MeteredLogger(Settings(), make_delivery=MemoryDelivery)
    entries = [logger.sync.info("t", "c", "m")]
    with logger.timed_operation("t", "c", "work"):
        entries.append(logger.sync.log_tool_call("t", "a", "tool", "m"))
    assert logger.calls == 4
    assert {each.id for each in entries} < set(logger.ids)
    assert len(set(logger.ids)) == 4
    assert min(logger.nanoseconds) > 0
    assert logger.sync.shutdown().complete
    logger.nanoseconds = [1000, 2000, 9000]
    assert logger.describe() == "median 2.0 µs, mean 4.0 µs, slowest 9 µs"


def test_the_workspace_is_removed_unless_it_is_to_be_kept() -> None:
    """Also when something fails inside."""
    with (
        open_workspace(keep=True) as kept,
        pytest.raises(ZeroDivisionError),
        open_workspace(keep=False) as gone,
    ):
        raise ZeroDivisionError
    assert not gone.folder.exists()
    kept.folder.rmdir()


def test_the_demonstration_keeps_to_its_own_broker_and_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment names is the user's; only the language is taken from it."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://production")
    monkeypatch.setenv("EXECUTION_LOGGER_DATABASE_URL", "postgresql://production/logs")
    monkeypatch.setenv("CELERY_ENABLED", "false")
    with open_workspace(keep=False) as workspace:
        settings = Settings.from_environment(workspace.environment(None, None))
        assert settings.broker_url == f"embedded://{workspace.folder}/broker"
        assert settings.database_url == f"sqlite:///{workspace.folder}/logs.db"
        assert settings.celery_enabled
        assert settings.language == "en"
        assert settings.queue.startswith("demo-")
        monkeypatch.setenv("EXECUTION_LOGGER_LANGUAGE", "zh")
        settings = Settings.from_environment(workspace.environment("redis://real", "sqlite:///real"))
        assert (settings.broker_url, settings.database_url) == ("redis://real", "sqlite:///real")
        assert settings.language == "zh"


def test_the_default_folder_is_the_checkout_that_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another project's folder is not looked through: then it is the package, or its checkout."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "celery-execution-logger"\n')
    assert default_folder() == tmp_path
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    assert default_folder() in (PACKAGE, PACKAGE.parent)
