"""What journals there are: for people, without touching anything."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from execution_logger.journal.directory import (
    DAMAGED_NAME,
    DESTINATION_NAME,
    check_folder,
    lock_folder,
    open_ours,
    own_folders,
    read_ours,
)
from execution_logger.journal.files import JournalFiles
from execution_logger.journal.segment import Segment


@dataclass(frozen=True, slots=True)
class JournalSummary:
    """The journal of one process."""

    process: str
    is_alive: bool
    """Whether its process lives, and ships these entries itself; or another one does for it."""
    entries: int
    """Entries that are not known to be stored."""
    size_bytes: int
    oldest_at: datetime | None
    """When the first of them was recorded."""


@dataclass(frozen=True, slots=True)
class DestinationSummary:
    """The journals of one destination."""

    folder: Path
    description: str
    journals: tuple[JournalSummary, ...]
    damaged_lines: int
    """Lines that were no entries any more; they are kept in `damaged.ndjson`."""


class _Recorded(msgspec.Struct):
    created_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


_decode = msgspec.json.Decoder(_Recorded).decode


def survey(state_directory: Path) -> Iterator[DestinationSummary]:
    """All destinations of a state directory; raises OSError when it cannot be read."""
    for folder in own_folders(state_directory):
        yield survey_destination(folder)


def survey_destination(folder: Path) -> DestinationSummary:
    """One destination; raises OSError when it cannot be read."""
    return DestinationSummary(
        folder=folder,
        description=_content(folder / DESTINATION_NAME).decode(errors="replace").strip(),
        journals=tuple(summary for path in own_folders(folder) if (summary := _summarise(path)) is not None),
        damaged_lines=_content(folder / DAMAGED_NAME).count(b"\n"),
    )


def refused(state_directory: Path) -> Iterator[OSError]:
    """Why folders and files there are not used: others have a hand in them, or they are links."""
    for top, folders, files in os.walk(state_directory):
        is_top = Path(top) == state_directory  # files there are whatever else the user has
        for name in sorted([*folders, *(() if is_top else files)]):
            if problem := _refusal(Path(top, name)):
                yield problem
                if name in folders:
                    folders.remove(name)


def _refusal(path: Path) -> OSError | None:
    """Why a folder, or a file of a journal, is not used; None when it is, or has vanished."""
    try:
        if path.is_dir():
            check_folder(path)
        else:
            os.close(open_ours(path, os.O_RDONLY))
    except FileNotFoundError:
        return None
    except OSError as problem:
        return problem
    return None


def _summarise(folder: Path) -> JournalSummary | None:
    """None for a journal that is made or removed at this moment, or that others have a hand in."""
    try:
        if not Segment.left_in(folder):  # its process may be about to lock it
            return None
        lock_fd = lock_folder(folder)
        files = JournalFiles(folder, lock_fd)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        files.find()
        while files.check_marks():
            pass
        entries = max(0, files.end - max(files.first, files.marks.settled + 1))
        return JournalSummary(
            process=folder.name,
            is_alive=lock_fd is None,
            entries=entries,
            size_bytes=sum(each.path.stat().st_size for each in (*files.segments, *files.unread)),
            oldest_at=_oldest_at(files) if entries else None,
        )
    except (FileNotFoundError, PermissionError):
        return None
    finally:
        files.close()


def _content(path: Path) -> bytes:
    """Nothing where there is no such file of ours."""
    try:
        return read_ours(path)
    except (FileNotFoundError, PermissionError):
        return b""


def _oldest_at(files: JournalFiles) -> datetime | None:
    while (found := files.reader.read(files.marks.settled + 1, 1, 1)) is None and files.open_next():
        pass
    entries, _ = found.split() if found else ([], [])
    try:
        return _decode(entries[0]).created_at if entries else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
