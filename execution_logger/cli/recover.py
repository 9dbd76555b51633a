"""`execution-logger recover`: ship what dead processes have left on this machine's disk."""

import sys
import time
from dataclasses import asdict, dataclass, replace

import click

from execution_logger.cli.options import Number, json_option
from execution_logger.cli.terminal import (
    Console,
    Text,
    day_and_time,
    echo_json,
    open_console,
    print_rows,
    say,
)
from execution_logger.delivery.select import select_delivery
from execution_logger.errors import ExecutionLoggerError
from execution_logger.journal import Destination, find_destination
from execution_logger.journal.directory import state_directory
from execution_logger.journal.survey import DestinationSummary, refused, survey, survey_destination
from execution_logger.settings import Settings
from execution_logger.shipping.pipeline import Pipeline

_LOOK_SECONDS = 0.2
_STOP_SECONDS = 5.0


@click.command(context_settings={"show_default": True})
@click.option("--dry-run", is_flag=True, help="Only show what there is.")
@click.option(
    "--timeout",
    type=Number(min=0),
    default=60.0,
    metavar="SECONDS",
    help="Stop after that; the rest stays on disk.",
)
@json_option
def command(dry_run: bool, timeout: float, as_json: bool) -> None:
    """Send entries that dead processes have left in their journals.

    A process of the same destination does so by itself every few seconds; this is for a machine
    on which none runs any more. It reads the same settings as the application, and needs only what
    that needs: with Celery, the broker and a worker; with CELERY_ENABLED=false, the database. If the
    settings name both, what was left for the one goes to the other. Journals of living processes are
    left alone.

    The exit code is 0 when nothing is left, 1 when something is, 2 for wrong usage or settings, and 3 when
    the journals cannot be read.
    """
    settings = Settings.from_environment()
    try:
        left = _run(settings, timeout_seconds=0.0 if dry_run else timeout, as_json=as_json)
    except OSError as error:
        raise ExecutionLoggerError(f"The journals cannot be read: {error}") from error
    sys.exit(left > 0)


@dataclass(frozen=True, slots=True)
class _Recovered:
    """What there was, what is left, and what became of the rest; with the names that the JSON has."""

    found: DestinationSummary
    left: DestinationSummary
    other_destinations: list[DestinationSummary]
    sent: int
    unreadable: int
    error: str | None


def _run(settings: Settings, *, timeout_seconds: float, as_json: bool) -> int:
    destination = find_destination(settings)
    found = _survey(destination)
    others = [each for each in survey(state_directory(settings)) if each.folder not in destination.folders]
    error, unreadable = None, 0
    if _left(found) and timeout_seconds:
        error, unreadable = _send(settings, _dead(found), timeout_seconds)
        after = _survey(destination)
    else:
        after = found
    sent = max(0, _left(found) - _left(after) - unreadable)
    recovered = _Recovered(found, after, others, sent, unreadable, error)
    if as_json:
        echo_json(asdict(recovered), default=str)
    else:
        _print(recovered)
    return _left(after)


def _survey(destination: Destination) -> DestinationSummary:
    """The destination, with the journals of all its folders."""
    found = [survey_destination(folder) for folder in destination.folders]
    journals = tuple(journal for each in found for journal in each.journals)
    damaged_lines = sum(each.damaged_lines for each in found)
    description = found[0].description or (destination.description if journals else "")
    return replace(found[0], description=description, journals=journals, damaged_lines=damaged_lines)


def _dead(destination: DestinationSummary) -> set[str]:
    """The processes that have left something."""
    return {journal.process for journal in destination.journals if journal.entries and not journal.is_alive}


def _left(destination: DestinationSummary) -> int:
    """Entries of dead processes."""
    return sum(journal.entries for journal in destination.journals if not journal.is_alive)


def _send(settings: Settings, processes: set[str], timeout_seconds: float) -> tuple[str | None, int]:
    """Adopt and send until nothing of these is left or the time is over.

    Returns:
        Why something is left, if it is, and how many lines were no entries any more.
    """
    settings = replace(settings, adopt_interval_seconds=_LOOK_SECONDS)
    destination = find_destination(settings)
    pipeline = Pipeline(settings, select_delivery(settings), destination)
    pipeline.begin()
    until = time.monotonic() + timeout_seconds
    while time.monotonic() < until and _are_there(destination, processes):
        time.sleep(_LOOK_SECONDS)
    report = pipeline.flush(_STOP_SECONDS, then_stop=True).wait()
    return report.last_error, pipeline.accounts.adopted_lost


def _are_there(destination: Destination, processes: set[str]) -> bool:
    """Whether one of these still has entries; while we send them it is as if they lived."""
    journals = _survey(destination).journals
    return any(journal.entries for journal in journals if journal.process in processes)


def _print(recovered: _Recovered) -> None:
    found, after, unreadable = recovered.found, recovered.left, recovered.unreadable
    console = open_console()
    what = found.description or "nothing was ever kept here"
    say(console, f"{found.folder}: {what}")
    if found.journals:
        _print_journals(console, found)
    left = _left(after)
    console.print(f"{recovered.sent:,} entries of dead processes were sent, {left:,} are left.")
    if unreadable:
        say(console, f"{unreadable:,} lines were no entries any more, and were not sent.", "yellow")
    for problem in refused(found.folder.parent):
        say(console, f"{problem.filename}: {problem.strerror}", "yellow")
    if recovered.error and left:
        say(console, recovered.error, "red")
    if after.damaged_lines:
        say(console, f"{after.damaged_lines:,} damaged lines are in damaged.ndjson there.", "yellow")
    for other in recovered.other_destinations:
        if entries := sum(journal.entries for journal in other.journals):
            say(console, f"Not for this destination: {entries:,} entries for {other.description}", "dim")


def _print_journals(console: Console, destination: DestinationSummary) -> None:
    rows = [
        [
            journal.process,
            "lives" if journal.is_alive else Text("dead", "yellow"),
            f"{journal.entries:,}",
            f"{journal.size_bytes:,}",
            f"{day_and_time(journal.oldest_at)} UTC" if journal.oldest_at else "-",
        ]
        for journal in destination.journals
    ]
    columns = ("process", "state", "entries", "bytes", "oldest")
    print_rows(console, columns, rows, right=("entries", "bytes"))
