"""An entry as a line of the terminal."""

import json
from collections.abc import Iterator, Mapping

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from execution_logger.entry.entry import LogEntry, LogLevel
from execution_logger.text import printable

_STYLES: Mapping[str, str] = {
    LogLevel.DEBUG: "dim",
    LogLevel.WARNING: "yellow",
    LogLevel.ERROR: "bold red",
    LogLevel.CRITICAL: "bold white on red",
}
_LEVEL_CELLS = 8
_WHO_CELLS = 24
_MAX_DETAILS_CELLS = 80
_INDENT = " " * 13


class EntryLines:
    """Writes entries as lines, each day under its date.

    Args:
        whole_details: show the details whole, on lines of their own.
    """

    def __init__(self, *, whole_details: bool = False) -> None:
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
