"""A run as people read it: what happened when."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from execution_logger.entry.entry import LogCategory, LogEntry, LogLevel
from execution_logger.text import printable

_STYLES = {
    LogLevel.DEBUG: "dim",
    LogLevel.INFO: "",
    LogLevel.WARNING: "yellow",
    LogLevel.ERROR: "bold red",
    LogLevel.CRITICAL: "bold red",
}
_TOOL_CALLS_SHOWN = 2


def timeline(entries: Sequence[LogEntry]) -> Table:
    """The entries of a run, with most tool calls of one agent in a row left out."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, collapse_padding=True, expand=True)
    for heading, width in (("time", 9), ("level", 7), ("category", 8), ("step / agent", 12)):
        table.add_column(heading, no_wrap=True, width=width)
    table.add_column("message", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("duration", justify="right", no_wrap=True, width=8)
    for entry in _shortened(entries):
        if isinstance(entry, LogEntry):
            table.add_row(*_cells(entry, entries[0]), style=_STYLES.get(LogLevel(entry.level), ""))
        else:
            table.add_row("", "", "", "", Text(f"… {entry} more tool calls"), "", style="dim")
    return table


def _shortened(entries: Sequence[LogEntry]) -> Iterator[LogEntry | int]:
    """The entries, or the number of those that are left out."""
    for is_tool_call, group in groupby(entries, lambda entry: entry.category == LogCategory.TOOL):
        rows = list(group)
        shown = _TOOL_CALLS_SHOWN if is_tool_call and len(rows) > _TOOL_CALLS_SHOWN + 1 else len(rows)
        yield from rows[:shown]
        if len(rows) > shown:
            yield len(rows) - shown


def _cells(entry: LogEntry, first: LogEntry) -> tuple[Text, ...]:
    seconds = (entry.created_at - first.created_at).total_seconds()
    duration = "" if entry.duration_ms is None else f"{entry.duration_ms:,} ms"
    who = entry.agent_name or entry.step or ""
    texts = (f"+{seconds:.3f} s", entry.level, entry.category, who, entry.message, duration)
    return tuple(Text(printable(text)) for text in texts)
