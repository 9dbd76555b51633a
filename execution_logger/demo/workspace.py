"""What the demonstration needs on this machine: a temporary folder, settings, a file that is hard to read."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from execution_logger.settings import PREFIX

LEGACY_FILE = "legacy-notes.txt"

_LEGACY_ENCODING = "windows-1252"
_LEGACY_TEXT = (
    "Notes of the old system\n\nIts caf\u00e9 costs 3 \u20ac, na\u00efvely stored in Windows-1252.\n"
)


@dataclass(frozen=True, slots=True)
class Workspace:
    """A temporary folder."""

    folder: Path

    def environment(self, broker_url: str | None, database_url: str | None) -> dict[str, str]:
        """The environment with the demonstration's settings, which its host and its worker read.

        Broker and database are in the folder where there is no URL. The texts are in English
        unless EXECUTION_LOGGER_LANGUAGE says otherwise.
        """
        ours = {
            "CELERY_ENABLED": "true",
            "FALLBACK": "keep",
            "BROKER_URL": broker_url or f"embedded://{self.folder / 'broker'}",
            "JOURNAL_DIRECTORY": str(self.folder / "journal"),
            "DATABASE_URL": database_url or f"sqlite:///{self.folder / 'logs.db'}",
            # A queue of its own: other workers of this broker write to other databases.
            "QUEUE": f"demo-{uuid4().hex[:8]}",
        }
        prefixed = {PREFIX + name: value for name, value in ours.items()}
        return {f"{PREFIX}LANGUAGE": "en", **os.environ, **prefixed}

    def plant_legacy_file(self) -> Path:
        """Write a text file that is not UTF-8, so that reading it really fails at first."""
        path = self.folder / LEGACY_FILE
        path.write_bytes(_LEGACY_TEXT.encode(_LEGACY_ENCODING))
        return path


@contextmanager
def open_workspace(*, keep: bool) -> Iterator[Workspace]:
    """Make the folder, and remove it at the end unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="execution-logger-demo-"))
    try:
        yield Workspace(folder)
    finally:
        if not keep:
            shutil.rmtree(folder)
