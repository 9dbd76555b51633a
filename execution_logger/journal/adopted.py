"""Journals that dead processes have left: taken over, shipped in order, and removed."""

from pathlib import Path
from typing import Self

from execution_logger.entry.batch import Batch, Watermark
from execution_logger.journal.batches import read_again, read_batch
from execution_logger.journal.directory import lock_folder
from execution_logger.journal.files import JournalFiles
from execution_logger.journal.marks import SentMark, SettledMark
from execution_logger.settings import Settings


class AdoptedJournal:
    """The entries of a dead process that are not known to be safe: a source like the process's own buffer.

    It is locked: no other process ships these entries as long as this one lives.
    """

    def __init__(self, files: JournalFiles, settings: Settings) -> None:
        self.folder = files.folder
        self.process = files.folder.name
        self.is_begun = False
        """Whether it is known what the dead process had sent: all that follows needs that."""
        self._files = files
        self._settings = settings
        self._settled = Watermark()
        self._unconfirmed: list[SentMark] = []
        self._number = 1
        self._taken: Batch | None = None
        if not files.marks.highest:
            self.begin()

    @classmethod
    def adopt(cls, folder: Path, settings: Settings) -> Self | None:
        """Take over a process's folder; None when the process lives, or somebody was faster.

        Raises OSError when the folder cannot be read.
        """
        lock_fd = lock_folder(folder)
        if lock_fd is None:
            return None
        files = JournalFiles(folder, lock_fd)
        try:
            files.find()
        except BaseException:
            files.close()
            raise
        return cls(files, settings)

    def begin(self) -> bool:
        """Find out what the dead process had sent, one segment at a time; True when that is known.

        Raises OSError when it cannot be read.
        """
        if self.is_begun or self._files.check_marks():
            return self.is_begun
        files, self.is_begun = self._files, True
        # What is before the first segment was settled, or never on the disk; the marks may not say so.
        self._settled = Watermark(max(files.marks.settled, files.first - 1))
        self._number = self._settled.value + 1
        for mark in sorted(files.marks.sent.values(), key=lambda mark: mark.first):
            # Behind a mark that is missing, all are sent once more.
            if mark.first == self._number:
                self._unconfirmed.append(mark)
                self._number += mark.count
        return True

    @property
    def unconfirmed(self) -> list[SentMark]:
        """Batches that the dead process had sent already; raises OSError."""
        self._begin_at_once()
        return self._unconfirmed

    @property
    def pending(self) -> int:
        """Entries that are not known to be safe; raises OSError."""
        self._begin_at_once()
        return max(0, self._files.end - 1 - self._settled.value)

    @property
    def is_done(self) -> bool:
        """Whether all that can be read of it is safe elsewhere."""
        return not self.has_more and self._settled.value >= self._files.next - 1

    @property
    def has_more(self) -> bool:
        """Whether there is something to find out, or are batches that were not sent yet."""
        is_sent = self._taken is None and self._number >= self._files.next
        return not (self.is_begun and is_sent and not self._files.unread)

    def take(self) -> Batch | None:
        """The next batch, and the same one until it is sent; None when all have been sent.

        Nothing is read before its turn. Raises OSError when it cannot be read now.
        """
        self._begin_at_once()
        while self._taken is None and (self._number < self._files.next or self._files.open_next()):
            limits = self._settings.max_batch_entries, self._settings.max_batch_bytes
            batch = read_batch(self._files, self.process, self._number, *limits)
            # Those in between, or up to the end, were never on the disk.
            first = batch.first if batch.count else max(self._number, self._files.next)
            if first > self._number:
                self.settle(self._number, first - self._number)
            self._number = first + batch.count
            if batch.entries:
                self._taken = batch
            elif batch.count:
                self.settle(batch.first, batch.count)
        return self._taken

    def _begin_at_once(self) -> None:
        while not self.begin():
            pass

    def sent(self, batch: Batch, *, awaited_since: float | None = None) -> None:
        """Go on to the next batch; this one is awaited, or settled next."""
        self._taken = None
        if awaited_since is not None:
            self._files.marks.add(SentMark(batch.id, batch.first, batch.count, awaited_since))

    def settle(self, first: int, count: int) -> None:
        """Forget entries that are safe elsewhere."""
        if self._settled.add(first, count):
            self._files.marks.add(SettledMark(self._settled.value))
            self._files.remove_settled()

    def keeps(self, first: int, count: int) -> bool:
        """Whether these entries can be read again."""
        return self._files.has(first, count)

    def read_again(self, first: int, count: int) -> tuple[bytes, ...]:
        """The entries of a batch that was sent; raises OSError."""
        return read_again(self._files, first, count)

    def remove(self) -> bool:
        """Delete it, as nothing is left to ship; return whether that was possible."""
        self._files.remove()
        return not self._files.folder.exists()

    def close(self) -> None:
        """Leave it to whoever adopts it next; a forked child lets go of its parent's with this."""
        self._files.close()
