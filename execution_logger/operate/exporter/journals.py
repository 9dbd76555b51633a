"""What processes have on this machine's disk, by its size: reading it all would take too long."""

import os
from collections.abc import Iterator
from pathlib import Path

from execution_logger.errors import ExecutionLoggerError
from execution_logger.journal.directory import lock_folder, own_folders, state_directory
from execution_logger.journal.segment import Segment
from execution_logger.metrics import Metric, labelled_gauge
from execution_logger.settings import Settings

_STATES = ("living", "dead")


class JournalsUnreadableError(ExecutionLoggerError):
    """The journals of this machine cannot be read."""


def read_journals(settings: Settings) -> list[Metric]:
    """How many there are, and how large they are, of living processes and of those that left something.

    Those of all destinations, and of this user.

    Raises:
        JournalsUnreadableError: naming the directory.
    """
    directory = state_directory(settings)
    try:
        journals, size_bytes = _sum_up(directory)
    except OSError as error:
        raise JournalsUnreadableError(f"{directory} cannot be read: {error}") from error
    return [
        labelled_gauge("journals", "Journals on this machine that hold something.", "process", journals),
        labelled_gauge("journals_bytes", "Their size.", "process", size_bytes),
    ]


def _sum_up(directory: Path) -> tuple[dict[str, float], dict[str, float]]:
    journals, sizes = (dict.fromkeys(_STATES, 0.0) for _ in range(2))
    for folder in _folders(directory):
        try:
            size = sum(each.path.stat().st_size for each in Segment.left_in(folder))
            # Without segments it may be a folder that a process is about to lock.
            state = _STATES[size > 0 and _is_dead(folder)]
        except FileNotFoundError:  # its process is done with it
            continue
        journals[state] += size > 0
        sizes[state] += size
    return journals, sizes


def _folders(directory: Path) -> Iterator[Path]:
    """Those of all processes; nothing where no host has ever run."""
    for destination in own_folders(directory) if directory.is_dir() else ():
        yield from own_folders(destination)


def _is_dead(folder: Path) -> bool:
    lock_fd = lock_folder(folder)
    if lock_fd is not None:
        os.close(lock_fd)
    return lock_fd is not None
