"""The files of one process: its segments and its marks, in a folder that it has locked."""

import errno
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from execution_logger.diagnostics import report
from execution_logger.entry.batch import Batch, NotNowError
from execution_logger.journal.directory import DAMAGED_NAME, LOCK_NAME, open_ours
from execution_logger.journal.marks import Marks, SentMark, SettledMark
from execution_logger.journal.segment import Lines, Reader, Segment

_PROBE_NAME = "probe"
_PROBE_BYTES = 65_536
_PROBE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_DAMAGED_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_NOT_NOW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_KEPT_OPEN = 8
"""Segments that whoever deletes them takes nothing of: 64 MiB, as much as memory may hold."""


class JournalFiles:
    """What the living journal of a process and the one that a dead process has left have in common."""

    def __init__(self, folder: Path, lock_fd: int | None) -> None:
        self.folder = folder
        self.segments: list[Segment] = []
        self.unread: deque[Segment] = deque()
        """Those whose turn has not come: how many lines they have is not known yet."""
        self.marks = Marks(folder)
        self.reader = Reader(self.segments)
        self.lock_fd = lock_fd
        # Held while a file is used or closed by the thread that ships; a call that finds it taken goes on.
        self.using = threading.Lock()
        self._set_aside_from: set[int] = set()

    def find(self) -> None:
        """Find what is there, and read none of it but the marks; raises OSError."""
        self.unread.extend(Segment.left_in(self.folder))
        self.marks = Marks.read(self.folder)

    def open_next(self) -> bool:
        """Measure the next segment, as its turn has come; False when there is none. Raises OSError.

        Where lines are missing or too many, their numbers are not those of the marks any more: then what
        is not known to be safe is taken for unsent, which costs a duplicate that nobody sees. Nor are new
        marks noted down: the files bear the old numbers, for whoever comes next.
        """
        if not self.unread:
            return False
        segment = self.unread[0]
        segment.measure()
        self.segments.append(self.unread.popleft())
        if self.unread and self.unread[0].first != segment.next:
            self.unread[0].first = max(self.unread[0].first, segment.next)
            self.marks.forget()
        return True

    def check_marks(self) -> bool:
        """Measure one more of the segments that the marks tell of; False when all are. Raises OSError."""
        return self.next <= self.marks.highest and self.open_next()

    def close_old(self) -> None:
        """Close all but the newest of those that were written, unless that would have to wait."""
        if not self.using.acquire(blocking=False):
            return
        try:
            for segment in self.segments[:-_KEPT_OPEN]:
                if segment.is_kept_open:
                    segment.is_kept_open = False
                    segment.close()
        finally:
            self.using.release()

    @property
    def size_bytes(self) -> int:
        """The size of all segments."""
        return sum(segment.size_bytes for segment in self.segments)

    @property
    def first(self) -> int:
        """The number of the first line."""
        return next((segment.first for segment in (*self.segments, *self.unread)), 1)

    @property
    def next(self) -> int:
        """The number of the line that comes next to those that are measured."""
        return self.segments[-1].next if self.segments else self.first

    @property
    def end(self) -> int:
        """The number of the line that comes next to the last one, whatever is in between; raises OSError."""
        if not self.unread:
            return self.next
        self.unread[-1].measure()
        return self.unread[-1].next

    @property
    def is_settled(self) -> bool:
        """Whether all entries are."""
        return self.next <= self.marks.settled + 1

    def has(self, first: int, count: int) -> bool:
        """Whether all these lines are there."""
        number = first
        for segment in self.segments:
            if segment.first <= number < segment.next:
                number = segment.next
        return number >= first + count

    def read_batch(self, number: int, max_entries: int, max_bytes: int) -> Batch:
        """The batch of the entries from `number` on, or from the next ones that are there.

        What cannot be read any more counts as missing, and damaged lines are kept aside: neither may
        stop what comes after it. Without any entries it is empty, and `count` says how far to go.
        Raises NotNowError.
        """
        process = self.folder.name
        try:
            found = self._read(number, max_entries, max_bytes)
        except NotNowError:
            raise
        except OSError as error:
            missing = self.reader.rest_of_segment(number)
            report(logging.ERROR, "%d entries of a journal cannot be read any more: %s", missing, error)
            return Batch((), process=process, first=number, missing=missing)
        if found is None:
            return Batch((), process=process, first=number)
        entries, damaged = found.split()
        self._set_aside(found.first, damaged)
        return Batch(tuple(entries), process=process, first=found.first, missing=len(damaged))

    def read_again(self, first: int, count: int) -> tuple[bytes, ...]:
        """The entries of a batch that was made before; raises OSError."""
        entries: list[bytes] = []
        number, end = first, first + count
        while number < end and (found := self._read(number, end - number, self.size_bytes)) is not None:
            # Where lines are missing the next ones are found, which may be another batch's.
            good, damaged = found.split(max(0, end - found.first))
            self._set_aside(found.first, damaged)
            entries += good
            number = found.next
        return tuple(entries)

    def _set_aside(self, number: int, damaged: Sequence[bytes]) -> None:
        """Keep the damaged ones of the lines from `number` on, and say so; only once."""
        if not damaged or number in self._set_aside_from:
            return
        self._set_aside_from.add(number)
        is_kept = set_aside(self.folder.parent, damaged)
        where = "are in damaged.ndjson now" if is_kept else "are lost, as the disk takes nothing"
        report(logging.ERROR, "damaged lines of %s, which %s: %d", self.folder, where, len(damaged))

    def _read(self, number: int, max_lines: int, max_bytes: int) -> Lines | None:
        try:
            with self.using:
                return self.reader.read(number, max_lines, max_bytes)
        except OSError as error:
            if error.errno in _NOT_NOW:
                raise NotNowError(error.errno, error.strerror, error.filename) from error
            raise

    def probe(self) -> None:
        """Find out whether the disk takes something again; raises OSError."""
        path = self.folder / _PROBE_NAME
        try:
            with os.fdopen(open_ours(path, _PROBE_FLAGS), "wb") as file:
                file.write(bytes(_PROBE_BYTES))
        finally:
            path.unlink(missing_ok=True)

    def are_there(self) -> bool:
        """Whether nobody has deleted one of the files."""
        try:
            lock = (self.folder / LOCK_NAME).stat()
        except FileNotFoundError:
            return False
        is_ours = self.lock_fd is not None and os.path.samestat(lock, os.fstat(self.lock_fd))
        with self.using:  # or a call that begins a segment closes an old one while it is looked at
            return is_ours and all(segment.is_in(self.folder) for segment in self.segments)

    def replace_lock(self, lock_fd: int) -> None:
        """Use the lock of a folder that was made anew."""
        if self.lock_fd is not None:
            os.close(self.lock_fd)
        self.lock_fd = lock_fd

    def mark_sent(self, batch: Batch, at: float) -> None:
        """Note down that a batch was sent, in seconds since 1970, for whoever goes on if we cannot."""
        self.marks.add(SentMark(batch.id, batch.first, batch.count, at))

    def settle(self, number: int) -> None:
        """Forget all entries up to this number, and delete what that makes possible."""
        self.marks.add(SettledMark(number))
        self.remove_settled()

    def remove_settled(self) -> None:
        """Delete the segments whose entries are all safe, except for the last one."""
        with self.using:
            while self.segments and self._second is not None and self._second.first <= self.marks.settled + 1:
                self.segments.pop(0).remove()

    @property
    def _second(self) -> Segment | None:
        following = self.segments[1:2] or tuple(self.unread)[:1]
        return following[0] if following else None

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
        self.unread.clear()
        while self.segments:
            self.segments.pop().close()
        self.marks.close()
        lock_fd, self.lock_fd = self.lock_fd, None
        if lock_fd is not None:
            os.close(lock_fd)


def set_aside(folder: Path, lines: Sequence[bytes]) -> bool:
    """Keep damaged lines in the folder of their destination; False when the disk did not take them all."""
    data = b"".join(line + b"\n" for line in lines)
    try:
        fd = open_ours(folder / DAMAGED_NAME, _DAMAGED_FLAGS)
        try:
            return os.write(fd, data) == len(data)
        finally:
            os.close(fd)
    except OSError:
        return False
