"""A segment: one file of a journal, whose lines are entries with consecutive numbers.

Each line is an entry's JSON, a tab, and the CRC-32 of the JSON in hexadecimal digits: a bit that has
flipped anywhere in it is noticed. docs/JOURNAL_FORMAT.md has all of the format.
"""

import errno
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Self
from zlib import crc32

import msgspec

from execution_logger.journal.directory import open_ours


def _find_write() -> Callable[[int, bytes, int], int] | None:
    """The C library's `write`; None where it is not to be had."""
    if os.name != "posix":
        return None
    try:
        import ctypes  # noqa: PLC0415 - Python can be built without it

        write = ctypes.PyDLL(None).write  # of all ways to call C, the one that keeps the interpreter
        # No `argtypes`, which would take half a microsecond to apply: an int and bytes are passed as what
        # they are, and a size below 2 GiB arrives as one.
        write.restype = ctypes.c_ssize_t
    except (ImportError, OSError, AttributeError):
        return None
    return write


_c_write = _find_write()


def write(fd: int, data: bytes) -> int:
    """Write to a regular file as `os.write` does; raises OSError."""
    if _c_write is not None and (written := _c_write(fd, data, len(data))) >= 0:
        return written
    return os.write(fd, data)  # it says what is wrong


def line_of(encoded: bytes) -> bytes:
    """JSON as a line with its checksum."""
    return encoded + b"\t%x\n" % crc32(encoded)


class _Entry(msgspec.Struct):
    """What every entry has, and nothing else of a journal's directory."""

    id: str
    task_id: str
    message: str


_decode = msgspec.json.Decoder(_Entry).decode


def checked(line: bytes) -> bytes | None:
    """What a line with a checksum holds; None when the line is not what was written."""
    held, _, checksum = line.rpartition(b"\t")
    return held if held and checksum == b"%x" % crc32(held) else None


def _decoded(line: bytes) -> bytes | None:
    """The entry that is a line without a checksum; None when the line is no entry."""
    try:
        line.decode()  # what msgspec skips it does not look at closely
        _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return line


SUFFIX = ".entries"
_ENTRY_OF: Mapping[str, Callable[[bytes], bytes | None]] = {SUFFIX: checked, ".ndjson": _decoded}
"""How lines are read, by the suffix that says the format: the earlier one has no checksums. Another name
and not a longer line, because a process of the version before leaves files that it does not know alone."""

_FLAGS = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
_PRIVATE = 0o600
_DIGITS = 20
_NAME = re.compile(rf"[0-9]{{{_DIGITS}}}({'|'.join(map(re.escape, _ENTRY_OF))})")
_CLOSED = -1
_CHUNK_BYTES = 1_048_576


class Segment:
    """A file, named after the number of its first line as Kafka names its log's segments.

    One that is written is open, and whoever deletes it meanwhile takes nothing away. Others are opened to
    be read, and closed again: descriptors are few, and a gigabyte has more than a hundred segments.
    """

    __slots__ = ("count", "entry_of", "fd", "first", "is_kept_open", "is_measured", "path", "size_bytes")

    def __init__(self, path: Path, first: int, fd: int = _CLOSED) -> None:
        self.path = path
        self.first = first
        self.entry_of = _ENTRY_OF[path.suffix]
        """Takes a line, and returns its entry; None when the line is damaged."""
        self.count = 0
        """Complete lines."""
        self.size_bytes = 0
        """Where the last complete line ends."""
        self.fd = fd
        self.is_kept_open = self.is_measured = fd != _CLOSED

    @classmethod
    def create(cls, folder: Path, first: int) -> Self:
        """Begin a new file; raises OSError, also when there is one already."""
        path = folder / f"{first:0{_DIGITS}}{SUFFIX}"
        return cls(path, first, os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _PRIVATE))

    @classmethod
    def left_in(cls, folder: Path) -> list[Self]:
        """Those that a process has left, in their order, closed and not measured; raises OSError.

        Files with other names are none.
        """
        with os.scandir(folder) as found:
            names = sorted(filter(_NAME.fullmatch, (each.name for each in found)))
        return [cls(folder / name, int(name[:_DIGITS])) for name in names]

    def measure(self) -> None:
        """Count the lines of what another process has left, once; raises OSError.

        A last line that was torn off does not count.
        """
        if self.is_measured:
            return
        count = size_bytes = 0
        try:
            while chunk := self.read(size_bytes, _CHUNK_BYTES):
                complete = chunk.rfind(b"\n") + 1
                if not complete and len(chunk) < _CHUNK_BYTES:
                    break
                # A line without an end in a whole chunk is no entry's: the chunk is passed over with it.
                size_bytes += complete or len(chunk)
                count += chunk.count(b"\n")
        finally:
            self.close()
        self.count, self.size_bytes, self.is_measured = count, size_bytes, True

    @property
    def next(self) -> int:
        """The number of the line that comes next."""
        return self.first + self.count

    def append(self, encoded: bytes) -> None:
        """Write an entry's line; raises OSError, also when there was no room for all of it."""
        line = encoded + b"\t%x\n" % crc32(encoded)  # as `line_of`, whose call would take half as long
        size_bytes = len(line)
        try:
            is_whole = write(self.fd, line) == size_bytes
        except BaseException:
            # Also after a signal handler that raises: a line that is not counted shifts all that follow.
            self.cut()
            raise
        if not is_whole:
            self.cut()
            raise _no_room()
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
        """The bytes from `offset` on, fewer at the end of the file; raises OSError."""
        if not hasattr(os, "pread"):  # Windows
            with self.path.open("rb") as file:
                file.seek(offset)
                return file.read(size_bytes)
        if self.fd == _CLOSED:
            self.fd = open_ours(self.path, os.O_RDONLY)
        return os.pread(self.fd, size_bytes, offset)

    def is_in(self, folder: Path) -> bool:
        """Whether the file is still there under its name; of one that is closed nothing could be saved."""
        if self.fd == _CLOSED:
            return True
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
                chunk = self.read(offset, min(_CHUNK_BYTES, self.size_bytes - offset))
                if write(other.fd, chunk) != len(chunk):
                    raise _no_room()  # noqa: TRY301 - the same way as from `read`
        except BaseException:
            other.remove()
            raise
        self.close()
        self.fd, self.path = other.fd, other.path

    def release(self) -> None:
        """Close a file that was opened to be read."""
        if not self.is_kept_open:
            self.close()

    def close(self) -> None:
        """Close the file and leave it where it is."""
        fd, self.fd = self.fd, _CLOSED
        if fd != _CLOSED:
            os.close(fd)

    def remove(self) -> None:
        """Close the file and delete it; on a disk that does not allow for that it stays."""
        self.close()
        with suppress(OSError):
            self.path.unlink()


