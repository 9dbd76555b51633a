"""The terminal: texts of others shown safely, and a page where there is no terminal."""

import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console

from execution_logger.errors import ExecutionLoggerError

PAGE_WIDTH = 140

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # control, format (also bidirectional), surrogate, breaks
_JOINERS = "\u200c\u200d"  # parts of words and of emoji
_CLOCKS_DIFFER_SECONDS = 2
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\"}


class OutputError(ExecutionLoggerError):
    """The standard output takes nothing."""


def printable(text: str) -> str:
    r"""The text on one line, with what would steer the terminal written out: `\x1b[2J`, `\n`.

    Whoever can log could otherwise clear the screen, change the window's title, or make a line read
    as another one.
    """
    if text.isprintable():
        return text
    return "".join(_escaped(char) if _is_hidden(char) else char for char in text)


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


def day_and_time(moment: datetime) -> str:
    """A moment, to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def ago(seconds: float) -> str:
    """An age in the largest unit of which there are two; a clock or a time zone may make it negative."""
    return f"in {span(-seconds)}" if seconds <= -_CLOCKS_DIFFER_SECONDS else f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """A time span in the largest unit of which there are two."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in _HIDDEN and char not in _JOINERS


def _escaped(char: str) -> str:
    return _SHORT.get(char) or char.encode("unicode_escape").decode()
