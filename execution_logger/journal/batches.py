"""Batches made of a journal's lines."""

import errno
import logging

from execution_logger.diagnostics import report
from execution_logger.entry.batch import Batch
from execution_logger.journal.damage import set_aside, split_damaged
from execution_logger.journal.files import JournalFiles
from execution_logger.journal.reader import Lines
from execution_logger.journal.source import NotNowError

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
    entries, damaged = split_damaged(found.lines)
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
        entries += split_damaged(found.lines[: max(0, first + count - found.first)])[0]
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
