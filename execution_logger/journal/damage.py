"""Lines of a journal that are no entries any more: kept aside, so that they stop nothing."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from execution_logger.journal.directory import DAMAGED_NAME, open_ours

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class _Entry(msgspec.Struct):
    """What every entry has, and nothing else of a journal's directory."""

    id: str
    task_id: str
    message: str


_decode = msgspec.json.Decoder(_Entry).decode


def split_damaged(lines: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The lines that are entries, in their order, and the others."""
    entries: list[bytes] = []
    damaged: list[bytes] = []
    for line in lines:
        (entries if _is_entry(line) else damaged).append(line)
    return entries, damaged


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


def _is_entry(line: bytes) -> bool:
    try:
        line.decode()  # what msgspec skips it does not look at closely
        _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
