"""What any command prints at any width: a name that somebody may copy out of it is in one piece."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from batches import encoded
from execution_logger import Settings
from execution_logger.cli import doctor as cli_doctor
from execution_logger.cli import terminal
from execution_logger.journal import find_destination
from execution_logger.operate import facts
from execution_logger.operate.doctor.finding import warning
from execution_logger.store import create_engine
from journals import DyingProcess
from ledgers import Noted, fill
from stored_runs import StoredRuns

RUNS = [
    f"order-{'4711-' * 18}end",
    f"a run {'with many blanks in its name ' * 4}end",
    f"季度{'进展报告与总结' * 8}完",
]
PROCESS = f"host-{'of-the-cluster-' * 5}31662-a0b7352987b4"
WORKERS = [f"logs@web-{number}.{'cluster.' * 10}eu-central-1.example.com" for number in (1, 2)]
FOLDER = f"a folder 日志{'目录' * 5}{'-state' * 10}"
REASON = "列「金额」没有这样的值。" * 8


class Site(StoredRuns):
    """SQLite, an embedded broker and a journal, below a folder with a long name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self.folder.mkdir()
        super().__init__(folder / f"the logs of {'all-' * 20}hosts.db")
        self.environment |= {
            "CELERY_BROKER_URL": f"embedded://{self.folder / 'broker'}",
            "EXECUTION_LOGGER_JOURNAL_DIRECTORY": str(self.folder / "journal"),
            "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS": "30",
        }
        self.settings = Settings.from_environment(self.environment)
        self.urls = [f"sqlite+aiosqlite:///{self.path}", self.environment["CELERY_BROKER_URL"]]

    def fill_ledger(self, *ledger: Noted) -> None:
        """Make this the ledger."""

        async def run() -> None:
            engine = create_engine(self.settings, pool_size=1)
            await fill(engine, ledger, datetime.now(UTC))
            await engine.dispose()

        asyncio.run(run())

    def lines(self, *arguments: str) -> list[str]:
        """What a command prints, in its lines; one that has found something ends with 1."""
        result = self.run(*arguments)
        assert result.exit_code in (0, 1), result.output
        return result.output.splitlines()


@pytest.fixture(params=[80, 120, None], ids="{} cells".format)
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int | None:
    """That of the terminal; None where the output goes elsewhere."""
    cells: int | None = request.param
    if cells:
        shown = partial(Console, width=cells, force_terminal=True, color_system=None)
        monkeypatch.setattr(terminal, "Console", shown)
    return cells


@pytest.fixture
def site(tmp_path: Path, width: int | None) -> Site:
    """What its commands print is of that width."""
    return Site(tmp_path)


def are_whole(names: Sequence[str], lines: Sequence[str]) -> bool:
    """Whether each stands in a line; shown as it is."""
    missing = [name for name in names if not any(name in line for line in lines)]
    assert not missing, "\n".join(lines)
    return True


def fits(lines: Sequence[str], width: int | None, names: Sequence[str]) -> bool:
    """Whether no line but those with such a name is longer than the terminal's."""
    long = [line for line in lines if width and cell_len(line) > width]
    return all(any(name in line for name in names) for line in long)


@pytest.mark.parametrize("arguments", [["runs"], ["tail"], ["dead", "list"]])
def test_the_names_of_runs_are_whole(site: Site, width: int | None, arguments: list[str]) -> None:
    """Whatever is in them: `tail`, `export` and `purge` want them."""
    site.execute(
        "CREATE TRIGGER loud BEFORE INSERT ON execution_logs WHEN NEW.level = 'loud' "
        f"BEGIN SELECT RAISE(ABORT, '{REASON}'); END"
    )
    for name in RUNS:
        site.store_run(name, "info", "error", "loud", step="s" * 90)
    lines = site.lines(*arguments)
    assert are_whole(RUNS, lines)
    assert fits(lines, width, RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_is_named_is_whole(site: Site, name: str) -> None:
    """Whether there is one, or not; so is the file that it goes into."""
    path = site.folder / "run.csv"
    for arguments in (["tail", name], ["export", name], ["purge", "--task-id", name, "--dry-run"]):
        assert are_whole([name], site.lines(*arguments))
    site.store_run(name, "info")
    assert are_whole([name, str(path)], site.lines("export", name, "--output", str(path)))


def test_the_names_of_processes_are_whole(site: Site, width: int | None) -> None:
    """In the audit, and among those that have left something; so are their folder and its destination."""
    site.fill_ledger(*(Noted(f"b{first}", PROCESS, first, 10, 2, age=3600, delay=100) for first in (1, 21)))
    lines = site.lines("audit")
    assert are_whole([PROCESS], lines)
    assert fits(lines, width, [PROCESS])
    destination = find_destination(site.settings)
    DyingProcess(destination.folder, PROCESS, to=destination).log(3).die()
    lines = site.lines("recover", "--dry-run")
    names = [PROCESS, str(destination.folder), site.environment["CELERY_BROKER_URL"]]
    assert are_whole(names, lines)
    assert fits(lines, width, names)


def test_workers_urls_and_paths_are_whole(
    site: Site, width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the status and the settings are shown."""
    monkeypatch.setattr(facts, "workers_online", lambda settings: WORKERS)
    journal = str(site.folder / "journal")
    lines = site.lines("status")
    assert are_whole([*WORKERS, *site.urls, journal], lines)
    assert fits(lines, width, [*WORKERS, *site.urls, journal])
    assert are_whole([journal, site.urls[1], f"sqlite:///{site.path}"], site.lines("config"))


def test_words_of_the_doctor_are_whole(
    site: Site, width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says sentences, which a terminal shows in lines of its width: they are broken at blanks only."""
    found = [warning("workers.names", f"two workers are called {name}", f"rename {name}") for name in WORKERS]
    monkeypatch.setattr(cli_doctor, "examine", lambda subject, skip: found)
    lines = site.lines("doctor")
    assert are_whole(WORKERS, lines)
    assert fits(lines, width, WORKERS)
    if width is None:
        assert are_whole([each.what for each in found], lines)


def test_what_is_wrong_with_a_job_is_whole(site: Site, width: int | None) -> None:
    """The sentence names the database; the table stays within the terminal."""
    site.execute("CREATE TRIGGER t BEFORE DELETE ON execution_logs BEGIN SELECT RAISE(ABORT, 'no!'); END")
    site.store(encoded(task_id="t", created_at="2020-01-01T00:00:00+00:00"))
    site.run("jobs", "run", "retention")
    lines = site.lines("jobs")
    assert are_whole(site.urls[:1], lines)
    assert fits(lines, width, site.urls)
