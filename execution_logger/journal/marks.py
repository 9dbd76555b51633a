"""The marks of a journal: which batches were made of its entries, and up to where all are safe."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Self

import msgspec

from execution_logger.journal.directory import open_ours, read_ours
from execution_logger.journal.segment import checked, line_of

NAME = "marks"
_EARLIER_NAME = "marks.ndjson"
"""Of the version before, whose lines have no checksum: read, and never written."""

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_COMPACT_BYTES = 65_536


_Number = Annotated[int, msgspec.Meta(ge=1)]


class SentMark(msgspec.Struct, frozen=True, tag_field="mark", tag="sent"):
    """A batch that the broker has taken."""

    id: str
    first: _Number
    count: _Number
    at: float
    """When, in seconds since 1970."""


class SettledMark(msgspec.Struct, frozen=True, tag_field="mark", tag="settled"):
    """All entries up to this number are safe elsewhere."""

    number: Annotated[int, msgspec.Meta(ge=0)]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(SentMark | SettledMark).decode


class Marks:
    """A file with a line for each mark, written by the one process that ships the journal's entries.

    It saves work, and no entry depends on it: without it all would be sent once more. So a write
    that fails is no error.
    """

    def __init__(self, folder: Path) -> None:
        self.settled = 0
        self.sent: dict[str, SentMark] = {}
        """Batches that are not known to be stored, by their ids, in the order in which they were sent."""
        self._folder = folder
        self._is_written = True
        self._fd: int | None = None
        self._size_bytes = 0
        self._compact_at_bytes = _COMPACT_BYTES

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what another process has left; lines that make no sense are passed over."""
        marks = cls(folder)
        for line in (*_lines_of(folder / _EARLIER_NAME), *map(checked, _lines_of(folder / NAME))):
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                marks._apply(_decode(line or b""))
        return marks

    @property
    def highest(self) -> int:
        """Up to which number they tell something."""
        return max(self.settled, *(mark.first + mark.count - 1 for mark in self.sent.values()), 0)

    def forget(self) -> None:
        """Know nothing, and write nothing any more: the numbers are not those of the file."""
        self.close()
        self.settled, self._size_bytes, self._is_written = 0, 0, False
        self.sent.clear()

    def add(self, mark: SentMark | SettledMark) -> None:
        """Note a mark down."""
        self._apply(mark)
        if self._size_bytes > self._compact_at_bytes:
            self.rewrite()
        else:
            self._write(line_of(_encode(mark)))

    def rewrite(self) -> None:
        """Write only what still matters, into a new file where somebody has deleted the old one."""
        marks = [*self.sent.values(), SettledMark(self.settled)]
        self.remove()
        self._size_bytes = 0
        self._write(b"".join(line_of(_encode(mark)) for mark in marks))
        self._compact_at_bytes = 2 * self._size_bytes + _COMPACT_BYTES

    def remove(self) -> None:
        """Close the file and delete it, if the disk allows for that."""
        self.close()
        for name in (NAME, _EARLIER_NAME):
            with suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _apply(self, mark: SentMark | SettledMark) -> None:
        if isinstance(mark, SentMark):
            self.sent[mark.id] = mark
            return
        self.settled = max(self.settled, mark.number)
        for sent in tuple(self.sent.values()):
            # Batches are sent, and nearly always settled, in the order of their entries.
            if sent.first + sent.count - 1 > self.settled:
                break
            del self.sent[sent.id]

    def _write(self, lines: bytes) -> None:
        if not self._is_written:
            return
        with suppress(OSError):
            if self._fd is None:
                self._fd = open_ours(self._folder / NAME, _FLAGS)
            self._size_bytes += os.write(self._fd, lines)


def _lines_of(path: Path) -> list[bytes]:
    """None where there is no such file of ours."""
    with suppress(OSError):
        return read_ours(path).splitlines()
    return []
