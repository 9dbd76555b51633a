"""`execution-logger demo`: the whole way of real entries, on this machine."""

import asyncio
import importlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import click
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncSession

import execution_logger
from execution_logger.api.logger import ExecutionLogger
from execution_logger.broker.queue import delete_queue, queue_length
from execution_logger.cli.db import upgrade_database
from execution_logger.cli.demo_host import DocumentPipeline, find_documents
from execution_logger.cli.lines import EntryLines
from execution_logger.cli.options import Integer
from execution_logger.entry.entry import LogCategory, LogEntry
from execution_logger.errors import ExecutionLoggerError
from execution_logger.read.timeline import Only, Timeline
from execution_logger.settings import PREFIX, Settings
from execution_logger.store import ExecutionLogRepository, create_engine
from execution_logger.store.faults import attempt
from execution_logger.text import printable, printable_lines, public_url

LEGACY_FILE = "legacy-notes.txt"

_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 30.0


@click.command(context_settings={"show_default": True})
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--runs", type=Integer(1, 200), default=8, help="Concurrent runs.")
@click.option("--broker", metavar="URL", help="A real broker, e.g. redis://localhost:6379/0.")
@click.option("--database", metavar="URL", help="A real database, e.g. postgresql://user@host/database.")
@click.option("--ui", "has_page", is_flag=True, help="Serve the page of the runs meanwhile, until Ctrl-C.")
@click.option("--open", "is_opened", is_flag=True, help="The same, and open it in the browser.")
@click.option("--keep", is_flag=True, help="Keep the temporary folder, and the rows in a real database.")
def command(
    folder: Path | None,
    runs: int,
    broker: str | None,
    database: str | None,
    has_page: bool,
    is_opened: bool,
    keep: bool,
) -> None:
    """Log a real pipeline over the text files of FOLDER, or of the library itself.

    It reads them and counts their words in concurrent runs, and logs every step. A real worker writes
    the entries to a real database; at the end a run is read back, and all entries are counted. Without
    options it needs no server: the broker is a folder, the database a SQLite file.

    The exit code is 1 when an entry is missing or there twice, and 3 when broker or database are away.
    """
    page = ("ui", "--port", "0", *(["--open"] if is_opened else [])) if has_page or is_opened else None
    if page:
        importlib.import_module("execution_logger.cli.ui")  # or it says now what to install
    folder = (folder or Path(execution_logger.__file__).parent).resolve()
    paths = find_documents(folder)
    output = Path(tempfile.mkdtemp(prefix="execution-logger-demo-"))
    try:
        environment = demo_environment(output, broker, database)
        settings = Settings.from_environment(environment)
        queue_length(settings)  # a wrong broker would else show late, as the error of a background thread
        shares = share_out([plant_legacy_file(output), *paths], runs)
        _print_fact("Files", f"{len(paths) + 1} in {len(shares)} concurrent runs, below {folder}")
        _print_fact("", f"One is planted: {LEGACY_FILE} is not UTF-8: a step fails at first")
        _print_fact("Broker", public_url(broker) if broker else "a folder (embedded)")
        _print_fact("Database", public_url(database) if database else "a SQLite file")
        if keep:
            _print_fact("Kept", str(output))
        demonstration = Demonstration(settings, shares, folder, output / "worker.log", page)
        sys.exit(asyncio.run(demonstration.run(environment, deletes_rows=bool(database) and not keep)))
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    finally:
        if not keep:
            shutil.rmtree(output)


def demo_environment(folder: Path, broker_url: str | None, database_url: str | None) -> dict[str, str]:
    """The environment of its host and its worker: what has no URL is in the folder."""
    ours = {
        "CELERY_ENABLED": "true",
        "FALLBACK": "keep",
        "BROKER_URL": broker_url or f"embedded://{folder / 'broker'}",
        "JOURNAL_DIRECTORY": str(folder / "journal"),
        "DATABASE_URL": database_url or f"sqlite:///{folder / 'logs.db'}",
        # A queue of its own: other workers of this broker write to other databases.
        "QUEUE": f"demo-{uuid4().hex[:8]}",
    }
    prefixed = {PREFIX + name: value for name, value in ours.items()}
    return {f"{PREFIX}LANGUAGE": "en", **os.environ, **prefixed}


