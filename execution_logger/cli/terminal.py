"""The terminal: texts of others shown safely, and a page where there is no terminal."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

import click

from execution_logger.errors import ExecutionLoggerError
from execution_logger.text import printable, printable_json


class _PlainText:
    """A text; of its style nothing is seen."""

    def __init__(self, text: str = "", style: object = "") -> None:
        self.plain = text
        self.style = style

    @classmethod
    def assemble(cls, *parts: Any) -> "_PlainText":
        """Texts, or texts with their styles, as one."""
        return cls("".join(part[0] if isinstance(part, tuple) else str(part) for part in parts))

    @property
    def cell_len(self) -> int:
        """The cells it takes, of which a Chinese character has two."""
        return sum(1 + (east_asian_width(char) in "WF") for char in self.plain)

    def divide(self, offsets: Iterable[int]) -> "list[_PlainText]":
        """Its pieces between these offsets."""
        return [_PlainText(self.plain[start:end]) for start, end in pairwise([0, *offsets, None])]

    def rstrip(self) -> None:
        """Take the blanks from its end."""
        self.plain = self.plain.rstrip()

    def __str__(self) -> str:
        return self.plain


class _PlainConsole:
    """The standard output, or that for errors."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        self._file = sys.stderr if stderr else sys.stdout
        self.is_terminal = self._file.isatty()
        self.encoding = (self._file.encoding or "utf-8").lower()
        self.width = width or shutil.get_terminal_size().columns

    def print(self, *objects: object, **_: object) -> None:
        """Print a line."""
        print(*objects, file=self._file)


if TYPE_CHECKING or find_spec("rich") is not None:
    from rich.console import Console
    from rich.text import Text
else:  # a host, which has not the worker's extra: the texts without colours
    Console, Text = _PlainConsole, _PlainText

__all__ = [
    "PAGE_WIDTH", "Cell", "Console", "OutputError", "Text", "ago", "day_and_time", "echo_json", "hanging",
    "listed", "open_console", "output_errors", "print_lines", "print_rows", "say", "span", "words",
]  # fmt: skip

PAGE_WIDTH = 140
"""The cells of a table where there is no terminal, unless a value is longer."""

Cell = str | Text

_NO_TERMINAL_WIDTH = 2**31

_NO_COLUMNS: Mapping[str, int] = {}

_BLANKS = " \u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f"  # Chinese has none, but it has commas and full stops
_WORD = re.compile(f" *[^{_BLANKS}]+[{_BLANKS}]*")

_CLOCKS_DIFFER_SECONDS = 2


class OutputError(ExecutionLoggerError):
    """The standard output takes nothing."""


def open_console(*, stderr: bool = False) -> Console:
    """The terminal; when the output goes elsewhere, lines of any length.

    What the encoding of the output does not have is written as an escape.
    """
    stream = sys.stderr if stderr else sys.stdout
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_NO_TERMINAL_WIDTH)


def echo_json(
    value: object,
    *,
    default: Callable[[Any], object] = datetime.isoformat,
    indent: int | None = 2,
    ensure_ascii: bool = True,
) -> None:
    """Print a value for programs, as JSON that does not steer the terminal of people."""
    text = json.dumps(value, indent=indent, default=default, ensure_ascii=ensure_ascii)
    click.echo(printable_json(text))


def print_rows(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    title: str = "",
    right: Collection[str] = (),
    folded: Mapping[str, int] = _NO_COLUMNS,
    whole: Mapping[str, int] = _NO_COLUMNS,
) -> None:
    """Print a table, or, where the terminal is too narrow for it, a paragraph a row.

    Only the columns in `folded` may be broken, between words, and in a terminal only: an identifier in
    two pieces can neither be copied nor searched for. A paragraph begins with the row's first cell, and
    leaves out what is empty. Where there is no terminal a row is a line.

    Args:
        console: of `open_console`.
        columns: their names.
        rows: of each row a cell a column. Their texts may be anybody's.
        title: printed above.
        right: the columns of numbers.
        folded: the columns of free text, and the cells that each must get in a table.
        whole: the same for columns of values, of which a longer one shifts the rest of its line.
    """
    cells = [[_safe(cell) for cell in row] for row in rows]
    width = console.width if console.is_terminal else PAGE_WIDTH
    broken = folded if console.is_terminal else _NO_COLUMNS
    widths = _widths(columns, cells, {**folded, **whole}, broken, width)
    if title:
        print_lines(console, [Text(f"\n{title}", "bold")])
    if console.is_terminal and sum(widths) + len(widths) - 1 > width:
        for row in cells:
            print_lines(console, _paragraph(columns, row, broken, width))
        return
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= width else 1
    rule = "─" if console.encoding.startswith("utf") else "-"
    places = [(room, name in right) for room, name in zip(widths, columns, strict=True)]
    print_lines(console, [_line([Text(name, "bold") for name in columns], places, gap)])
    print_lines(console, [Text(rule * (sum(widths) + gap * (len(widths) - 1)))])
    for row in cells:
        print_lines(console, _table_row(columns, row, places, broken, gap))


