"""`execution-logger runs`: the newest runs, and how they went."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from execution_logger.cli.db import in_database, to_only
from execution_logger.cli.options import Integer, filters, json_option
from execution_logger.cli.terminal import (
    PAGE_WIDTH,
    Cell,
    day_and_time,
    echo_json,
    open_console,
    print_rows,
    span,
)
from execution_logger.entry.entry import RunState
from execution_logger.read.runs import RecentRuns, recent_runs
from execution_logger.read.summary import Run
from execution_logger.read.timeline import ALL, Only

_WITHIN_SECONDS = 10.0
_LONG_SECONDS = 120
_WIDE = 120
_STYLES = {RunState.FAILED: "bold red", RunState.NO_END: "yellow", RunState.CANCELLED: "yellow"}
_NUMBERS = ("took", "entries", "errors", "warn")


@click.command(context_settings={"show_default": True})
@click.option("--limit", type=Integer(1, 1000), default=20, help="How many runs.")
@click.option("--errors", "with_errors", is_flag=True, help="Only runs with errors, the latest error first.")
@filters
@json_option
def command(limit: int, with_errors: bool, as_json: bool, **wanted: Any) -> None:
    """List the newest runs.

    A run is all entries of one task_id. They are found from the newest entry backwards, whatever
    the size of the table, and within ten seconds; what was not found by then is said to be missing.

    The filters find the runs with an entry that all of them apply to, that with the latest such entry first.
    With --operation it is one of the operation itself, or right within it.

    The exit code is 0, 2 for wrong usage or settings, and 3 when the database cannot be read.
    """
    only = to_only(**wanted)
    look = partial(
        recent_runs, limit=limit, only=only, with_errors=with_errors, within_seconds=_WITHIN_SECONDS
    )
    found = in_database("runs", look, _WITHIN_SECONDS)
    if as_json:
        echo_json(asdict(replace(found, next=None)))
    else:
        _print(found, only, with_errors=with_errors)


def _print(found: RecentRuns, only: Only, *, with_errors: bool) -> None:
    console = open_console()
    if found.runs:
        _print_runs(console, found.runs)
    elif found.is_complete:
        is_narrowed = replace(only, since=None) != ALL
        what = ("such an error" if with_errors else "such an entry") if is_narrowed else "errors"
        of_what = f" with {what}" if is_narrowed or with_errors else ""
        since = f" since {day_and_time(only.since)} UTC" if only.since else ""
        console.print(f"No run{of_what} is stored{since}.")
    if any(run.is_cut for run in found.runs):
        console.print("+: of a long run the newest entries are counted.", style="dim")
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


def _print_runs(console: Console, runs: Sequence[Run]) -> None:
    """A run a line; a narrow terminal has no room for all of it."""
    now = datetime.now(UTC)
    cells = [_cells(run, now) for run in runs]
    columns = list(cells[0])
    if console.width < PAGE_WIDTH:
        columns.remove("first entry (UTC)")
    if console.width < _WIDE:
        columns.remove("last step / agent")
    rows = [[row[name] for name in columns] for row in cells]
    print_rows(console, columns, rows, right=_NUMBERS, folded={"last step / agent": 20})


def _cells(run: Run, now: datetime) -> dict[str, Cell]:
    more = "+" if run.is_cut else ""
    where = " / ".join(name for name in (run.last_step, run.last_agent) if name)
    return {
        "run": run.task_id,
        "first entry (UTC)": Text(day_and_time(run.first_at)),
        "ago": Text(span((now - run.last_at).total_seconds())),
        "took": Text(_duration(run.duration_seconds)),
        "entries": Text(f"{run.entries:,}{more}"),
        "errors": Text(f"{run.errors:,}{more}", "red" if run.errors else "dim"),
        "warn": Text(f"{run.warnings:,}{more}", "yellow" if run.warnings else "dim"),
        "end": _end(run),
        "last step / agent": where or "-",
    }


def _end(run: Run) -> Text:
    """What the run says of itself, or else its last entry."""
    if run.state is None:
        return Text("error", "bold red") if run.ended_in_error else Text("")
    return Text(run.state, _STYLES.get(run.state, ""))


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < _LONG_SECONDS else span(seconds)
