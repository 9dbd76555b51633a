"""Looking for what dead processes have left: each journal is adopted by exactly one process."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from execution_logger.diagnostics import report
from execution_logger.entry.batch import Batch, Watermark
from execution_logger.journal.directory import Destination, check_folder, lock_folder
from execution_logger.journal.files import JournalFiles
from execution_logger.journal.marks import SentMark
from execution_logger.journal.process import is_child
from execution_logger.journal.segment import Segment
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
            batch = self._files.read_batch(self._number, *limits)
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
            self._files.mark_sent(batch, awaited_since)

    def settle(self, first: int, count: int) -> None:
        """Forget entries that are safe elsewhere."""
        if self._settled.add(first, count):
            self._files.settle(self._settled.value)

    def keeps(self, first: int, count: int) -> bool:
        """Whether these entries can be read again."""
        return self._files.has(first, count)

    def read_again(self, first: int, count: int) -> tuple[bytes, ...]:
        """The entries of a batch that was sent; raises OSError."""
        return self._files.read_again(first, count)

    def remove(self) -> bool:
        """Delete it, as nothing is left to ship; return whether that was possible."""
        self._files.remove()
        return not self._files.folder.exists()

    def close(self) -> None:
        """Leave it to whoever adopts it next; a forked child lets go of its parent's with this."""
        self._files.close()


_AT_ONCE = 4
_BEING_MADE_SECONDS = 60.0


class Adoption:
    """The journals that this process ships for dead ones.

    Args:
        destination: in whose folders to look.
        own_process: whose journal is nobody's to adopt.
        settings: how often to look.
        monotonic: seconds; tests inject their own.
    """

    def __init__(
        self,
        destination: Destination,
        own_process: str,
        settings: Settings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.journals: list[AdoptedJournal] = []
        self._folders = destination.folders
        self._own_process = own_process
        self._settings = settings
        self._monotonic = monotonic
        self._look_at = 0.0
        self._only_children = False
        self._unreadable: set[Path] = set()

    def seconds_until_look(self) -> float:
        """Seconds until it is time to look again."""
        return max(0.0, self._look_at - self._monotonic())

    def look(self) -> list[AdoptedJournal]:
        """Adopt what is there, a few at a time, and read none of it yet; return what is new.

        Never raises because of the disk.
        """
        found = []
        self._look_at = self._monotonic() + self._settings.adopt_interval_seconds
        for folder in self._left_folders():
            if len(self.journals) >= _AT_ONCE:
                break
            with self._reading(folder):
                if (journal := AdoptedJournal.adopt(folder, self._settings)) is not None:
                    self.journals.append(journal)
                    found.append(journal)
        return found

    def leave(self, journal: AdoptedJournal, error: OSError) -> None:
        """Leave one that cannot be read now to whoever looks next."""
        self.journals.remove(journal)
        journal.close()
        self._report(journal.folder, error)

    def look_for_children(self) -> bool:
        """At the end of the process, adopt what its own children have left, and no more; whether that may be.

        `multiprocessing.Pool` ends its children by a signal that lets them send nothing.
        """
        self._only_children = True
        self._look_at = 0.0
        return next(self._left_folders(), None) is not None

    def look_for_all(self) -> None:
        """Adopt what any process has left, as before."""
        self._only_children = False

    def remove_done(self) -> None:
        """Delete the journals of which nothing is left to ship, and look for more."""
        for journal in [journal for journal in self.journals if journal.is_done]:
            self.journals.remove(journal)
            if journal.remove():
                self._look_at = 0.0

    def close(self) -> None:
        """Leave the rest to whoever looks next; a forked child lets go of its parent's with this."""
        for journal in self.journals:
            journal.close()
        self.journals.clear()
        self._look_at = 0.0
        self._only_children = False

    @contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        """Report what cannot be read, once; what is not there any more is no news."""
        try:
            yield
        except FileNotFoundError:  # another process was faster, and is done
            return
        except OSError as error:
            self._report(path, error)

    def _report(self, path: Path, error: OSError) -> None:
        if path not in self._unreadable:
            self._unreadable.add(path)
            report(logging.WARNING, "what a process has left in %s cannot be read: %s", path, error)

    def _left_folders(self) -> Iterator[Path]:
        """The folders of other processes, locked or not, the oldest first."""
        ages: dict[Path, float] = {}
        for folder in self._folders:
            with self._reading(folder):
                check_folder(folder)
                ages |= _ages_in(folder)
        ours = {self._own_process, *(journal.process for journal in self.journals)}
        # Those that could not be read come last, or they would take the places of the others for ever.
        for path in sorted(ages, key=lambda path: (path in self._unreadable, ages[path])):
            if self._only_children and not is_child(path.name):
                continue
            if path.name not in ours and self._is_left(path, ages[path]):
                yield path

    def _is_left(self, path: Path, changed_at: float) -> bool:
        with self._reading(path):
            check_folder(path)
            # A process makes its folder first, and locks it then.
            return time.time() - changed_at > _BEING_MADE_SECONDS or bool(Segment.left_in(path))
        return False


class NoAdoption(Adoption):
    """Of a process that keeps nothing on disk: it looks for nothing, and ships for nobody."""

    def __init__(self) -> None:
        super().__init__(Destination(Path(), ""), "", Settings())

    def seconds_until_look(self) -> float:
        """Never."""
        return math.inf

    def look_for_children(self) -> bool:
        """They have left nothing."""
        return False


def _ages_in(folder: Path) -> dict[Path, float]:
    """When each folder in it was changed; without those that vanish meanwhile."""
    ages: dict[Path, float] = {}
    with os.scandir(folder) as found:
        for each in found:
            with suppress(FileNotFoundError):
                if each.is_dir(follow_symlinks=False):
                    ages[folder / each.name] = each.stat(follow_symlinks=False).st_mtime
    return ages
