"""The files of one process: its segments and its marks, in a folder that it has locked."""

import os
from contextlib import suppress
from pathlib import Path

from execution_logger.journal.directory import LOCK_NAME
from execution_logger.journal.marks import Marks
from execution_logger.journal.reader import Reader
from execution_logger.journal.segment import SUFFIX, Segment

_PROBE_NAME = "probe"
_PROBE_BYTES = 65_536


class JournalFiles:
    """What the living journal of a process and the one that a dead process has left have in common."""

    def __init__(self, folder: Path, lock_fd: int | None) -> None:
        self.folder = folder
        self.segments: list[Segment] = []
        self.marks = Marks(folder)
        self.reader = Reader(self.segments)
        self.lock_fd = lock_fd

    def open_segments(self) -> None:
        """Open what is there; raises OSError.

        Where lines are missing or too many, their numbers are not those of the marks any more: then all
        is taken for unsent, which costs a duplicate that nobody sees.
        """
        self.marks = Marks.read(self.folder)
        for path in sorted(path for path in self.folder.glob(f"*{SUFFIX}") if path.stem.isdecimal()):
            segment = Segment.open(path)
            if self.segments and segment.first != self.next:
                segment.first = max(segment.first, self.next)
                # Nor are new ones noted down: the files bear the old numbers, for whoever comes next.
                self.marks = Marks(self.folder, is_written=False)
            self.segments.append(segment)

    @property
    def size_bytes(self) -> int:
        """The size of all segments."""
        return sum(segment.size_bytes for segment in self.segments)

    @property
    def first(self) -> int:
        """The number of the first line."""
        return self.segments[0].first if self.segments else 1

    @property
    def next(self) -> int:
        """The number of the line that comes next."""
        return self.segments[-1].next if self.segments else 1

    def has(self, first: int, count: int) -> bool:
        """Whether all these lines are there."""
        number = first
        for segment in self.segments:
            if segment.first <= number < segment.next:
                number = segment.next
        return number >= first + count

    def probe(self) -> None:
        """Find out whether the disk takes something again; raises OSError."""
        path = self.folder / _PROBE_NAME
        try:
            path.write_bytes(bytes(_PROBE_BYTES))
        finally:
            path.unlink(missing_ok=True)

    def are_there(self) -> bool:
        """Whether nobody has deleted one of the files."""
        try:
            lock = (self.folder / LOCK_NAME).stat()
        except FileNotFoundError:
            return False
        is_ours = self.lock_fd is not None and os.path.samestat(lock, os.fstat(self.lock_fd))
        return is_ours and all(segment.is_in(self.folder) for segment in self.segments)

    def replace_lock(self, lock_fd: int) -> None:
        """Use the lock of a folder that was made anew."""
        if self.lock_fd is not None:
            os.close(self.lock_fd)
        self.lock_fd = lock_fd

    def remove_settled(self) -> None:
        """Delete the segments whose entries are all safe, except for the last one."""
        while len(self.segments) > 1 and self.segments[1].first <= self.marks.settled + 1:
            self.segments.pop(0).remove()

    def remove(self) -> None:
        """Delete all that is ours, the lock last: who finds the folder meanwhile cannot have it.

        A folder with anything else in it stays.
        """
        while self.segments:
            self.segments.pop().remove()
        self.marks.remove()
        with suppress(OSError):
            (self.folder / _PROBE_NAME).unlink(missing_ok=True)
            (self.folder / LOCK_NAME).unlink()
            self.folder.rmdir()
        self.close()

    def close(self) -> None:
        """Close everything, which ends the lock, and leave it where it is.

        In a forked child this closes the child's descriptors only: the lock is the parent's.
        """
        while self.segments:
            self.segments.pop().close()
        self.marks.close()
        lock_fd, self.lock_fd = self.lock_fd, None
        if lock_fd is not None:
            os.close(lock_fd)
