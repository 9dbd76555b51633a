"""Which calls of a host have begun and which have returned: known also after its `kill -9`.

Used on both sides, by the host's process and by the test that counts. It needs nothing but the
standard library, and nothing of the library that is being tested.
"""

import mmap
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

_SLOTS = 4
_SIZE = _SLOTS * 8


class Progress(NamedTuple):
    """How far a stream of calls has come: its calls are numbered 1, 2, 3, ..."""

    begun: int
    """The number of the call that was begun last."""
    returned: int
    """The number of the call that returned last: `begun`, or one less."""
    slowest_ns: int
    flushes: int
    """How many calls of flush() have begun."""


class Stream:
    """The calls of one thread of one process, counted in a file that is mapped into memory.

    A store into shared memory is the kernel's at once: `kill -9` of the process does not take it back.
    """

    def __init__(self, folder: Path, role: str) -> None:
        """Start at 0; `role` is the first part of the name, which is unique and the calls' `task_id`."""
        self.name = f"{role}.{os.getpid()}.{secrets.token_hex(4)}"
        unfinished = folder / f".{self.name}"
        unfinished.write_bytes(bytes(_SIZE))
        with unfinished.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SIZE)
        unfinished.rename(folder / self.name)
        self._slots = memoryview(self._memory).cast("Q")
        self._began_ns = 0

    def begin(self) -> str:
        """Count the next call before it is made; the message that it must carry."""
        number = self._slots[1] + 1
        self._slots[0] = number
        self._began_ns = time.perf_counter_ns()
        return str(number)

    def returned(self) -> None:
        """Count the call that has just returned."""
        slots = self._slots
        slots[1] = slots[0]
        slots[2] = max(slots[2], time.perf_counter_ns() - self._began_ns)

    def make(self, log: Callable[[str, str], object]) -> None:
        """Make the next call with the task id and the message that it must carry, and count it."""
        log(self.name, self.begin())
        self.returned()

    def flush(self, flush: Callable[[], object]) -> None:
        """Count the call before it is made."""
        self._slots[3] += 1
        flush()

    def close(self) -> None:
        """Unmap the file, which stays."""
        self._slots.release()
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def progress_of(folder: Path) -> dict[str, Progress]:
    """How far each stream has come, by its name."""
    files = [file for file in folder.iterdir() if not file.name.startswith(".")]
    return {file.name: _read(file) for file in files}


def _read(file: Path) -> Progress:
    values = memoryview(file.read_bytes()).cast("Q")
    return Progress(*values)
