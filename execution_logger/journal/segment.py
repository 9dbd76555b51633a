"""A segment: one file of a journal, whose lines are entries with consecutive numbers."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

from execution_logger.journal.write import write

SUFFIX = ".ndjson"

_FLAGS = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
_PRIVATE = 0o600
_DIGITS = 20
_CHUNK_BYTES = 1_048_576


class Segment:
    """An open file, named after the number of its first line as Kafka names its log's segments.

    The file stays open for as long as it is needed: whoever deletes it meanwhile takes nothing away.
    """

    __slots__ = ("count", "fd", "first", "path", "size_bytes")

    def __init__(self, path: Path, first: int, fd: int) -> None:
        self.path = path
        self.first = first
        self.count = 0
        """Complete lines."""
        self.size_bytes = 0
        """Where the last complete line ends."""
        self.fd = fd

    @classmethod
    def create(cls, folder: Path, first: int) -> Self:
        """Begin a new file; raises OSError, also when there is one already."""
        path = folder / f"{first:0{_DIGITS}}{SUFFIX}"
        return cls(path, first, os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _PRIVATE))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open what another process has left; a last line that was torn off does not count."""
        segment = cls(path, int(path.name.removesuffix(SUFFIX)), os.open(path, _FLAGS))
        while chunk := segment.read(segment.size_bytes, _CHUNK_BYTES):
            complete = chunk.rfind(b"\n") + 1
            if not complete and len(chunk) < _CHUNK_BYTES:
                break
            # A line without an end in a whole chunk is no entry's: the chunk is passed over with it.
            segment.size_bytes += complete or len(chunk)
            segment.count += chunk.count(b"\n")
        return segment

    @property
    def next(self) -> int:
        """The number of the line that comes next."""
        return self.first + self.count

    def append(self, line: bytes) -> None:
        """Write a line; raises OSError, also when there was no room for all of it."""
        size_bytes = len(line)
        try:
            is_whole = write(self.fd, line) == size_bytes
        except BaseException:
            # Also after a signal handler that raises: a line that is not counted shifts all that follow.
            self.cut()
            raise
        if not is_whole:
            self.cut()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.count += 1
        self.size_bytes += size_bytes

    def cut(self) -> None:
        """Remove what is behind the last complete line."""
        os.ftruncate(self.fd, self.size_bytes)

    def clear(self) -> None:
        """Remove all lines."""
        self.count = self.size_bytes = 0
        self.cut()

    def sync(self) -> None:
        """Wait until the disk has it."""
        os.fsync(self.fd)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """The bytes from `offset` on, fewer at the end of the file."""
        if hasattr(os, "pread"):
            return os.pread(self.fd, size_bytes, offset)
        with self.path.open("rb") as file:  # Windows
            file.seek(offset)
            return file.read(size_bytes)

    def is_in(self, folder: Path) -> bool:
        """Whether the file is still there under its name."""
        try:
            found = (folder / self.path.name).stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self.fd))

    def restore(self, folder: Path) -> None:
        """Write it anew, if somebody has deleted it."""
        if self.is_in(folder):
            return
        other = Segment.create(folder, self.first)
        try:
            for offset in range(0, self.size_bytes, _CHUNK_BYTES):
                other.append(self.read(offset, min(_CHUNK_BYTES, self.size_bytes - offset)))
        except BaseException:
            other.remove()
            raise
        os.close(self.fd)
        self.fd, self.path = other.fd, other.path

    def close(self) -> None:
        """Close the file and leave it where it is."""
        os.close(self.fd)

    def remove(self) -> None:
        """Close the file and delete it; on a disk that does not allow for that it stays."""
        self.close()
        with suppress(OSError):
            self.path.unlink()
