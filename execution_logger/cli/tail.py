"""`execution-logger tail`: the entries of a run, or of all, as they come."""

import asyncio
import sys
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from typing import Any

import click

from execution_logger.cli.db import NothingStoredError, located, open_database, to_only
from execution_logger.cli.lines import EntryLines, TreeLines
from execution_logger.cli.options import Integer, filters
from execution_logger.cli.terminal import open_console, output_errors, say
from execution_logger.entry.entry import LogEntry, RunState
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.follow import Follower
from execution_logger.read.formats import Ndjson
from execution_logger.read.summary import known_now
from execution_logger.read.timeline import ALL, Only, Timeline
from execution_logger.read.tree import Subtree, tree_of

_POLL_SECONDS = 1.0
_POLLS_FOR_LATE = 5
_LINES = 100
_TREE_LINES = 10_000
_MOST_KEPT = 1000  # an entry may have 256 KiB
_sleep = asyncio.sleep


@click.command(context_settings={"show_default": True})
@click.argument("task_id", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--tree", "as_tree", is_flag=True, help="Show the run as the tree of its operations.")
@click.option(
    "--lines",
    "-n",
    type=Integer(min=0),
    show_default=f"{_LINES}; with --tree {_TREE_LINES:,}",
    help="The newest so many.",
)
@click.option("--all", "is_all", is_flag=True, help="All of them, instead of --lines.")
@filters
@click.option("--details", "whole_details", is_flag=True, help="Show the details whole, indented.")
@click.option("--json", "as_json", is_flag=True, help="Print each entry as JSON on a line of its own.")
def command(
    task_id: str | None,
    follow: bool,
    as_tree: bool,
    lines: int | None,
    is_all: bool,
    whole_details: bool,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Print entries, oldest first; times are in UTC.

    They are those of the run TASK_ID, or of all runs without one; with --operation alone, of its run.

    With --tree each operation is a line, with its state and how long it took, and what was recorded within
    it is below. There the filters keep the operations that lead to a wanted entry, too.

    With --follow it goes on with new ones. Those of several processes do not arrive in the order of
    their times: one that comes later than its neighbours is printed when it is there, and marked. An
    outage of the database is said once, and waited for.

    The exit code is 0, also when no entry matches the filters, which is said; 1 when no entry of the run is
    stored (with --follow, it is waited for); 2 for wrong usage or settings; 3 when the database cannot be
    read; 130 after Ctrl-C.
    """
    only = to_only(**wanted)
    if as_tree and (follow or as_json):
        raise click.UsageError("--tree is for people, and shows what is there: without --follow and --json")
    if as_tree and task_id is None and not only.operations:
        raise click.UsageError("--tree needs a TASK_ID, or an --operation")
    shown = EntryLines(whole_details=whole_details, with_run=task_id is None and not only.operations)
    output = _JsonOutput() if as_json else _TextOutput(shown)
    most = None if is_all else (_TREE_LINES if as_tree else _LINES) if lines is None else lines
    with output_errors():
        if as_tree:
            code = asyncio.run(_show_tree(task_id, only, most, whole_details=whole_details))
        else:
            code = asyncio.run(_Tail(task_id, output, only, most).run(follow=follow))
    sys.exit(code)


async def _show_tree(task_id: str | None, only: Only, count: int | None, *, whole_details: bool) -> int:
    console = open_console()
    width = console.width if console.is_terminal else None
    lines = TreeLines(width, is_unicode=console.encoding.startswith("utf"), whole_details=whole_details)
    async with open_database("tail") as (engine, settings):
        timeline, only = await located(engine, settings, task_id, only)
        entries, is_cut = await _entries_of(timeline, only, count)
        newest = await timeline.last(1)
        if not newest:
            raise NothingStoredError.of(task_id)
        tree = tree_of(entries, known_now(RunState.RUNNING, newest[0].created_at) or RunState.RUNNING)
        shown = tree.pruned(only.takes)
        if count != 0 and not shown.items():
            await _say_that_none_matches(timeline, only)
    if is_cut:
        console.print("… earlier entries are left out; --all shows them", style="dim")
    for line in lines.of(shown):
        console.print(line, soft_wrap=True)
    return 0


async def _say_that_none_matches(timeline: Timeline, only: Only) -> None:
    """Say it unless there are no filters. The entries of a run are counted: it has an index."""
    if only == ALL:
        return
    is_run = timeline.task_id is not None
    text = f"0 of {await timeline.count():,} entries match" if is_run else "no entry matches"
    say(open_console(stderr=True), f"execution-logger: {text}")


async def _entries_of(timeline: Timeline, only: Only, count: int | None) -> tuple[list[LogEntry], bool]:
    """The newest so many that may be in the tree or lead to those, and whether there are more."""
    all_of_span = Only(since=only.since, until=only.until, operations=only.operations)
    if count is not None:
        entries = await timeline.last(count + 1, all_of_span)
        return entries[max(len(entries) - count, 0) :], len(entries) > count
    async with aclosing(timeline.pages(all_of_span)) as pages:
        return [entry async for page in pages for entry in page], False


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
        self._subtree: Subtree[LogEntry] = Subtree((), _MOST_KEPT)
        self._remarks = open_console(stderr=True)
        self._is_away = False

    async def run(self, *, follow: bool) -> int:
        """Show it to its end, or for ever; return the exit code."""
        async with open_database("tail") as (engine, settings):
            timeline, self._only = await located(engine, settings, self._task_id, self._only)
            if follow:
                follower = Follower(engine, settings, timeline.task_id)
                await follower.begin()
                await self._begin_subtree(timeline)
                await self._show_stored(timeline, follower)
                await self._follow(follower)
            if await self._show_stored(timeline):
                return 0
            if await timeline.exists():
                if self._count != 0:
                    await _say_that_none_matches(timeline, self._only)
                return 0
        raise NothingStoredError.of(self._task_id)

    async def _begin_subtree(self, timeline: Timeline) -> None:
        """From now on it grows with what comes."""
        if self._only.operations:
            self._subtree.operations |= await timeline.beneath(self._only.operations)
            self._only = replace(self._only, operations=self._subtree.operations)

    def _wanted(self, entries: list[LogEntry]) -> Iterable[LogEntry]:
        return filter(self._only.takes, self._subtree.take(entries) if self._only.operations else entries)

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
            self._remark(
                f"{str(NothingStoredError.of(self._task_id)).partition('.')[0]} yet; waiting for one."
            )
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
            self._output.show(self._wanted(await follower.late()), are_late=True)
        while news := await follower.news():
            self._output.show(self._wanted(news))

    def _remark(self, text: str) -> None:
        say(self._remarks, f"execution-logger: {text}")
