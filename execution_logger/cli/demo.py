"""`execution-logger demo`: the whole way of real entries, on this machine."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import click
from rich.console import Console
from rich.text import Text
from sqlalchemy import make_url

import execution_logger
from execution_logger.broker import public_url
from execution_logger.cli.db import upgrade_database
from execution_logger.demo.demonstration import Demonstration, Shares
from execution_logger.demo.documents import find_documents
from execution_logger.demo.progress import Progress
from execution_logger.demo.summary import Summary
from execution_logger.demo.timeline import timeline
from execution_logger.demo.worker import WorkerProcess
from execution_logger.settings import PREFIX, Settings
from execution_logger.worker.queue import delete_queue

_PROJECT = "celery-execution-logger"
_LEGACY_FILE = "legacy-notes.txt"
_LEGACY_TEXT = "旧系统的说明: 这个文件不是 UTF-8 编码, 而是 GB18030。\n读取时先失败, 再用旧编码重试。\n"
_TERMINATED = 143
_PAGE_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    folder: Path
    runs: int
    broker_url: str | None
    database_url: str | None
    keep: bool


@click.command(context_settings={"show_default": True})
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--runs", type=click.IntRange(1, 200), default=8, help="Concurrent runs.")
@click.option("--broker", metavar="URL", help="A real broker, e.g. redis://localhost:6379/0.")
@click.option("--database", metavar="URL", help="A real database, e.g. postgresql://user@host/database.")
@click.option("--keep", is_flag=True, help="Keep the temporary folder, and the rows in a real database.")
def command(folder: Path | None, runs: int, broker: str | None, database: str | None, keep: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Run a small document pipeline over the text files of FOLDER, and log every step of it.

    A real worker writes the entries to a real database; at the end a run is read back, and all
    entries are counted. Without options it needs no server: the broker is a folder, the database a
    SQLite file. FOLDER is this project itself when it is left out.
    """
    options = Options((folder or default_folder()).resolve(), runs, broker, database, keep)
    try:
        sys.exit(asyncio.run(_run(options, _console())))
    except asyncio.CancelledError:
        sys.exit(_TERMINATED)


def default_folder() -> Path:
    """The checkout that is the current folder or holds the package, or else the package."""
    package = Path(execution_logger.__file__).parent
    for folder in (Path.cwd(), package.parent):
        project = folder / "pyproject.toml"
        if project.is_file() and f'name = "{_PROJECT}"' in project.read_text("utf-8", errors="replace"):
            return folder
    return package


async def _run(options: Options, console: Console) -> int:
    _let_sigterm_cancel()
    paths = find_documents(options.folder)
    with _workspace(console, keep=options.keep) as workspace:
        environment = _environment(options, workspace)
        settings = Settings.from_environment(environment)
        prefix = f"demo-{uuid4().hex[:8]}"
        shares = Shares.make(options.folder, [_plant_legacy_file(workspace), *paths], options.runs, prefix)
        _introduce(console, options, settings, shares)
        console.print(f"Tables       {await upgrade_database(settings)}\n", highlight=False)
        demonstration = Demonstration(settings, shares, workspace, prefix)
        try:
            with (
                WorkerProcess(environment, workspace / "worker.log") as worker,
                Progress(console) as progress,
            ):
                summary = await demonstration.run(worker, progress)
            await _report(console, demonstration, summary, next(iter(shares.paths)))
        finally:
            await demonstration.close(delete_rows=bool(options.database_url and not options.keep))
            if options.broker_url:
                delete_queue(settings)
        if not summary.is_complete:
            console.print(f"The worker's last lines:\n{worker.output}", markup=False, highlight=False)
        return 0 if summary.is_complete else 1


def _console() -> Console:
    """The terminal, or a page of usual width when the output goes elsewhere."""
    console = Console()
    return console if console.is_terminal else Console(width=_PAGE_WIDTH)


def _let_sigterm_cancel() -> None:
    """Clean up at a SIGTERM as at a Ctrl-C."""
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


@contextmanager
def _workspace(console: Console, *, keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="execution-logger-demo-"))
    try:
        yield folder
    finally:
        if keep:
            console.print(f"Kept: {folder}", soft_wrap=True, highlight=False)
        else:
            shutil.rmtree(folder)


def _environment(options: Options, workspace: Path) -> dict[str, str]:
    """The environment with the demonstration's settings; host and worker both read it."""
    ours = {
        "CELERY_ENABLED": "true",
        "FALLBACK": "keep",
        "BROKER_URL": options.broker_url or f"embedded://{workspace / 'broker'}",
        "DATABASE_URL": options.database_url or f"sqlite:///{workspace / 'logs.db'}",
        # A queue of its own: other workers of this broker write to other databases.
        "QUEUE": f"demo-{uuid4().hex[:8]}",
    }
    return {f"{PREFIX}LANGUAGE": "en", **os.environ, **{PREFIX + name: value for name, value in ours.items()}}


def _plant_legacy_file(workspace: Path) -> Path:
    path = workspace / _LEGACY_FILE
    path.write_bytes(_LEGACY_TEXT.encode("gb18030"))
    return path


def _introduce(console: Console, options: Options, settings: Settings, shares: Shares) -> None:
    files = sum(map(len, shares.paths.values()))
    database = options.database_url and make_url(options.database_url).render_as_string(hide_password=True)
    for name, value in (
        ("Files", f"{files} of {options.folder}, in {len(shares.paths)} concurrent runs"),
        ("", f"One of them is planted: {_LEGACY_FILE} is not UTF-8, so that a step fails at first"),
        ("Broker", public_url(settings.broker_url) if options.broker_url else "a folder (embedded)"),
        ("Database", database or "a SQLite file"),
    ):
        console.print(Text(f"{name:12} {value}"), soft_wrap=True, highlight=False)


async def _report(console: Console, demonstration: Demonstration, summary: Summary, task_id: str) -> None:
    console.print(f"\nThe run {task_id} as it was read back from the database:", highlight=False)
    if entries := await demonstration.stored.of(task_id):
        console.print(timeline(entries))
    console.print(summary.table())
