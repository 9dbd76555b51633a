"""Looking for what dead processes have left: each journal is adopted by exactly one process."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from execution_logger.diagnostics import report
from execution_logger.journal.adopted import AdoptedJournal
from execution_logger.journal.directory import Destination, check_folder
from execution_logger.journal.identity import is_child
from execution_logger.journal.segment import Segment
from execution_logger.settings import Settings

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


def _ages_in(folder: Path) -> dict[Path, float]:
    """When each folder in it was changed; without those that vanish meanwhile."""
    ages: dict[Path, float] = {}
    with os.scandir(folder) as found:
        for each in found:
            with suppress(FileNotFoundError):
                if each.is_dir(follow_symlinks=False):
                    ages[folder / each.name] = each.stat(follow_symlinks=False).st_mtime
    return ages
