"""The log of a service: a file of bounded size, and the older ones behind it."""

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

FILE_BYTES = 10_000_000
OLDER_FILES = 5
"""A service takes 60 MB of the disk at most."""


class Log(RotatingFileHandler):
    """Takes lines as they are, and goes on when the disk is full: the service must not wait for it.

    Args:
        path: of the newest file; `.1`, `.2`, ... are the older ones.
        file_bytes: a file that would get longer becomes an older one.
        older_files: how many of them are kept.
    """

    def __init__(self, path: Path, *, file_bytes: int = FILE_BYTES, older_files: int = OLDER_FILES) -> None:
        super().__init__(path, maxBytes=file_bytes, backupCount=older_files, encoding="utf-8")
        self._failure: BaseException | None = None

    def write(self, line: str) -> None:
        """Append a line; when the disk takes none, a later one says that some are missing."""
        failure, self._failure = self._failure, None
        if failure is not None:
            self._append(f"[lines are missing here: {failure}]")
        if self._failure is None:
            self._append(line)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's name
        """Remember what to say when there is room again."""
        self._failure = sys.exc_info()[1]

    def _append(self, line: str) -> None:
        self.emit(logging.LogRecord("", logging.INFO, "", 0, line, None, None))
