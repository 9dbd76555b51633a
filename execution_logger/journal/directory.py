"""Where journals are: a folder for each destination, in it one for each process that has entries there.

Processes that share a destination ship for each other. So do those whose settings name both ways, by
Celery and to the database: when a host is switched from one to the other, it ships what it had left::

    execution-logger/                     the user's state directory, or EXECUTION_LOGGER_JOURNAL_DIRECTORY
        logs-3f2a9c1b/                    a destination: queue and broker, or table and database
            destination                   which one, for people to read
            damaged.ndjson                lines of journals that are no entries any more
            host-4711-9c1bb2a40f6e/       a process
                lock                      locked for as long as it lives
                00000000000000000001.ndjson
                marks.ndjson
"""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import lock_descriptor
from platformdirs import user_state_path

from execution_logger.broker import public_url
from execution_logger.process import file_name
from execution_logger.settings import DEFAULT_BROKER_URL, Settings

LOCK_NAME = "lock"
DAMAGED_NAME = "damaged.ndjson"
DESTINATION_NAME = "destination"

_PRIVATE_FOLDER = 0o700
_PRIVATE_FILE = 0o600
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL


@dataclass(frozen=True, slots=True)
class Destination:
    """Where entries go, and the folder of the journals of all processes whose entries go there."""

    folder: Path
    description: str
    """For people to read: no passwords."""
    other_folders: tuple[Path, ...] = ()
    """Those of the other way that the settings name, by Celery or to the database: what dead processes
    have left there goes here."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """All of whose journals may be adopted."""
        return self.folder, *self.other_folders

    def note_down(self) -> None:
        """Leave the description in the folder; does nothing when the disk takes none."""
        with suppress(OSError):
            fd = os.open(self.folder / DESTINATION_NAME, _NEW_FILE_FLAGS, _PRIVATE_FILE)
            try:
                os.write(fd, f"{self.description}\n".encode())
            finally:
                os.close(fd)


def find_destination(settings: Settings, broker: str | None = None) -> Destination:
    """The destination that the settings name.

    Args:
        settings: name the directory, and what entries are sent to.
        broker: another broker, that of the host's Celery application.
    """
    queue = f"{public_url(broker or settings.broker_url)} {settings.queue}"
    table = f"{public_url(settings.database_url or '')} {settings.table}"
    by_celery, to_database = (
        _folder(settings, settings.queue, queue),
        _folder(settings, settings.table, table),
    )
    if settings.celery_enabled:
        return Destination(by_celery, queue, (to_database,) if settings.database_url else ())
    # Of the default broker nobody knows whether this host has ever used it: another one may, with
    # another database.
    is_named = broker is not None or settings.broker_url != DEFAULT_BROKER_URL
    return Destination(to_database, table, (by_celery,) if is_named else ())


def state_directory(settings: Settings) -> Path:
    """The directory of all journals."""
    if settings.journal_directory:
        return Path(settings.journal_directory)
    return user_state_path("execution-logger", appauthor=False)


def _folder(settings: Settings, name: str, description: str) -> Path:
    digest = hashlib.sha256(description.encode()).hexdigest()[:8]
    return state_directory(settings) / f"{file_name(name)}-{digest}"


def make_private_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user only; raises OSError."""
    with suppress(FileExistsError):
        try:
            folder.mkdir(_PRIVATE_FOLDER)
        except FileNotFoundError:
            make_private_folder(folder.parent)
            folder.mkdir(_PRIVATE_FOLDER)


def lock_folder(folder: Path) -> int | None:
    """Lock a process's folder and return the descriptor to close; None when another one has it.

    The lock ends with the process, however that ends, on a local disk and with every system.
    Raises OSError when there is no such folder.
    """
    fd = os.open(folder / LOCK_NAME, _LOCK_FLAGS, _PRIVATE_FILE)
    try:
        # Who locked it before us may have deleted it when it was done: then it locks nothing.
        if lock_descriptor(fd, blocking=False) and os.fstat(fd).st_nlink:
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
