"""The lock of the one Beat of a folder: a second one would be there by mistake."""

import os
from pathlib import Path

from filelock import FileLock, Timeout

from execution_logger.errors import ExecutionLoggerError

_WAIT_SECONDS = 3.0
"""The last Beat may just be ending."""


class BeatRunsError(ExecutionLoggerError):
    """Beat runs already, and one is enough."""


def lock_beat(folder: Path) -> FileLock:
    """Make this process the folder's Beat, until the lock is released or the process ends, however that is.

    Raises:
        BeatRunsError: another one is, and stays.
    """
    lock = _lock(folder)
    try:
        lock.acquire(timeout=_WAIT_SECONDS)
    except Timeout:
        place = f"process {process}, {folder}" if (process := beat_process(folder)) else str(folder)
        raise BeatRunsError(f"Beat runs already ({place}), and one is enough") from None
    _pid_file(folder).unlink(missing_ok=True)
    return lock


def note_begin(folder: Path) -> None:
    """Let others know that this process, which has the lock, works."""
    _pid_file(folder).write_text(str(os.getpid()))


def beat_process(folder: Path) -> int | None:
    """The process that works as the folder's Beat; None when there is none, or it has not begun yet."""
    try:
        with _lock(folder).acquire(blocking=False):
            return None
    except Timeout:
        text = _pid_file(folder).read_text() if _pid_file(folder).exists() else ""
        return int(text) if text.isdecimal() else None


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / "beat.lock")


def _pid_file(folder: Path) -> Path:
    return folder / "beat.pid"
