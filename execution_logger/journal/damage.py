"""Lines of a journal that are no entries any more: kept aside, so that they stop nothing."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from execution_logger.journal.directory import DAMAGED_NAME

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
_PRIVATE = 0o600


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


def set_aside(folder: Path, lines: Sequence[bytes]) -> None:
    """Keep damaged lines in the folder of their destination; does nothing when the disk takes none."""
    with suppress(OSError):
        fd = os.open(folder / DAMAGED_NAME, _FLAGS, _PRIVATE)
        try:
            os.write(fd, b"".join(line + b"\n" for line in lines))
        finally:
            os.close(fd)


def _is_entry(line: bytes) -> bool:
    try:
        line.decode()  # what msgspec skips it does not look at closely
        _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
