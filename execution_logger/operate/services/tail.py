"""The end of a log, and what is added to it."""

import os
from pathlib import Path
from typing import BinaryIO, Self

_MOST_BYTES = 1_000_000


class Tail:
    """Reads the log of a service from its last lines on, through every change of files.

    For use in a `with` statement. The file need not be there yet.

    Args:
        path: of the newest file.
        count: how many of the lines that are there.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._pending = b""
        self._open()
        # The older file, too: one that has just been begun shows nothing of what came before.
        lines = [*_last_lines(self._older()), *self._read(skip_to_last=True)]
        self._waiting = lines[-count:] if count else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> list[str]:
        """The lines that are new since the last call; at the first one, the last ones that there were."""
        lines, self._waiting = self._waiting, []
        lines += self._read()
        if self._is_replaced():
            lines += self._read()  # what came before it was renamed; nothing more will
            self.close()
            self._open()
            lines += self._read()
        return lines

    def _older(self) -> Path:
        return self._path.with_name(f"{self._path.name}.1")

    def _open(self) -> None:
        if self._path.exists():
            self._file = self._path.open("rb")

    def _is_replaced(self) -> bool:
        if not self._path.exists():
            return False
        return self._file is None or not os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())

    def _read(self, *, skip_to_last: bool = False) -> list[str]:
        if self._file is None:
            return []
        if skip_to_last:
            self._file.seek(max(0, os.fstat(self._file.fileno()).st_size - _MOST_BYTES))
        *lines, self._pending = (self._pending + self._file.read()).split(b"\n")
        return [line.decode(errors="replace") for line in lines]


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log."""
    with Tail(path, count) as tail:
        return tail.read()


def _last_lines(file: Path) -> list[str]:
    if not file.is_file():
        return []
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - _MOST_BYTES))
        return opened.read().decode(errors="replace").splitlines()
