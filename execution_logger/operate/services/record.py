"""What is known of a process, and whether it still lives.

A process id alone says little: after a crash or a reboot the number may be another program's. So the
process keeps its record locked, and the lock ends with it, however it ends. A record is locked before
it gets its name: one that is locked speaks of the process that holds the lock. Needs POSIX.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import msgspec
from filelock import FileLock, lock_descriptor

_PRIVATE_FILE = 0o600
_MOST_BYTES = 65_536


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A process that was started, and how it has ended if it could say so."""

    pid: int
    """Also the number of its session, which all that it has started belong to."""
    about: str
    """What it works on, for people: a queue or a page. No passwords."""
    started_at: datetime
    was_stopped: bool = False
    """Whether it was told to end."""
    ended_at: datetime | None = None
    exit_code: int | None = None


class Claim:
    """A process's own record, which it keeps locked until it closes it."""

    def __init__(self, path: Path, record: Record, fd: int) -> None:
        self.record = record
        self._path = path
        self._fd = fd

    @classmethod
    def take(cls, path: Path, about: str) -> Self | None:
        """Put a record of this process there; None when the process of the one that is there lives.

        Raises OSError when it cannot be written.
        """
        record = Record(pid=os.getpid(), about=about, started_at=datetime.now(UTC))
        # Of two that start at once each could find the other's place free.
        with FileLock(path.with_suffix(".lock"), mode=_PRIVATE_FILE):
            if read_record(path)[1]:
                return None
            return cls(path, record, _put(path, record))

    def finish(self, *, exit_code: int, was_stopped: bool) -> None:
        """Note how the process ends, and let go of the record."""
        os.close(_put(self._path, _ended(self.record, exit_code, was_stopped=was_stopped)))
        os.close(self._fd)


def read_record(path: Path) -> tuple[Record | None, bool]:
    """The record, and whether its process lives; (None, False) where none is, or none that can be read."""
    with suppress(FileNotFoundError), _opened(path) as fd:
        is_alive = not lock_descriptor(fd, blocking=False)
        with suppress(msgspec.MsgspecError):
            return msgspec.json.decode(os.read(fd, _MOST_BYTES), type=Record), is_alive
    return None, False


def note_end(path: Path, record: Record, *, exit_code: int, was_stopped: bool) -> None:
    """Note the end of a process that could not do so itself, unless another one has come since."""
    with FileLock(path.with_suffix(".lock"), mode=_PRIVATE_FILE):
        if read_record(path) == (record, False):
            os.close(_put(path, _ended(record, exit_code, was_stopped=was_stopped)))


def send_signal(path: Path, number: signal.Signals) -> bool:
    """Send a signal to the record's process if it lives; whether it does.

    Never to another process that was given its number meanwhile, where the system can tell (Linux).
    """
    record, is_alive = read_record(path)
    if record is None or not is_alive:
        return False
    try:
        if not hasattr(os, "pidfd_open"):
            os.kill(record.pid, number)
            return True
        process = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return False
    try:
        # It lived after the descriptor was taken, so the descriptor is its.
        if read_record(path) == (record, True):
            signal.pidfd_send_signal(process, number)
            return True
    except ProcessLookupError:
        pass
    finally:
        os.close(process)
    return False


def _ended(record: Record, exit_code: int, *, was_stopped: bool) -> Record:
    return msgspec.structs.replace(
        record, ended_at=datetime.now(UTC), exit_code=exit_code, was_stopped=was_stopped
    )


def _put(path: Path, record: Record) -> int:
    """Write a file that is locked from its first moment; the descriptor that holds the lock."""
    new = path.with_suffix(f".{os.getpid()}")
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, _PRIVATE_FILE)
    try:
        lock_descriptor(fd)
        os.write(fd, msgspec.json.encode(record))
        new.replace(path)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)
