"""Batches made of a journal's lines, and the interface of whatever else batches are made of."""

import errno
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from execution_logger.diagnostics import report
from execution_logger.entry.batch import Batch
from execution_logger.journal.directory import DAMAGED_NAME, open_ours
from execution_logger.journal.files import JournalFiles
from execution_logger.journal.reader import Lines

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT


def set_aside(folder: Path, lines: Sequence[bytes]) -> bool:
    """Keep damaged lines in the folder of their destination; False when the disk did not take them all."""
    data = b"".join(line + b"\n" for line in lines)
    try:
        fd = open_ours(folder / DAMAGED_NAME, _FLAGS)
        try:
            return os.write(fd, data) == len(data)
        finally:
            os.close(fd)
    except OSError:
        return False


_NOT_NOW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def read_batch(files: JournalFiles, process: str, number: int, max_entries: int, max_bytes: int) -> Batch:
    """The batch of the entries from `number` on, or from the next ones that are there.

    What cannot be read any more counts as missing, and damaged lines are kept aside: neither may
    stop what comes after it. Without any entries it is empty, and `count` says how far to go.
    Raises NotNowError.
    """
    try:
        found = _read(files, number, max_entries, max_bytes)
    except NotNowError:
        raise
    except OSError as error:
        missing = files.reader.rest_of_segment(number)
        report(logging.ERROR, "%d entries of a journal cannot be read any more: %s", missing, error)
        return Batch((), process=process, first=number, missing=missing)
    if found is None:
        return Batch((), process=process, first=number)
    entries, damaged = found.split()
    if damaged:
        is_kept = set_aside(files.folder.parent, damaged)
        where = "are in damaged.ndjson now" if is_kept else "are lost, as the disk takes nothing"
        report(logging.ERROR, "damaged lines of %s, which %s: %d", files.folder, where, len(damaged))
    return Batch(tuple(entries), process=process, first=found.first, missing=len(damaged))


def read_again(files: JournalFiles, first: int, count: int) -> tuple[bytes, ...]:
    """The entries of a batch that was made before; raises OSError."""
    entries: list[bytes] = []
    number = first
    while number < first + count:
        found = _read(files, number, first + count - number, files.size_bytes)
        if found is None:
            break
        # Where lines are missing the next ones are found, which may be another batch's.
        entries += found.split(max(0, first + count - found.first))[0]
        number = found.next
    return tuple(entries)


def _read(files: JournalFiles, number: int, max_lines: int, max_bytes: int) -> Lines | None:
    try:
        with files.using:
            return files.reader.read(number, max_lines, max_bytes)
    except OSError as error:
        if error.errno in _NOT_NOW:
            raise NotNowError(error.errno, error.strerror, error.filename) from error
        raise


class NotNowError(OSError):
    """What is on the disk cannot be read at this moment, for want of something that others use up."""


class Source(Protocol):
    """Hands out batches in order, one at a time, and keeps what is sent until it is settled.

    All of it is called by the one thread that ships.
    """

    process: str
    """The name of the process that recorded the entries."""

    def take(self) -> Batch | None:
        """The next batch, and the same one until it is sent; None when none is due."""

    def sent(self, batch: Batch, *, awaited_since: float | None = None) -> None:
        """Go on to the next batch: this one was accepted.

        Args:
            batch: the one that was taken.
            awaited_since: when it was sent, in seconds since 1970, if a confirmation will follow.
        """

    def settle(self, first: int, count: int) -> None:
        """Forget these entries: they are safe elsewhere."""

    def keeps(self, first: int, count: int) -> bool:
        """Whether these entries can be read again as long as they are not settled."""

    def read_again(self, first: int, count: int) -> tuple[bytes, ...]:
        """The entries that `keeps` speaks of; raises OSError, and NotNowError when they can be read later."""
