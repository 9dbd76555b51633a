"""`execution-logger audit`: which entries are missing, came late, or came more than once."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import TypeVar

import click
from rich.console import Console
from rich.text import Text

from execution_logger.cli.db import in_database
from execution_logger.cli.options import Number, check_span, json_option, to_moment
from execution_logger.cli.terminal import Cell, day_and_time, echo_json, open_console, print_rows
from execution_logger.errors import ExecutionLoggerError
from execution_logger.read.audit import MOST_FINDINGS, Account, Audit, Delay, Gap, Range, Repeat, audit

_AUDIT_SECONDS = 60.0  # a million batches take four
_MOST_LINES = 20
_SUMS = ("entries", "dead_lettered", "missing", "pending", "late", "repeated")
_ALARMING = ("dead_lettered", "missing")
_WORTH_A_LINE = ("missing", "pending", "dead_lettered", "late", "repeated")
_R = TypeVar("_R", bound=Range)


class UnknownProcessError(ExecutionLoggerError):
    """No batch of this process is in the ledger."""

    exit_code = 1


_HONEST = "What a process made after its last stored entry cannot be seen from the database."


@click.command(context_settings={"show_default": True})
@click.option(
    "--since", callback=to_moment, metavar="AGE|TIME", help="Only batches stored since then (2h, ISO)."
)
@click.option("--until", callback=to_moment, metavar="AGE|TIME", help="Only batches stored before then.")
@click.option("--process", metavar="NAME", help="Only batches of this process.")
@click.option(
    "--late-after",
    type=Number(min=0),
    default=60.0,
    metavar="SECONDS",
    help="From a call to its row; a gap that is younger is not called missing yet.",
)
@json_option
def command(
    since: datetime | None,
    until: datetime | None,
    process: str | None,
    late_after: float,
    as_json: bool,
) -> None:
    """Find entries that are missing, came late, or came more than once.

    The entries of each process have numbers, 1, 2, 3 and so on, and the database keeps a ledger of
    the batches that were stored. Numbers of which there is nothing, although later ones are stored,
    are missing. They need not be lost: an entry that waits in the journal of a host or in the queue
    is not stored yet either. And the last entries of a process can never be seen as missing from
    the database alone, because nothing comes after them.

    The exit code is 0 when nothing is missing, 1 when something is or the process is unknown, 2 for wrong
    usage or settings, and 3 when the ledger cannot be read.
    """
    check_span(since, until)
    look = partial(audit, since=since, until=until, process=process, late_after_seconds=late_after)
    found = in_database("audit", look, _AUDIT_SECONDS)
    if process is not None and not found.accounts:
        raise UnknownProcessError(
            f"the ledger has no batch of a process {process!r}{_span(since, until)}, so nothing can be said "
            "of it. Its name is in stats() and in the names of its journal's files"
        )
    if as_json:
        echo_json(asdict(found) | {"is_complete": found.is_complete})
    else:
        _print(open_console(), found, _span(since, until))
    sys.exit(0 if found.is_complete else 1)


def _span(since: datetime | None, until: datetime | None) -> str:
    """The time that was asked for, in words."""
    parts = [f" {word} {day_and_time(at)} UTC" for word, at in (("since", since), ("before", until)) if at]
    return "".join(parts)


def _print(console: Console, found: Audit, span: str) -> None:
    if not found.accounts:
        console.print(f"The ledger has no batches{span}.")
        return
    _print_accounts(console, found.accounts)
    for title, gaps in (("missing", found.missing), ("not stored yet", found.pending)):
        _print_ranges(console, title, ("made after (UTC)", "made before (UTC)"), gaps, _gap_cells)
    _print_ranges(console, "stored late", ("longest delay", "stored at (UTC)"), found.late, _delay_cells)
    _print_ranges(console, "delivered again", ("deliveries",), found.repeated, _repeat_cells)
    if found.is_cut:
        console.print(f"Looked at {MOST_FINDINGS:,} batches one by one; there are more.")
    console.print()
    if missing := sum(account.missing for account in found.accounts):
        console.print(Text(f"Missing: {missing:,}", "bold red"))
    else:
        console.print(Text("Nothing is missing.", "green"))
    console.print(_HONEST, style="dim")


def _print_accounts(console: Console, accounts: Sequence[Account]) -> None:
    """The sums of those that there is something to say of, those with gaps first; then of all."""
    shown = [account for account in accounts if any(getattr(account, name) for name in _WORTH_A_LINE)]
    shown = shown if len(accounts) > 1 else list(accounts)
    shown.sort(key=lambda account: (-account.missing, -account.pending, account.process))
    rows = [_account_cells(account.process, [account]) for account in shown[:_MOST_LINES]]
    if len(accounts) > 1:
        rows.append(_account_cells(f"all {len(accounts):,}", accounts))
    columns = ("process", "batches", *(name.replace("_", " ") for name in _SUMS), "last stored at (UTC)")
    print_rows(console, columns, rows, title="processes", right=columns[1:])
    if len(shown) > _MOST_LINES:
        console.print(f"... and {len(shown) - _MOST_LINES:,} more with something to tell; --json lists them.")


def _account_cells(name: str, accounts: Sequence[Account]) -> list[Cell]:
    """The sums of these; a dash is a zero, so that numbers stand out."""
    sums = {name: sum(getattr(account, name) for account in accounts) for name in ("batches", *_SUMS)}
    last_at = max(account.stored_at for account in accounts)
    return [name, *(_number(total, name) for name, total in sums.items()), day_and_time(last_at)]


def _print_ranges(
    console: Console,
    title: str,
    columns: Sequence[str],
    ranges: Sequence[_R],
    cells: Callable[[_R], tuple[str, ...]],
) -> None:
    if not ranges:
        return
    rows = [[one.process, _numbers(one), f"{one.last - one.first + 1:,}", *cells(one)] for one in ranges]
    columns = ("process", "numbers", "entries", *columns)
    print_rows(console, columns, rows[:_MOST_LINES], title=title, right=columns[1:])
    if len(ranges) > _MOST_LINES:
        console.print(f"... and {len(ranges) - _MOST_LINES:,} more; --json lists them.")


def _numbers(one: Range) -> str:
    return f"{one.first:,}" if one.first == one.last else f"{one.first:,} - {one.last:,}"


def _gap_cells(gap: Gap) -> tuple[str, ...]:
    return day_and_time(gap.made_after), day_and_time(gap.made_before)


def _delay_cells(delay: Delay) -> tuple[str, ...]:
    return f"{delay.seconds:,.1f} s", day_and_time(delay.stored_at)


def _repeat_cells(repeat: Repeat) -> tuple[str, ...]:
    return (f"{repeat.deliveries:,}",)


def _number(value: int, name: str) -> Text:
    return Text(f"{value:,}" if value else "-", "red" if value and name in _ALARMING else "")