def plant_legacy_file(folder: Path) -> Path:
    """Write a text file that is not UTF-8, so that reading it really fails at first."""
    path = folder / LEGACY_FILE
    path.write_text("Its café costs 3 €, naïvely stored in Windows-1252.\n", "windows-1252")
    return path


def share_out(paths: Sequence[Path], runs: int) -> dict[str, Sequence[Path]]:
    """The files of each run, by its `task_id`; as many runs as there are files at most."""
    runs, prefix = min(runs, len(paths)), f"demo-{uuid4().hex[:8]}"
    return {f"{prefix}-{number + 1}": paths[number::runs] for number in range(runs)}


class MeteredLogger(ExecutionLogger):
    """An ExecutionLogger that notes the id of each entry and the time that recording it took."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.ids: list[str] = []
        self.nanoseconds: list[int] = []

    def _record(self, *args: Any, **kwargs: Any) -> LogEntry:
        began_at = time.perf_counter_ns()
        entry = super()._record(*args, **kwargs)
        self.nanoseconds.append(time.perf_counter_ns() - began_at)
        self.ids.append(entry.id)
        return entry


def compare(recorded_ids: Sequence[str], stored_ids: Sequence[str]) -> tuple[int, int]:
    """How many entries are no rows, and how many rows there are beyond one for each entry."""
    stored = set(stored_ids)
    return len(set(recorded_ids) - stored), len(stored_ids) - len(stored)


class Demonstration:
    """A host that runs the pipeline, a worker that prints into `log`, an observer that counts the rows.

    `page` is the command that serves the page of the runs meanwhile, and stays; None: there is none.
    """

    def __init__(
        self,
        settings: Settings,
        shares: Mapping[str, Sequence[Path]],
        folder: Path,
        log: Path,
        page: Sequence[str] | None = None,
    ) -> None:
        self._settings = settings
        self._shares = shares
        self._log = log
        self._page = page
        self._logger = MeteredLogger(settings)
        self._pipeline = DocumentPipeline(self._logger, folder)
        self._engine = create_engine(settings, pool_size=1)
        self._runs_seconds = 0.0

    async def run(self, environment: Mapping[str, str], *, deletes_rows: bool) -> int:
        """From the first call to the last row; return the exit code."""
        if sys.platform != "win32" and (task := asyncio.current_task()):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._engine.dispose)
            _print_fact("Tables", await upgrade_database(self._settings))
            stack.callback(delete_queue, self._settings)
            if deletes_rows:
                stack.push_async_callback(self._delete_rows)
            stack.push_async_callback(self._logger.shutdown, 3.0)
            page = stack.enter_context(our_process(self._page, environment)) if self._page else None
            worker = stack.enter_context(worker_process(environment, self._log))
            await self._log_everything(worker)
            code = await self._report()
            if page:
                await _stay(page)
            return code

    async def _log_everything(self, worker: "subprocess.Popen[bytes]") -> None:
        # A host has the imports behind it when its lifespan has begun; else the first calls look slow.
        self._logger.stats()
        await self._logger.info(next(iter(self._shares)), LogCategory.WORKFLOW, "The demonstration begins")
        await self._logger.flush()
        running = asyncio.create_task(self._run_pipeline())
        try:
            await self._watch(running, worker)
        finally:
            running.cancel()
            await asyncio.wait([running])
        running.result()

    async def _run_pipeline(self) -> None:
        began_at = time.perf_counter()
        await asyncio.gather(*(self._pipeline.run(*share) for share in self._shares.items()))
        self._runs_seconds = time.perf_counter() - began_at

    async def _watch(self, running: "asyncio.Task[None]", worker: "subprocess.Popen[bytes]") -> None:
        """Show the progress until the worker has settled all, or no more for half a minute."""
        began_at = changed_at = time.monotonic()
        settled, counts, is_over = 0, "", False
        while not is_over:
            if (code := worker.poll()) is not None:
                raise ExecutionLoggerError(f"the worker ended ({code}):\n{last_lines(self._log)}")
            before, settled = settled, await self._count_settled()
            now = time.monotonic()
            changed_at = changed_at if settled == before and running.done() else now
            is_settled = settled >= len(self._logger.ids) or now - changed_at >= _PATIENCE_SECONDS
            is_over = running.done() and is_settled
            shown, counts = counts, self._counts(settled)
            if counts != shown:
                click.echo(f"{now - began_at:5.1f} s  {counts}")
            await asyncio.sleep(0 if is_over else _POLL_SECONDS)

    def _counts(self, settled: int) -> str:
        runs, delivered = self._pipeline.runs_completed, self._logger.stats()["delivered"]
        return f"runs {runs}, calls {len(self._logger.ids)}, delivered {delivered}, stored {settled}"

    async def _count_settled(self) -> int:
        """Entries that the worker has confirmed; rows, where the broker cannot bring confirmations."""
        stats = self._logger.stats()
        if stats["guarantee"] == "stored":
            return int(stats["stored"] + stats["dead_lettered"])
        return len(await self._stored_ids())

    async def _report(self) -> int:
        await self._print_run(next(iter(self._shares)))
        ids, nanoseconds, stored_ids = self._logger.ids, self._logger.nanoseconds, await self._stored_ids()
        lost, duplicates = compare(ids, stored_ids)
        costs = (statistics.median(nanoseconds), statistics.fmean(nanoseconds), max(nanoseconds))
        median, mean, slowest = (f"{nanosecond / 1000:,.1f} µs" for nanosecond in costs)
        share, batches = sum(nanoseconds) / 1e9 / self._runs_seconds, self._logger.stats()["batches"]
        click.echo(f"""
