"""`execution-logger db` and `purge`: the tables, and what is deleted there; the database of all commands."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from execution_logger.cli.options import check_span, to_moment
from execution_logger.cli.terminal import day_and_time
from execution_logger.errors import ExecutionLoggerError
from execution_logger.read.runs import recent_runs
from execution_logger.read.timeline import Only, Timeline
from execution_logger.settings import DATABASE, Settings
from execution_logger.store import create_engine, upgrade
from execution_logger.store.deletion import Deletion, Expiry
from execution_logger.store.schema import storable
from execution_logger.text import printable

_PROGRESS_SECONDS = 1.0
_MOST_SECONDS = 600.0  # to count them takes a while

_T = TypeVar("_T")


@asynccontextmanager
async def open_database(
    who: str, timeout_seconds: float | None = None, *, connections: int = 1
) -> AsyncIterator[tuple[AsyncEngine, Settings]]:
    """An engine and the settings; the engine is disposed of in the end.

    Args:
        who: the command, for the error where no database is set.
        timeout_seconds: bounds each attempt; what the settings say by default.
        connections: of the engine.

    Raises:
        SettingsError: a setting cannot be used, or there is no database.
    """
    settings = Settings.from_environment(uses=DATABASE)
    settings.require_database(who)
    if timeout_seconds is not None:
        settings = replace(
            settings,
            database_timeout_seconds=timeout_seconds,
            visibility_timeout_seconds=max(settings.visibility_timeout_seconds, int(2 * timeout_seconds) + 1),
        )
    engine = create_engine(settings, pool_size=connections)
    try:
        yield engine, settings
    finally:
        await engine.dispose()


def in_database(
    who: str,
    use: Callable[[AsyncEngine, Settings], Awaitable[_T]],
    timeout_seconds: float | None = None,
    *,
    connections: int = 1,
) -> _T:
    """What `use` returns of the engine and settings of `open_database`."""

    async def run() -> _T:
        async with open_database(who, timeout_seconds, connections=connections) as (engine, settings):
            return await use(engine, settings)

    return asyncio.run(run())


class NothingStoredError(ExecutionLoggerError):
    """There is no such entry."""

    exit_code = 1

    @classmethod
    def of(cls, task_id: str | None) -> Self:
        """There is none at all, of a run or of all."""
        what = "no entry" if task_id is None else f"no entry of the run {task_id!r}"
        return cls(f"{what} is stored. It may be on its way: execution-logger status")


def to_only(level: str | None, contains: str, **others: Any) -> Only:
    """The wanted entries, as the options of `filters` name them.

    Raises:
        click.UsageError: the time ends before it begins.
    """
    check_span(others["since"], others["until"])
    return Only.at_least(level, contains=storable(contains), **others)


async def located(
    engine: AsyncEngine, settings: Settings, task_id: str | None, only: Only
) -> tuple[Timeline, Only]:
    """The timeline where the wanted entries are, and these, with the operations beneath the wanted ones.

    Without a run, operations are looked for as `runs` does it.

    Raises:
        NothingStoredError: no run has these operations, as far as could be seen in ten seconds.
        click.UsageError: several runs have.
        StoreUnavailableError: the database cannot be used now.
    """
    if task_id is None and only.operations:
        task_id = await _run_of(engine, settings, Only(operations=only.operations))
    timeline = Timeline(engine, settings, task_id)
    if only.operations:
        only = replace(only, operations=await timeline.beneath(only.operations))
    return timeline, only


async def _run_of(engine: AsyncEngine, settings: Settings, only: Only) -> str:
    found = await recent_runs(engine, settings, limit=2, only=only)
    names = [run.task_id for run in found.runs]
    if len(names) > 1:
        raise click.UsageError(f"several runs have that, {names[0]!r} and {names[1]!r}: name one")
    if not names:
        seen = (
            "" if found.is_complete else " among the newest ones, and the search took too long; name its run"
        )
        raise NothingStoredError(f"no entry of that operation is stored{seen}")
    return names[0]


@click.group()
def command() -> None:
    """Look after the tables."""


@command.command("upgrade")
def upgrade_command() -> None:
    """Create missing tables, and bring the library's own up to date.

    A table of that name which the application made itself is used as it is.
    """
    click.echo(printable(in_database("db upgrade", upgrade)))
    click.echo("Nothing else in the database was touched.")


async def upgrade_database(settings: Settings) -> str:
    """Run the migration over a connection of its own; return its report.

    Raises:
        StoreUnavailableError: the database cannot be used now.
    """
    engine = create_engine(settings, pool_size=1)
    try:
        return await upgrade(engine, settings)
    finally:
        await engine.dispose()


@click.command()
@click.option("--older-than", "before", callback=to_moment, metavar="AGE|TIME", help="As 90d, 12h or ISO.")
@click.option("--task-id", metavar="ID", help="All entries of this run.")
@click.option("--dry-run", is_flag=True, help="Only count them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(before: datetime | None, task_id: str | None, dry_run: bool, yes: bool) -> None:
    """Delete old entries, or those of one run, without getting in the way of others.

    Rows go in small transactions with pauses, the oldest first. A Ctrl-C leaves the rest as it is; the
    same command goes on. What the ledger, the statistics and the dead letters hold stays: the job
    `retention` looks after them.

    The exit code is 0 when all of these entries are deleted, 1 when some could not be, 2 for wrong usage or
    settings, and 3 when the database is away.
    """
    if (before is None) == (task_id is None):
        raise click.UsageError("give either --older-than or --task-id")

    async def find(engine: AsyncEngine, settings: Settings) -> Deletion:
        expiry = Expiry(engine, settings, before or datetime.now(UTC), timeout_seconds=_MOST_SECONDS)
        return await (expiry.entries() if task_id is None else expiry.of_run(task_id))

    async def count(engine: AsyncEngine, settings: Settings) -> int:
        number = await (await find(engine, settings)).count()
        what = f"of run {task_id}" if before is None else f"older than {day_and_time(before)} UTC"
        click.echo(printable(f"{number:,} entries {what} in {settings.table}"))
        return number

    async def delete(engine: AsyncEngine, settings: Settings) -> None:
        await _delete(await find(engine, settings), number)

    number = in_database("purge", count)
    if number and not dry_run:
        if not yes:
            click.confirm("Delete them for good?", abort=True)
        in_database("purge", delete)


async def _delete(deletion: Deletion, number: int) -> None:
    began = shown_at = time.monotonic()
    try:
        async for _ in deletion.chunks():
            if time.monotonic() - shown_at >= _PROGRESS_SECONDS:
                shown_at = time.monotonic()
                click.echo(_progress(deletion, number, shown_at - began), err=True)
    except asyncio.CancelledError:
        click.echo(f"Stopped: {deletion.deleted:,} entries are deleted.", err=True)
        raise
    click.echo(f"{deletion.deleted:,} entries were deleted in {time.monotonic() - began:.1f} s.")


def _progress(deletion: Deletion, number: int, seconds: float) -> str:
    share = min(1.0, deletion.deleted / number)
    return f"{deletion.deleted:,} of {number:,} deleted ({share:.0%}), {deletion.deleted / seconds:,.0f}/s"
