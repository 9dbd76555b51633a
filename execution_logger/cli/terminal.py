"""The terminal: texts of others shown safely, and a page where there is no terminal."""

import json
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

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
        """The cells it takes, of a text in Latin letters."""
        return len(self.plain)

    def append(self, text: str, style: object = "") -> None:  # noqa: ARG002 - Rich's signature
        """Add to it."""
        self.plain += text

    def join(self, texts: "list[_PlainText]") -> "_PlainText":
        """These texts with this one between them."""
        return _PlainText(self.plain.join(map(str, texts)))

    def __str__(self) -> str:
        return self.plain


class _PlainPadding:
    """Something with blanks before it: `pad` is (top, right, bottom, left)."""

    def __init__(self, renderable: object, pad: tuple[int, int, int, int], **_: object) -> None:
        self._text, self._left = str(renderable), pad[-1]

    def __str__(self) -> str:
        return "\n".join(" " * self._left + line for line in self._text.splitlines())


class _PlainTable:
    """Columns of texts."""

    def __init__(self, *_: object, show_header: bool = True, **__: object) -> None:
        self._show_header = show_header
        self._names: list[str] = []
        self._is_right: list[bool] = []
        self._rows: list[list[str]] = []

    def add_column(self, name: str, *, justify: str = "left", **_: object) -> None:
        """Add a column."""
        self._names.append(name)
        self._is_right.append(justify == "right")

    def add_row(self, *cells: object) -> None:
        """Add a row; a cell may have several lines."""
        self._rows += map(list, zip_longest(*(str(cell).split("\n") for cell in cells), fillvalue=""))

    def __str__(self) -> str:
        rows = [self._names, *self._rows] if self._show_header else self._rows
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(self._line(row, widths) for row in rows)

    def _line(self, row: list[str], widths: list[int]) -> str:
        cells = zip(row, widths, self._is_right, strict=True)
        return "  ".join(c.rjust(width) if right else c.ljust(width) for c, width, right in cells).rstrip()


class _PlainConsole:
    """The standard output, or that for errors."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        self._file = sys.stderr if stderr else sys.stdout
        self.is_terminal = self._file.isatty()
        self.width = width or shutil.get_terminal_size().columns

    def print(self, *objects: object, **_: object) -> None:
        """Print a line."""
        print(*objects, file=self._file)


if TYPE_CHECKING or find_spec("rich") is not None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text
else:  # a host, which has not the worker's extra: the texts without colours
    SIMPLE_HEAD, Console, Padding, Table, Text = None, _PlainConsole, _PlainPadding, _PlainTable, _PlainText

__all__ = [
    "PAGE_WIDTH", "SIMPLE_HEAD", "Cell", "Console", "OutputError", "Table", "Text", "ago", "day_and_time",
    "echo_json", "open_console", "output_errors", "print_rows", "say", "span",
]  # fmt: skip

PAGE_WIDTH = 140

Cell = str | Text

_NONE_FOLDED: Mapping[str, int] = {}

_CLOCKS_DIFFER_SECONDS = 2


class OutputError(ExecutionLoggerError):
    """The standard output takes nothing."""


def open_console(*, stderr: bool = False) -> Console:
    """The terminal, or a page wide enough for tables when the output goes elsewhere.

    What the encoding of the output does not have is written as an escape.
    """
    stream = sys.stderr if stderr else sys.stdout
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=PAGE_WIDTH)


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
    folded: Mapping[str, int] = _NONE_FOLDED,
) -> None:
    """Print a table, or, where the terminal is too narrow for it, a paragraph a row.

    Only the columns in `folded` may be broken: an identifier in two pieces can neither be copied nor
    searched for. A paragraph begins with the row's first cell, and leaves out what is empty.

    Args:
        console: of `open_console`.
        columns: their names.
        rows: of each row a cell a column. Their texts may be anybody's.
        title: printed above.
        right: the columns of numbers.
        folded: the columns of free text, and the cells that each must get in a table.
    """
    cells = [[_safe(cell) for cell in row] for row in rows]
    if title:
        console.print(Text(f"\n{title}", "bold"))
    width = _width(columns, cells, folded)
    if width > console.width:
        for row in cells:
            _print_paragraph(console, columns, row, folded)
        return
    # The box has a blank between two columns; a second one only where there is room.
    gap = int(width + len(columns) - 1 <= console.width)
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, gap, 0, 0), pad_edge=False)
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=name not in folded,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _safe(cell: Cell) -> Text:
    return Text(printable(cell)) if isinstance(cell, str) else Text(printable(cell.plain), cell.style)


def _width(columns: Sequence[str], rows: Sequence[Sequence[Text]], folded: Mapping[str, int]) -> int:
    """The cells that a table takes at least, with one between two columns."""
    widths = []
    for number, name in enumerate(columns):
        widest = max([len(name), *(row[number].cell_len for row in rows)])
        widths.append(min(widest, folded.get(name, widest)))
    return sum(widths) + len(widths) - 1


def _print_paragraph(
    console: Console, columns: Sequence[str], row: Sequence[Text], folded: Mapping[str, int]
) -> None:
    console.print(row[0], soft_wrap=True)
    named = list(zip(columns, row, strict=True))[1:]
    told = [(name, cell) for name, cell in named if cell.plain not in ("", "-")]
    facts = [Text.assemble((f"{name}: ", "dim"), cell) for name, cell in told if name not in folded]
    if facts:
        console.print(Padding(Text(", ").join(facts), (0, 0, 0, 2), expand=False))
    for name, cell in told:
        if name in folded:
            console.print(Padding(cell, (0, 0, 0, 2), expand=False))


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
