"""The terminal of a machine without Rich, which comes with the worker's extra: the texts without colours."""

import shutil
import sys
from itertools import zip_longest
from typing import Any

SIMPLE_HEAD = None


class Text:
    """A text; of its style nothing is seen."""

    def __init__(self, text: str = "", style: object = "") -> None:
        self.plain = text
        self.style = style

    @classmethod
    def assemble(cls, *parts: Any) -> "Text":
        """Texts, or texts with their styles, as one."""
        return cls("".join(part[0] if isinstance(part, tuple) else str(part) for part in parts))

    @property
    def cell_len(self) -> int:
        """The cells it takes, of a text in Latin letters."""
        return len(self.plain)

    def append(self, text: str, style: object = "") -> None:  # noqa: ARG002 - Rich's signature
        """Add to it."""
        self.plain += text

    def join(self, texts: "list[Text]") -> "Text":
        """These texts with this one between them."""
        return Text(self.plain.join(map(str, texts)))

    def __str__(self) -> str:
        return self.plain


class Padding:
    """Something with blanks before it: `pad` is (top, right, bottom, left)."""

    def __init__(self, renderable: object, pad: tuple[int, int, int, int], **_: object) -> None:
        self._text, self._left = str(renderable), pad[-1]

    def __str__(self) -> str:
        return "\n".join(" " * self._left + line for line in self._text.splitlines())


class Table:
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


class Console:
    """The standard output, or that for errors."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        self._file = sys.stderr if stderr else sys.stdout
        self.is_terminal = self._file.isatty()
        self.width = width or shutil.get_terminal_size().columns

    def print(self, *objects: object, **_: object) -> None:
        """Print a line."""
        print(*objects, file=self._file)
