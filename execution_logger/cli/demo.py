"""`execution-logger demo`: the whole way of real entries, on this machine."""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import click
from rich.console import Console
from rich.text import Text

import execution_logger
from execution_logger.broker.depth import delete_queue, queue_length
from execution_logger.cli.db import upgrade_database
from execution_logger.demo.demonstration import Demonstration, Shares
from execution_logger.demo.documents import find_documents
from execution_logger.demo.progress import Progress
from execution_logger.demo.summary import Summary
from execution_logger.demo.timeline import timeline
from execution_logger.demo.worker import WorkerProcess
from execution_logger.demo.workspace import LEGACY_FILE, Workspace, open_workspace
from execution_logger.settings import Settings
from execution_logger.text import printable, printable_lines, public_url

_PROJECT = "celery-execution-logger"
_PAGE_WIDTH = 100
_TERMINATED = 143


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
def command(
    folder: Path | None,
    runs: int,
    broker: str | None,
    database: str | None,
    keep: bool,  # noqa: FBT001 - click passes it by name
) -> None:
    """Log a real pipeline over the text files of FOLDER.

    It reads, parses, checks and indexes them in concurrent runs, and logs every step. A real
    worker writes the entries to a real database; at the end a run is read back, and all entries
    are counted. Without options it needs no server: the broker is a folder, the database a SQLite
    file. FOLDER is this project itself when it is left out.

    The exit code is 1 when an entry is missing or there twice.
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
    with open_workspace(keep=options.keep) as workspace:
        if options.keep:
            _print_fact(console, "Kept", str(workspace.folder))
        return await _run_in(workspace, paths, options, console)


async def _run_in(workspace: Workspace, paths: list[Path], options: Options, console: Console) -> int:
    environment = workspace.environment(options.broker_url, options.database_url)
    settings = Settings.from_environment(environment)
    queue_length(settings)  # a wrong broker would else show late, as the error of a background thread
    prefix = f"demo-{uuid4().hex[:8]}"
    shares = Shares.make(options.folder, [workspace.plant_legacy_file(), *paths], options.runs, prefix)
    _introduce(console, options, shares)
    _print_fact(console, "Tables", await upgrade_database(settings))
    async with AsyncExitStack() as clean_up:
        if options.broker_url:
            clean_up.callback(delete_queue, settings)
        demonstration = Demonstration(settings, shares, workspace.folder, prefix)
        delete_rows = options.database_url is not None and not options.keep
        clean_up.push_async_callback(demonstration.close, delete_rows=delete_rows)
        worker = clean_up.enter_context(WorkerProcess(environment, workspace.folder / "worker.log"))
        console.print()
        with Progress(console) as progress:
            summary = await demonstration.run(worker, progress)
        await _report(console, demonstration, summary, next(iter(shares.paths)))
        if not summary.is_complete:
            console.print(Text(printable_lines(f"The worker's last lines:\n{worker.output}")))
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


def _introduce(console: Console, options: Options, shares: Shares) -> None:
    files = sum(map(len, shares.paths.values()))
    broker = public_url(options.broker_url) if options.broker_url else "a folder (embedded)"
    database = "a SQLite file"
    if options.database_url:
        database = public_url(options.database_url)
    _print_fact(console, "Files", f"{files} of {options.folder}, in {len(shares.paths)} concurrent runs")
    _print_fact(console, "", f"One is planted: {LEGACY_FILE} is not UTF-8, so that a step fails at first")
    _print_fact(console, "Broker", broker)
    _print_fact(console, "Database", database)


def _print_fact(console: Console, name: str, value: str) -> None:
    console.print(Text.assemble((f"{name:10}", "bold"), printable(value)), soft_wrap=True)


async def _report(console: Console, demonstration: Demonstration, summary: Summary, task_id: str) -> None:
    console.print(Text(f"\nThe run {task_id}, read back from the database:"))
    if entries := await demonstration.stored.of(task_id):
        console.print(timeline(entries))
    console.print(summary.table())
