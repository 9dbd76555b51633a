"""Looking for what dead processes have left: each journal is adopted by exactly one process."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from execution_logger.diagnostics import report
from execution_logger.journal.adopted import AdoptedJournal
from execution_logger.journal.directory import Destination
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
        self._unreadable: set[Path] = set()

    def seconds_until_look(self) -> float:
        """Seconds until it is time to look again."""
        return max(0.0, self._look_at - self._monotonic())

    def look(self) -> list[AdoptedJournal]:
        """Adopt what is there, a few at a time; return what is new."""
        self._look_at = self._monotonic() + self._settings.adopt_interval_seconds
        found = []
        for folder in self._left_folders():
            if len(self.journals) >= _AT_ONCE:
                break
            if (journal := self._adopt(folder)) is not None:
                self.journals.append(journal)
                found.append(journal)
        return found

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

    def _adopt(self, folder: Path) -> AdoptedJournal | None:
        try:
            journal = AdoptedJournal.adopt(folder, self._settings)
        except FileNotFoundError:  # another process was faster, and is done
            return None
        except OSError as error:
            if folder not in self._unreadable:
                self._unreadable.add(folder)
                report(logging.WARNING, "what a process has left in %s cannot be read: %s", folder, error)
            return None
        self._unreadable.discard(folder)
        return journal

    def _left_folders(self) -> Iterator[Path]:
        """The folders of other processes, locked or not, the oldest first."""
        ours = {self._own_process, *(journal.process for journal in self.journals)}
        ages: dict[Path, float] = {}
        for folder in self._folders:
            with suppress(OSError):  # there is none, or another process is tidying up
                for path in folder.iterdir():
                    if path.is_dir() and path.name not in ours:
                        ages[path] = path.stat().st_mtime
        now = time.time()
        for path in sorted(ages, key=ages.__getitem__):
            # A process makes its folder first, and locks it then.
            if now - ages[path] > _BEING_MADE_SECONDS or any(path.glob("*.ndjson")):
                yield path