log calls        {len(ids):,}, in {share:.1%} of the {self._runs_seconds:.2f} s of the runs
cost of a call   median {median}, mean {mean}, slowest {slowest}
batches          {batches}, with {len(ids) / batches:.0f} entries on average
rows stored      {len(stored_ids):,}
lost             {lost:,}
duplicates       {duplicates:,}""")
        if lost or duplicates:
            click.echo(printable_lines(f"The worker's last lines:\n{last_lines(self._log)}"))
        return int(bool(lost or duplicates))

    async def _print_run(self, task_id: str) -> None:
        console, lines = Console(), EntryLines()
        console = console if console.is_terminal else Console(width=80)
        console.print(f"\nThe run {task_id}, read back from the database:", highlight=False)
        timeline = Timeline(self._engine, self._settings, task_id)
        for entry in await timeline.last(40, Only.at_least("info")):
            for line in lines.of(entry):
                console.print(line, no_wrap=True, overflow="ellipsis")

    async def _stored_ids(self) -> list[str]:
        timelines = [Timeline(self._engine, self._settings, task_id) for task_id in self._shares]
        return [entry.id for each in timelines async for page in each.pages() for entry in page]

    async def _delete_rows(self) -> None:
        settings, engine = self._settings, self._engine
        async with attempt(engine, settings.database_timeout_seconds), AsyncSession(engine) as session:
            for task_id in self._shares:
                await ExecutionLogRepository(session, settings).delete_logs_by_trace(task_id)
            await session.commit()


@contextmanager
def worker_process(environment: Mapping[str, str], output: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """`execution-logger worker` as a process of its own, while the block runs."""
    with output.open("wb") as file, our_process(["worker"], environment, file) as process:
        yield process


@contextmanager
def our_process(
    words: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | None = None
) -> "Iterator[subprocess.Popen[bytes]]":
    """A command of ours as a process of its own, while the block runs; it prints into `output` or ours."""
    command = [sys.executable, "-P", "-m", "execution_logger.cli", *words, "--stop-at-eof"]
    # In a group of its own: a Ctrl-C is for us, and we end it in order.
    process = subprocess.Popen(  # noqa: S603 - our own command
        command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment, process_group=0
    )
    with process:  # which closes its input, and waits for its end
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(15.0)
            process.kill()


async def _stay(page: "subprocess.Popen[bytes]") -> None:
    """Wait for a Ctrl-C, which is how this ends and no failure, or for the end of the page."""
    click.echo("\nThe page stays: Ctrl-C ends it.")
    with suppress(asyncio.CancelledError):
        while page.poll() is None:  # noqa: ASYNC110 - a thread that waits for it could not be cancelled
            await asyncio.sleep(_POLL_SECONDS)


def last_lines(path: Path) -> str:
    """The end of what a process has printed."""
    return "\n".join(path.read_text(errors="replace").rstrip().splitlines()[-15:])


def _print_fact(name: str, value: str) -> None:
    click.echo(f"{name:10}{printable(value)}")