def print_lines(console: Console, lines: Iterable[Text]) -> None:
    """Print each as it is: one that is longer than the terminal's is left to this, which copies it whole."""
    for line in lines:
        console.print(line, soft_wrap=True)


def hanging(head: Text, pieces: Iterable[Text], width: int) -> list[Text]:
    """Lines of as many pieces as fit, the first of them behind `head`, the others below that one."""
    lines = _packed(pieces, width - head.cell_len)
    return [Text.assemble(" " * head.cell_len if number else head, line) for number, line in enumerate(lines)]


def words(text: Text) -> list[Text]:
    """The pieces between which a text may be broken."""
    ends = [word.end() for word in _WORD.finditer(text.plain)]
    return list(text.divide(ends[:-1]))


def _safe(cell: Cell) -> Text:
    return Text(printable(cell)) if isinstance(cell, str) else Text(printable(cell.plain), cell.style)


def _widths(
    columns: Sequence[str],
    rows: Sequence[Sequence[Text]],
    flexible: Mapping[str, int],
    broken: Collection[str],
    width: int,
) -> list[int]:
    """The cells of each column; a flexible one has what the others leave, but not less than it must have."""
    lengths = [[len(name), *(row[number].cell_len for row in rows)] for number, name in enumerate(columns)]
    widths = [max(column) for column in lengths]
    for number, name in enumerate(columns):
        if name in flexible:
            left = width - sum(widths) + widths[number] - 2 * (len(columns) - 1)
            room = max(flexible[name], len(name), left)
            if name in broken:
                longest = max((word.cell_len for row in rows for word in words(row[number])), default=0)
                widths[number] = min(widths[number], max(room, longest))
            else:
                widths[number] = max(length for length in lengths[number] if length <= room)
    return widths


def _table_row(
    columns: Sequence[str],
    row: Sequence[Text],
    places: Sequence[tuple[int, bool]],
    broken: Collection[str],
    gap: int,
) -> Iterator[Text]:
    pieces = [
        _packed(words(cell), room) if name in broken else [cell]
        for name, cell, (room, _) in zip(columns, row, places, strict=True)
    ]
    for cells in zip_longest(*pieces, fillvalue=Text()):
        yield _line(cells, places, gap)


def _line(cells: Iterable[Text], places: Iterable[tuple[int, bool]], gap: int) -> Text:
    """A line of a table; each of its places has a width, and may be to the right."""
    parts: list[Cell] = []
    for cell, (width, is_right) in zip(cells, places, strict=True):
        blanks = " " * (width - cell.cell_len)
        parts += [blanks, cell] if is_right else [cell, blanks]
        parts.append(" " * gap)
    return _stripped(Text.assemble(*parts))


def _paragraph(
    columns: Sequence[str], row: Sequence[Text], broken: Collection[str], width: int
) -> Iterator[Text]:
    yield row[0]
    named = list(zip(columns, row, strict=True))[1:]
    told = [(name, cell) for name, cell in named if cell.plain not in ("", "-")]
    facts = [Text.assemble((f"{name}: ", "dim"), cell) for name, cell in told if name not in broken]
    yield from hanging(Text("  "), listed(facts), width)
    for name, cell in told:
        if name in broken:
            yield from hanging(Text("  "), words(cell), width)


def listed(texts: Sequence[Text]) -> list[Text]:
    """Texts with commas between them."""
    return [Text.assemble(text, ", ") for text in texts[:-1]] + list(texts[-1:])


def _packed(pieces: Iterable[Text], width: int) -> list[Text]:
    """Lines of as many pieces as fit; one that is wider than a line has one of its own."""
    lines: list[list[Text]] = []
    room = 0
    for piece in pieces:
        if not lines or piece.cell_len - (len(piece.plain) - len(piece.plain.rstrip())) > room:
            lines.append([])
            room = width
        lines[-1].append(piece)
        room -= piece.cell_len
    return [_stripped(Text.assemble(*line)) for line in lines]


def _stripped(line: Text) -> Text:
    line.rstrip()
    return line


def say(console: Console, text: str, style: str = "") -> None:
    """Print a sentence, which may be anybody's, and may be longer than a line."""
    console.print(Text(printable(text), style), soft_wrap=True)


@contextmanager
def output_errors() -> Iterator[None]:
    """Let what cannot be written to the standard output be one clear line.

    A reader that has had enough, as `head` has, is no error: click ends the command without a word.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"the output cannot be written: {error.strerror or error}") from error


def day_and_time(moment: datetime | None) -> str:
    """A moment, to the second; a dash for none."""
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def ago(seconds: float) -> str:
    """An age in the largest unit of which there are two; a clock or a time zone may make it negative."""
    return f"in {span(-seconds)}" if seconds <= -_CLOCKS_DIFFER_SECONDS else f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """A time span in the largest unit of which there are two."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
