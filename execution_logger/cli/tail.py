"""`execution-logger tail`: the entries of a run, or of all, as they come."""

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import aclosing
from itertools import count
from typing import Any

import click
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from execution_logger.cli.db import open_database
from execution_logger.cli.options import check_span, to_moment
from execution_logger.cli.terminal import open_console, output_errors, say
from execution_logger.entry.entry import LogEntry, LogLevel
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.follow import Follower
from execution_logger.read.formats import Ndjson
from execution_logger.read.timeline import Only, Timeline
from execution_logger.store.schema import storable
from execution_logger.text import printable

_POLL_SECONDS = 1.0
_POLLS_FOR_LATE = 5
_LINES = 100
_STYLES: Mapping[str, str] = {
    LogLevel.DEBUG: "dim",
    LogLevel.WARNING: "yellow",
    LogLevel.ERROR: "bold red",
    LogLevel.CRITICAL: "bold white on red",
}
_LEVEL_CELLS = 8
_RUN_CELLS = 20
_WHO_CELLS = 24
_MAX_DETAILS_CELLS = 80
_INDENT = " " * 13
_sleep = asyncio.sleep


_FILTERS = (
    click.option("--since", callback=to_moment, metavar="AGE|TIME", help="Only from then on (2h, ISO)."),
    click.option("--until", callback=to_moment, metavar="AGE|TIME", help="Only before then."),
    click.option(
        "--level",
        type=click.Choice([level.value for level in LogLevel], case_sensitive=False),
        help="Only this level and graver ones.",
    ),
    click.option("--category", "categories", multiple=True, help="Only this category; may be given again."),
    click.option("--agent", "agents", multiple=True, help="Only this agent; may be given again."),
    click.option("--step", "steps", multiple=True, help="Only this step; may be given again."),
    click.option("--contains", default="", help="Only with this text in the message, in the same case."),
)


def filters(command: click.decorators.FC) -> click.decorators.FC:
    """Give a command the options that say which entries are wanted; `to_only` takes their values."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def to_only(level: str | None, contains: str, **others: Any) -> Only:
    """The wanted entries, as the options of `filters` name them.

    Raises:
        click.UsageError: the time ends before it begins.
    """
    check_span(others["since"], others["until"])
    return Only.at_least(level, contains=storable(contains), **others)


def nothing_stored(task_id: str | None) -> str:
    """What is said where there is no entry at all."""
    what = "no entry" if task_id is None else f"no entry of the run {task_id!r}"
    return f"{what} is stored. It may be on its way: execution-logger status"


@click.command(context_settings={"show_default": True})
@click.argument("task_id", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--lines", "-n", type=click.IntRange(min=0), default=_LINES, help="The newest so many.")
@click.option("--all", "is_all", is_flag=True, help="All of them, instead of --lines.")
@filters
@click.option("--details", "whole_details", is_flag=True, help="Show the details whole, indented.")
@click.option("--json", "as_json", is_flag=True, help="Print each entry as JSON on a line of its own.")
def command(
    task_id: str | None,
    follow: bool,
    lines: int,
    is_all: bool,
    whole_details: bool,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Print entries, oldest first; times are in UTC.

    They are those of the run TASK_ID, or of all runs without one.

    With --follow it goes on with new ones. Those of several processes do not arrive in the order of
    their times: one that comes later than its neighbours is printed when it is there, and marked. An
    outage of the database is said once, and waited for.

    The exit code is 0; 1 when no entry of the run is stored (with --follow, it is waited for); 2 for wrong
    usage or settings; 3 when the database cannot be read; 130 after Ctrl-C.
    """
    shown = EntryLines(whole_details=whole_details, with_run=task_id is None)
    output = _JsonOutput() if as_json else _TextOutput(shown)
    tail = _Tail(task_id, output, to_only(**wanted), count=None if is_all else lines)
    with output_errors():
        code = asyncio.run(tail.run(follow=follow))
    sys.exit(code)


class _TextOutput:
    """Lines for people."""

    def __init__(self, lines: "EntryLines") -> None:
        self._console = open_console()
        self._lines = lines

    def show(self, entries: Iterable[LogEntry], *, are_late: bool = False) -> None:
        """Print them."""
        for entry in entries:
            for line in self._lines.of(entry, is_late=are_late):
                self._console.print(line, soft_wrap=True)

    def leave_out(self) -> None:
        """Say that there are earlier ones."""
        self._console.print("… earlier entries are left out; --all shows them", style="dim")


class _JsonOutput:
    """Lines for programs."""

    def leave_out(self) -> None:
        """Programs know what they have asked for."""

    def show(self, entries: Iterable[LogEntry], *, are_late: bool = False) -> None:  # noqa: ARG002
        """Print them."""
        if text := Ndjson().body(entries):
            click.echo(text, nl=False)