def _no_room() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_LEAST_CHUNK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines with consecutive numbers."""

    first: int
    lines: tuple[bytes, ...]
    entry_of: Callable[[bytes], bytes | None]

    @property
    def next(self) -> int:
        """The number that comes next."""
        return self.first + len(self.lines)

    def split(self, most: int | None = None) -> tuple[list[bytes], list[bytes]]:
        """The entries of the first `most` lines, in their order, and the lines that are damaged."""
        entries: list[bytes] = []
        damaged: list[bytes] = []
        for line in self.lines[:most]:
            if (entry := self.entry_of(line)) is None:
                damaged.append(line)
            else:
                entries.append(entry)
        return entries, damaged


class Reader:
    """Reads on from where it was, at full speed; elsewhere it has to look for the line first.

    Args:
        segments: in their order; they may change meanwhile.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._segment: Segment | None = None
        self._number = 0
        self._offset = 0

    def read(self, number: int, max_lines: int, max_bytes: int) -> Lines | None:
        """Lines from `number` on, or from the next one that is there; None behind the last one.

        At least one line, whatever its size, and never more than one segment has.
        """
        found = self._find(number)
        if found is None:
            return None
        segment, end = found
        self._go_to(segment, max(number, segment.first))
        max_lines = min(max_lines, end - self._number)
        chunk = self._read_chunk(segment, max_lines, max_bytes)
        lines: list[bytes] = []
        size_bytes = 0
        for line in chunk[:-1].split(b"\n")[:max_lines]:
            if lines and size_bytes + len(line) > max_bytes:
                break
            lines.append(line)
            size_bytes += len(line) + 1
        found_lines = Lines(self._number, tuple(lines), segment.entry_of)
        self._number += len(lines)
        self._offset += size_bytes
        return found_lines

    def rest_of_segment(self, number: int) -> int:
        """How many lines there should be from `number` to the end of its segment."""
        found = self._find(number)
        return 0 if found is None else found[1] - number

    def _find(self, number: int) -> tuple[Segment, int] | None:
        """The segment that has the line, or else the next one; and the number at which its lines end.

        Where segments overlap the later one counts: the earlier one has a line whose call never returned.
        """
        segments = [segment for segment in tuple(self._segments) if segment.count]
        for segment, following in zip_longest(segments, segments[1:]):
            end = segment.next if following is None else min(segment.next, following.first)
            if number < end:
                return segment, end
        return None

    def _go_to(self, segment: Segment, number: int) -> None:
        if self._segment is segment and self._number == number:
            return
        if self._segment is not None and self._segment is not segment:
            self._segment.release()
        self._segment, self._number, self._offset = segment, segment.first, 0
        while self._number < number:
            chunk = self._read_chunk(segment, number - self._number, segment.size_bytes)
            lines = chunk.split(b"\n", number - self._number)
            self._number += len(lines) - 1
            self._offset += len(chunk) - len(lines[-1])

    def _read_chunk(self, segment: Segment, lines: int, max_bytes: int) -> bytes:
        """At least one complete line, and not much more than the lines that are asked for."""
        rest_bytes = segment.size_bytes - self._offset
        usual_bytes = lines * (segment.size_bytes // segment.count + 1)
        size_bytes = max(min(usual_bytes, max_bytes), _LEAST_CHUNK_BYTES)
        while True:
            chunk = segment.read(self._offset, min(size_bytes, rest_bytes))
            end = chunk.rfind(b"\n") + 1
            if end:
                return chunk[:end]
            if size_bytes >= rest_bytes:
                raise OSError(f"{segment.path}: its lines cannot be read any more")
            size_bytes *= 2
