"""Journals in a test's folder: entries that tell their number, and what dead processes leave."""

import json
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from execution_logger import Settings
from execution_logger.entry.batch import Batch
from execution_logger.journal import Destination, Journal, segment


def entry(number: int, size_bytes: int = 0) -> bytes:
    """An entry that tells its number, of at least that size."""
    fields = {"id": f"id-{number}", "task_id": "t", "message": "x" * size_bytes, "number": number}
    return json.dumps(fields).encode()


def entries(first: int, last: int) -> list[bytes]:
    """Those from one number to another."""
    return [entry(number) for number in range(first, last + 1)]


def numbers_of(found: Iterable[bytes]) -> list[int]:
    """The numbers that entries tell."""
    return [json.loads(each)["number"] for each in found]


def write_segment(folder: Path, first: int, lines: Iterable[bytes]) -> Path:
    """A segment whose lines have their checksums."""
    path = folder / f"{first:020}{segment.SUFFIX}"
    path.write_bytes(b"".join(map(segment.line_of, lines)))
    return path


def entries_in(path: Path) -> list[bytes]:
    """What the lines of a segment hold, each of which must be whole."""
    return [held for line in path.read_bytes().splitlines() if (held := segment.checked(line)) is not None]


def destination_in(folder: Path) -> Destination:
    """A destination whose journals are in this folder."""
    return Destination(folder / "logs-1", "redis://localhost logs")


def measured(path: Path) -> segment.Segment:
    """A segment that a process has left, whose lines are counted."""
    found = segment.Segment(path, int(path.stem))
    found.measure()
    return found


def replace_write(patched: pytest.MonkeyPatch, write: Callable[[int, bytes], int]) -> None:
    """Let whatever a journal writes be written in another way."""
    patched.setattr(os, "write", write)
    patched.setattr(segment, "write", write)


class DyingProcess:
    """What one process has on the disk until it dies: `die()` lets go of everything, as its end would."""

    def __init__(
        self,
        folder: Path,
        name: str = "dead",
        settings: Settings | None = None,
        *,
        to: Destination | None = None,
    ) -> None:
        to = to or destination_in(folder)
        self.folder = to.folder / name
        self.journal = Journal(to, name, settings or Settings(), threading.RLock())
        self._number = 0

    def log(self, count: int) -> "DyingProcess":
        """Record so many more entries."""
        for _ in range(count):
            self._number += 1
            assert self.journal.append(self._number, entry(self._number))
        return self

    def log_in_memory_only(self, count: int) -> "DyingProcess":
        """Record entries while the disk takes none; it does again for the next one."""
        self._number += count
        self.journal._suspend(OSError("the disk is full"))
        self.journal.look_after(lambda: self._number + 1)
        assert self.journal.error is None
        return self

    def send(self, first: int, last: int) -> "DyingProcess":
        """Note down that a batch was sent."""
        batch = Batch(tuple(entries(first, last)), f"batch-{first}", process="dead", first=first)
        self.journal.mark_sent(batch, at=1000.0 + first)
        return self

    def settle(self, number: int) -> "DyingProcess":
        """Note down that all entries up to this one are stored."""
        self.journal.settle(number)
        return self

    def die(self) -> Path:
        """Return the folder that it leaves."""
        self.journal.abandon()
        return self.folder