class _Tail:
    """Shows one run; remarks go to the standard error.

    Args:
        task_id: the run's; None for all.
        output: shows entries.
        only: which ones.
        count: how many of the newest in the beginning; None for all.
    """

    def __init__(
        self, task_id: str | None, output: _TextOutput | _JsonOutput, only: Only, count: int | None
    ) -> None:
        self._task_id = task_id
        self._output = output
        self._only = only
        self._count = count
        self._remarks = open_console(stderr=True)
        self._is_away = False

    async def run(self, *, follow: bool) -> int:
        """Show it to its end, or for ever; return the exit code."""
        async with open_database("tail") as (engine, settings):
            timeline = Timeline(engine, settings, self._task_id)
            if follow:
                follower = Follower(engine, settings, self._task_id)
                await follower.begin()
                await self._show_stored(timeline, follower)
                await self._follow(follower)
            if await self._show_stored(timeline) or await timeline.exists():
                return 0
        self._remark(nothing_stored(self._task_id))
        return 1

    async def _show_stored(self, timeline: Timeline, follower: Follower | None = None) -> bool:
        """Show what is there; with a follower only what it will not tell."""
        shown = False
        if self._count is not None:
            return await self._show_last(self._count, timeline, follower)
        async with aclosing(timeline.pages(self._only)) as pages:
            async for page in pages:
                shown = self._show(page, follower) or shown
        return shown

    async def _show_last(self, count: int, timeline: Timeline, follower: Follower | None) -> bool:
        if not count:
            return False
        entries = await timeline.last(count + 1, self._only)
        if len(entries) > count:
            self._output.leave_out()
        return self._show(entries[-count:], follower)

    def _show(self, entries: list[LogEntry], follower: Follower | None) -> bool:
        self._output.show(entry for entry in entries if follower is None or not follower.will_tell(entry))
        return bool(entries)

    async def _follow(self, follower: Follower) -> None:
        if follower.is_waiting:
            self._remark(f"{nothing_stored(self._task_id).partition('.')[0]} yet; waiting for one.")
        for poll in count(1):
            try:
                await self._poll(follower, look_for_late=self._is_away or poll % _POLLS_FOR_LATE == 0)
            except StoreUnavailableError as error:
                if not self._is_away:
                    self._is_away = True
                    self._remark(f"{error}. It goes on when the database answers.")
            else:
                if self._is_away:
                    self._is_away = False
                    self._remark("the database answers again.")
            await _sleep(_POLL_SECONDS)

    async def _poll(self, follower: Follower, *, look_for_late: bool) -> None:
        if look_for_late:
            late = await follower.late()
            self._output.show(filter(self._only.takes, late), are_late=True)
        while news := await follower.news():
            self._output.show(filter(self._only.takes, news))

    def _remark(self, text: str) -> None:
        say(self._remarks, f"execution-logger: {text}")


class EntryLines:
    """Writes entries as lines, each day under its date.

    Args:
        whole_details: show the details whole, on lines of their own.
        with_run: show the `task_id`.
    """

    def __init__(self, *, whole_details: bool = False, with_run: bool = False) -> None:
        self._with_run = with_run
        self._whole_details = whole_details
        self._day = ""

    def of(self, entry: LogEntry, *, is_late: bool = False) -> Iterator[Text]:
        """The lines of an entry; one that comes late is marked."""
        day = f"{entry.created_at:%Y-%m-%d} UTC"
        if day != self._day:
            self._day = day
            yield Text(day, "dim")
        yield self._head(entry, is_late=is_late)
        if self._whole_details and entry.details:
            for line in _indented(entry.details):
                yield Text(_INDENT + printable(line), "dim")

    def _head(self, entry: LogEntry, *, is_late: bool) -> Text:
        style = _STYLES.get(entry.level, "")
        time = f"{entry.created_at:%H:%M:%S}.{entry.created_at.microsecond // 1000:03}"
        who = "/".join(printable(name) for name in (entry.step, entry.agent_name) if name) or entry.category
        line = Text.assemble(
            (time, "dim"),
            " ",
            (_padded(printable(entry.level).upper(), _LEVEL_CELLS), style),
            " ",
            (f"{_padded(printable(entry.task_id), _RUN_CELLS)} " if self._with_run else "", "magenta"),
            (_padded(printable(who), _WHO_CELLS), "cyan"),
            " ",
            (printable(entry.message), style),
        )
        if entry.duration_ms is not None:
            line.append(f"  {entry.duration_ms:,} ms", "green")
        if entry.details and not self._whole_details:
            line.append(f"  {_short(entry.details)}", "dim")
        if is_late:
            line.append("  (stored late)", "magenta")
        return line


def _padded(text: str, cells: int) -> str:
    """The text in so many cells, of which a Chinese character takes two; a longer one ends with `…`."""
    return set_cell_size(text, cells) if cell_len(text) <= cells else f"{set_cell_size(text, cells - 1)}…"


def _short(details: dict[str, object]) -> str:
    text = printable(json.dumps(details, ensure_ascii=False))
    return text if cell_len(text) <= _MAX_DETAILS_CELLS else _padded(text, _MAX_DETAILS_CELLS)


def _indented(details: dict[str, object]) -> list[str]:
    return json.dumps(details, ensure_ascii=False, indent=2).split("\n")
