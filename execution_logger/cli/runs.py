"""`execution-logger runs`: the newest runs, and how they went."""

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from execution_logger.cli.audit import to_moment
from execution_logger.cli.database import open_database
from execution_logger.cli.terminal import ago, day_and_time, open_console, printable, span
from execution_logger.store.runs import MOST_COUNTED, RecentRuns, Run, recent_runs

_WITHIN_SECONDS = 10.0
_LONG_SECONDS = 120
_WIDE = 120
_NAME_CELLS = 20


@click.command(context_settings={"show_default": True})
@click.option("--limit", type=click.IntRange(1, 1000), default=20, help="How many runs.")
@click.option(
    "--since", callback=to_moment, metavar="AGE|TIME", help="Only runs with entries since then (2h, ISO)."
)
@click.option("--errors", "with_errors", is_flag=True, help="Only runs with errors, the latest error first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def command(limit: int, since: datetime | None, with_errors: bool, as_json: bool) -> None:  # noqa: FBT001 - click passes them by name
    """List the newest runs.

    A run is all entries of one task_id. They are found from the newest entry backwards, whatever
    the size of the table, and within ten seconds; what was not found by then is said to be missing.

    The exit code is 0, and 1 when the database cannot be read.
    """
    found = asyncio.run(_read(limit, since, with_errors=with_errors))
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2, default=datetime.isoformat))
    else:
        _print(found, since, with_errors=with_errors)


async def _read(limit: int, since: datetime | None, *, with_errors: bool) -> RecentRuns:
    async with open_database("runs", _WITHIN_SECONDS) as (engine, settings):
        return await recent_runs(
            engine,
            settings,
            limit=limit,
            since=since,
            with_errors=with_errors,
            within_seconds=_WITHIN_SECONDS,
        )


def _print(found: RecentRuns, since: datetime | None, *, with_errors: bool) -> None:
    console = open_console()
    if found.runs:
        console.print(_table(found, is_wide=console.width >= _WIDE))
    elif found.is_complete:
        what = "No run with errors" if with_errors else "No run"
        console.print(f"{what} is stored{f' since {day_and_time(since)} UTC' if since else ''}.")
    if any(run.is_cut for run in found.runs):
        console.print(f"+: of a run with more entries the newest {MOST_COUNTED:,} are counted.", style="dim")
    if not found.is_complete:
        console.print(Text(_incomplete(found), "yellow"))


def _incomplete(found: RecentRuns) -> str:
    looked = (
        f", which reached back to {day_and_time(found.looked_back_to)} UTC" if found.looked_back_to else ""
    )
    advice = "--since or a smaller --limit needs less time."
    if found.missing_indexes:
        indexes = " and ".join(f"({columns})" for columns in found.missing_indexes)
        advice = f"The table has no index on {indexes}: make it, and it takes milliseconds."
    return f"There may be more: the search was ended after {_WITHIN_SECONDS:g} s{looked}. {advice}"


def _table(found: RecentRuns, *, is_wide: bool) -> Table:
    """A run a line; a narrow terminal has no room for all of it."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("run", overflow="fold", min_width=_NAME_CELLS)
    if is_wide:
        table.add_column("first entry (UTC)", no_wrap=True)
    table.add_column("last entry", no_wrap=True)
    for name in ("duration", "entries", "errors", "warnings"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("end", no_wrap=True)
    if is_wide:
        table.add_column("last step / agent", overflow="fold")
    now = datetime.now(UTC)
    for run in found.runs:
        table.add_row(*_cells(run, now, is_wide=is_wide))
    return table


def _cells(run: Run, now: datetime, *, is_wide: bool) -> list[Text]:
    more = "+" if run.is_cut else ""
    where = " / ".join(printable(name) for name in (run.last_step, run.last_agent) if name)
    return [
        Text(printable(run.task_id)),
        *([Text(day_and_time(run.first_at))] if is_wide else []),
        Text(ago((now - run.last_at).total_seconds())),
        Text(_duration(run.duration_seconds)),
        Text(f"{run.entries:,}{more}"),
        Text(f"{run.errors:,}{more}", "red" if run.errors else "dim"),
        Text(f"{run.warnings:,}{more}", "yellow" if run.warnings else "dim"),
        Text("error", "bold red") if run.ended_in_error else Text(""),
        *([Text(where or "-")] if is_wide else []),
    ]


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < _LONG_SECONDS else span(seconds)
