"""Entries as lines for people: one below the other, or as the tree of their operations."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from execution_logger.entry.entry import ERRORS, TREE, LogEntry, LogLevel, RunState
from execution_logger.read.tree import Node, Tree
from execution_logger.text import printable

_STYLES: Mapping[str, str] = {
    LogLevel.DEBUG: "dim",
    LogLevel.WARNING: "yellow",
    LogLevel.ERROR: "bold red",
    LogLevel.CRITICAL: "bold white on red",
}
_STATE_STYLES: Mapping[RunState, str] = {
    RunState.RUNNING: "cyan",
    RunState.FAILED: "bold red",
    RunState.CANCELLED: "yellow",
    RunState.NO_END: "yellow",
}
_LEVEL_CELLS = 8
_RUN_CELLS = 20
_WHO_CELLS = 24
_MAX_DETAILS_CELLS = 80
_INDENT = " " * 13
_TOLD = (*TREE, "step", "agent_name", "duration_ms")

_TEXT_CELLS = 36
_MOST_BARS = 20
_BAR_CELLS = 3
_LABEL_BARS = 3  # "(+9999) " stands for so many


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
        for line in _indented(entry) if self._whole_details else ():
            yield Text(_INDENT + line, "dim")

    def _head(self, entry: LogEntry, *, is_late: bool) -> Text:
        style = _STYLES.get(entry.level, "")
        who = _who(entry) or entry.category
        line = Text.assemble(
            (_time(entry.created_at), "dim"),
            " ",
            (_padded(printable(entry.level).upper(), _LEVEL_CELLS), style),
            " ",
            (f"{_widened(printable(entry.task_id), _RUN_CELLS)} " if self._with_run else "", "magenta"),
            (_padded(printable(who), _WHO_CELLS), "cyan"),
            " ",
            (printable(entry.message), style),
        )
        if entry.duration_ms is not None:
            line.append(f"  {entry.duration_ms:,} ms", "green")
        if not self._whole_details:
            line.append(_short(entry), "dim")
        if is_late:
            line.append("  (stored late)", "magenta")
        return line


class TreeLines:
    """Writes a tree as lines: each operation is one, and what was recorded within it is below.

    Where it is deeper than there is room for, the lines begin with the number of levels that are left out.

    Args:
        width: of a terminal, at whose end lines are cut; None where there is none.
        is_unicode: the output has more than ASCII.
        whole_details: show the details whole, on lines of their own.
    """

    def __init__(self, width: int | None, *, is_unicode: bool = True, whole_details: bool = False) -> None:
        self._width = width
        room = _MOST_BARS if width is None else (width - len(_INDENT) - _TEXT_CELLS) // _BAR_CELLS
        self._most_bars = max(_LABEL_BARS, min(room, _MOST_BARS))
        self._branch, self._last, self._bar = ("├─ ", "└─ ", "│  ") if is_unicode else ("|- ", "`- ", "|  ")
        self._dots = "…" if is_unicode else "..."
        self._failed = "✗ " if is_unicode else "x "
        self._whole_details = whole_details
        self._day = ""

    def of(self, tree: Tree) -> Iterator[Text]:
        """The lines of a tree; what is in none of its operations has no branches before it."""
        waiting: list[tuple[LogEntry | Node, int, tuple[str, ...], str]] = [
            (item, 0, (), "") for item in reversed(tree.items())
        ]
        while waiting:
            item, depth, bars, branch = waiting.pop()
            inner = bars if depth == 0 else (*bars, "   " if branch == self._last else self._bar)
            inner = inner[-self._most_bars :]
            yield from self._lines_of(
                item, self._prefix(depth, bars, branch), self._prefix(depth + 1, inner, "")
            )
            if isinstance(item, Node):
                within = item.items()
                branches = [self._branch] * (len(within) - 1) + [self._last]
                lines = zip(reversed(within), reversed(branches), strict=False)
                waiting += ((each, depth + 1, inner, its) for each, its in lines)

    def _prefix(self, depth: int, bars: tuple[str, ...], branch: str) -> str:
        left_out = depth - 1 - len(bars)
        if left_out > 0:
            label = f"(+{left_out + _LABEL_BARS}) ".ljust(_LABEL_BARS * _BAR_CELLS)
            bars = (label, *bars[_LABEL_BARS:])
        return "".join([*bars, branch])

    def _lines_of(self, item: LogEntry | Node, prefix: str, inner: str) -> Iterator[Text]:
        moment = item.began_at if isinstance(item, Node) else item.created_at
        day = f"{moment:%Y-%m-%d} UTC"
        if day != self._day:
            self._day = day
            yield Text(day, "dim")
        line = Text.assemble((_time(moment), "dim"), " ", (prefix, "dim"))
        line.append_text(self._operation(item) if isinstance(item, Node) else self._entry(item))
        yield self._cut(line)
        entries = item.own if isinstance(item, Node) else [item]
        for entry in entries if self._whole_details else ():
            for text in _indented(entry):
                yield Text(f"{_INDENT}{inner}{text}", "dim")

    def _operation(self, node: Node) -> Text:
        state, is_failed = node.state, node.state is RunState.FAILED
        entry = node.own[-1]
        line = Text.assemble(
            (self._failed if is_failed else "", "bold red"),
            (printable(node.name), "bold red" if is_failed else "bold"),
            ("" if state is RunState.DONE else f"  {printable(node.outcome)}", _STATE_STYLES.get(state, "")),
        )
        if node.duration_ms is not None:
            line.append(f"  {node.duration_ms:,} ms", "green")
        if who := _who(entry, but=node.name):  # `timed_operation` has its name as its step
            line.append(f"  {who}", "cyan")
        if (errors := node.errors - sum(each.level in ERRORS for each in node.own)) > 0:
            line.append(f"  {errors:,} {'error' if errors == 1 else 'errors'} within", "red")
        if type(left_out := (entry.details or {}).get("left_out")) is int:
            line.append(f"  {left_out:,} left out", "yellow")
        if is_failed and (why := (entry.details or {}).get("error")) is not None:
            line.append(f"  {printable(why if isinstance(why, str) else json.dumps(why))}", "red")
        return line

    def _entry(self, entry: LogEntry) -> Text:
        style = _STYLES.get(entry.level, "")
        level = "" if entry.level == LogLevel.INFO else f"{printable(entry.level).upper()} "
        line = Text.assemble((level, style), (printable(entry.message), style))
        if entry.duration_ms is not None:
            line.append(f"  {entry.duration_ms:,} ms", "green")
        if who := _who(entry):
            line.append(f"  {who}", "cyan")
        if not self._whole_details:
            line.append(_short(entry), "dim")
        return line

    def _cut(self, line: Text) -> Text:
        if self._width is not None and line.cell_len > self._width:
            line.truncate(self._width - len(self._dots), overflow="crop")
            line.append(self._dots)
        return line


def _time(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"


def _who(entry: LogEntry, but: str = "") -> str:
    return "/".join(printable(name) for name in (entry.step, entry.agent_name) if name and name != but)


def _widened(text: str, cells: int) -> str:
    """The text in at least so many cells: one that is to be copied is never cut."""
    return text + " " * (cells - cell_len(text))


def _padded(text: str, cells: int) -> str:
    """The text in so many cells, of which a Chinese character takes two; a longer one ends with `…`."""
    return set_cell_size(text, cells) if cell_len(text) <= cells else f"{set_cell_size(text, cells - 1)}…"


def _short(entry: LogEntry) -> str:
    """The details, without what is there for want of a column and is in the line already."""
    details = {
        key: value
        for key, value in (entry.details or {}).items()
        if key not in _TOLD or value != getattr(entry, key)
    }
    if not details:
        return ""
    text = printable(json.dumps(details, ensure_ascii=False))
    return f"  {text if cell_len(text) <= _MAX_DETAILS_CELLS else _padded(text, _MAX_DETAILS_CELLS)}"


def _indented(entry: LogEntry) -> list[str]:
    if not entry.details:
        return []
    return [printable(line) for line in json.dumps(entry.details, ensure_ascii=False, indent=2).split("\n")]
