"""The journal of this process: every entry, on disk before its call returns."""

import errno
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from execution_logger.entry.batch import Batch
from execution_logger.journal.directory import Destination, lock_folder, make_process_folder
from execution_logger.journal.files import JournalFiles
from execution_logger.journal.segment import Segment
from execution_logger.settings import Settings

_SEGMENT_BYTES = 8_388_608
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Journal:
    """Appends entries to segments until they are settled.

    `append` is called under the lock of the buffer, by whichever thread logs; everything else by the
    one thread that ships. What goes wrong with the disk stops nothing: the journal is suspended, says
    why in `error`, and `look_after` opens it again when that is possible.

    Args:
        destination: in whose folder it has one of its own.
        process: the name of this process, and of its folder.
        settings: bound it, and say whether each entry waits for the disk.
        guard: the lock under which `append` is called.
    """

    def __init__(
        self,
        destination: Destination,
        process: str,
        settings: Settings,
        guard: AbstractContextManager[object],
    ) -> None:
        self.error: str | None = None
        """Why it keeps no entries at the moment."""
        self.is_full = False
        """Whether that is for want of room, which settling entries makes."""
        self.process = process
        self._destination = destination
        self._folder = destination.folder / process
        self._guard = guard
        self._max_bytes = settings.journal_max_bytes
        self._segment_bytes = min(_SEGMENT_BYTES, settings.journal_max_bytes // 4)
        self._sync = settings.journal_fsync
        self._files = self._none = JournalFiles(self._folder, None)  # as long as none are open
        self._none.marks.forget()
        self._let_go: weakref.finalize[..., Any] = weakref.finalize(self, bool)
        """Closes the files; called once, or when it is collected."""
        self._active: Segment | None = None
        self._is_begun = False

    # Under the guard -------------------------------------------------------------------------

    def append(self, number: int, encoded: bytes) -> bool:
        """Write an entry; False when it is not on the disk. Never raises because of the disk.

        Args:
            number: of the entry, one more than that of the entry before.
            encoded: its JSON, without line breaks.
        """
        active = self._active
        # Not `active.next`: a property costs as much as the rest of the line.
        if (
            active is None
            or active.first + active.count != number
            or active.size_bytes >= self._segment_bytes
        ):
            active = self._begin(number)
            if active is None:
                return False
        try:
            active.append(encoded)
            if self._sync:
                active.sync()
        except OSError as error:
            self._suspend(error)
            return False
        return True

    def _begin(self, number: int) -> Segment | None:
        """Begin the segment that `number` is the first entry of; the first one makes the folder."""
        if self._active is None and self._is_begun:
            return None  # suspended: to try again is not for a logging call, which would wait for the disk
        try:
            self._begin_segment(self._opened(), number)
        except OSError as error:
            self._suspend(error)
        finally:
            self._is_begun = True  # and not before, or the other thread would open them as well
        return self._active

    def _begin_segment(self, files: JournalFiles, number: int) -> None:
        if not self.has_room:
            raise OSError(
                errno.EDQUOT, f"EXECUTION_LOGGER_JOURNAL_MAX_BYTES={self._max_bytes} bytes are in use"
            )
        last = files.segments[-1] if files.segments else None
        if last is not None and last.first == number:
            last.clear()  # all that it has is a line whose call never returned
        else:
            last = Segment.create(self._folder, number)
            files.segments.append(last)
            files.close_old()
        self._active = last

    def _suspend(self, error: OSError) -> None:
        self._active = None
        self.error = f"{self._folder}: {error}"
        self.is_full = error.errno in _NO_ROOM

    # In the thread that ships ----------------------------------------------------------------

    def look_after(self, next_number: Callable[[], int]) -> None:
        """Open it again after a failure, and write anew what somebody has deleted.

        Args:
            next_number: tells the number of the entry that comes next; called under the guard.
        """
        if not self._is_begun:
            return
        try:
            files = self._opened()
            if not files.are_there():
                self._restore(files)
            if self._active is None:
                files.probe()
                with self._guard:
                    self._begin_segment(files, next_number())
                self.error, self.is_full = None, False
        except OSError as error:
            with self._guard:
                self._suspend(error)

    def mark_sent(self, batch: Batch, at: float) -> None:
        """Note down that a batch was sent, for whoever goes on if we cannot."""
        self._files.mark_sent(batch, at)

    def settle(self, number: int) -> None:
        """Forget all entries up to this number; what can be deleted at once is."""
        self._files.settle(number)

    @property
    def is_settled(self) -> bool:
        """Whether it has entries, and all of them are settled."""
        active, files = self._active, self._files
        return active is not None and bool(active.count) and active.next <= files.marks.settled + 1

    def empty(self) -> None:
        """Delete entries that are settled, all of which are.

        Not at each batch: it is a file made and one deleted, while calls wait.
        """
        files = self._files
        with self._guard:
            active = self._active
            if active is not None and self.is_settled:
                try:
                    self._begin_segment(files, active.next)
                except OSError as error:
                    self._suspend(error)
        files.remove_settled()

    def has(self, first: int, count: int) -> bool:
        """Whether these entries are on the disk."""
        return self._files.has(first, count)

    def read_batch(self, number: int, max_entries: int, max_bytes: int) -> Batch:
        """A batch of the entries from `number` on; see `JournalFiles.read_batch`."""
        return self._files.read_batch(number, max_entries, max_bytes)

    def read_again(self, first: int, count: int) -> tuple[bytes, ...]:
        """The entries of a batch that was sent; raises OSError."""
        return self._files.read_again(first, count)

    @property
    def has_room(self) -> bool:
        """Whether its budget allows for another segment."""
        return self.size_bytes + self._segment_bytes <= self._max_bytes

    @property
    def is_suspended(self) -> bool:
        """Whether it takes nothing until it is looked after: it has failed, or its opening was broken off."""
        return self._is_begun and self._active is None

    @property
    def is_used(self) -> bool:
        """Whether it has entries that are not settled."""
        return not self._files.is_settled

    @property
    def size_bytes(self) -> int:
        """What it has on the disk."""
        return self._files.size_bytes

    def close(self) -> None:
        """Delete it when all entries are settled; otherwise it stays, and locked, until the process ends."""
        with self._guard:
            files = self._files
            if files is not self._none and files.is_settled:
                self._files, self._active = self._none, None
                self._is_begun = self.is_full = False
                self.error = None
                files.remove()
                self._let_go()

    def abandon(self) -> None:
        """Let go of it in a forked child: it is the parent's."""
        self._files, self._active = self._none, None
        self._let_go()

    def _opened(self) -> JournalFiles:
        return self._open_files() if self._files is self._none else self._files

    def _open_files(self) -> JournalFiles:
        make_process_folder(self._destination, self.process)
        self._destination.note_down()
        lock_fd = lock_folder(self._folder)
        if lock_fd is None:
            raise OSError(errno.EWOULDBLOCK, "another process looks at it")
        self._files = JournalFiles(self._folder, lock_fd)
        self._let_go = weakref.finalize(self, self._files.close)
        # Not at the end of the interpreter, when entries are still being shipped.
        self._let_go.atexit = False
        return self._files

    def _restore(self, files: JournalFiles) -> None:
        """Write everything anew from the files that are still open."""
        make_process_folder(self._destination, self.process)
        lock_fd = lock_folder(self._folder)
        if lock_fd is not None:
            files.replace_lock(lock_fd)
        with files.using:
            for segment in files.segments[:-1]:
                segment.restore(self._folder)
            for segment in files.segments[-1:]:
                with self._guard:  # a call that writes meanwhile must not write to the old file
                    segment.restore(self._folder)
        files.marks.rewrite()


class NoJournal(Journal):
    """Of a process that keeps nothing on disk: it takes nothing, and has nothing."""

    def __init__(self, guard: AbstractContextManager[object]) -> None:
        super().__init__(Destination(Path(), ""), "", Settings(), guard)

    def append(self, number: int, encoded: bytes) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def look_after(self, next_number: Callable[[], int]) -> None:
        """There is nothing to open."""
