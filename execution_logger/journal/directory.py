"""Where journals are: a folder for each destination, in it one for each process that has entries there.

Processes that share a destination ship for each other. So do those whose settings name both ways, by
Celery and to the database: when a host is switched from one to the other, it ships what it had left::

    execution-logger/                     the user's state directory, or EXECUTION_LOGGER_JOURNAL_DIRECTORY
        logs-3f2a9c1b/                    a destination: queue and broker, or table and database
            destination                   which one, for people to read
            damaged.ndjson                lines of journals that are not what was written
            host-4711-9c1bb2a40f6e/       a process
                lock                      locked for as long as it lives
                00000000000000000001.entries
                marks
"""

import errno
import hashlib
import logging
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import lock_descriptor
from platformdirs import user_state_path

from execution_logger.diagnostics import report
from execution_logger.journal.process import file_name
from execution_logger.settings import DEFAULT_BROKER_URL, PREFIX, Settings
from execution_logger.text import HIDDEN, public_url

LOCK_NAME = "lock"
DAMAGED_NAME = "damaged.ndjson"
DESTINATION_NAME = "destination"

_PRIVATE_FOLDER = 0o700
_PRIVATE_FILE = 0o600
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL
# Neither a link is followed, nor does somebody's pipe hold up who opens it.
_OURS_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_ROOT = 0
_NO_LINK = "not used: it is a link, or something else than it should be"


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
    broker_url, database_url = broker or settings.broker_url, settings.database_url or ""
    queue = f"{public_url(broker_url)} {settings.queue}"
    table = f"{public_url(database_url)} {settings.table}"
    by_celery, to_database = (
        _folder(settings, settings.queue, queue, broker_url),
        _folder(settings, settings.table, table, database_url),
    )
    if settings.celery_enabled:
        return Destination(by_celery, queue, (to_database,) if settings.database_url else ())
    # Of the default broker nobody knows whether this host has ever used it: another one may, with
    # another database.
    is_named = broker is not None or settings.broker_url != DEFAULT_BROKER_URL
    return Destination(to_database, table, (by_celery,) if is_named else ())


def state_directory(settings: Settings) -> Path:
    """The directory of all journals."""
    return user_directory(settings.journal_directory, "execution-logger", "JOURNAL_DIRECTORY")


def user_directory(chosen: str | None, name: str, setting: str) -> Path:
    """The directory that a setting names, or one of this name among the user's; absolute.

    Without a home directory, as of a container's user without an entry in `passwd`, or with one that is
    closed to this user, it is one among the temporary files, and a WARNING says so once.
    """
    try:
        directory = Path(chosen or user_state_path(name, appauthor=False)).expanduser().absolute()
        if not chosen:
            with suppress(FileNotFoundError):
                directory.stat()  # HOME may still be that of root, who has started this process
    except (RuntimeError, OSError) as error:
        problem = f"{chosen or 'the state directory of this user'} cannot be used ({error})"
        return _temporary_directory(name, problem, PREFIX + setting)
    return directory


def service_folder(settings: Settings) -> Path:
    """Where Beat keeps its lock, and supervisord its socket and logs; not made here."""
    return user_directory(settings.service_directory, "execution-logger-services", "SERVICE_DIRECTORY")


@cache  # for the warning's sake
def _temporary_directory(name: str, problem: str, variable: str) -> Path:
    # Predictable, as the next process must find it. What others have made is not used: see check_folder.
    folder = Path(os.environ.get("TMPDIR") or "/tmp", f"{name}-{_user_id()}").absolute()  # noqa: S108
    report(
        logging.WARNING,
        "%s: %s is used instead; set %s to a folder of this user's",
        problem,
        folder,
        variable,
    )
    return folder


def _user_id() -> int:
    return os.geteuid() if os.name == "posix" else 0


def _folder(settings: Settings, name: str, description: str, url: str) -> Path:
    if HIDDEN in description:  # which says nothing of the place, and two places are two folders
        description += url
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


def make_own_folder(folder: Path) -> None:
    """Make a folder, or find it there; raises OSError, also when it is not ours."""
    make_private_folder(folder)
    check_folder(folder)


def make_process_folder(destination: Destination, process: str) -> Path:
    """Make the folder of a process, or find it there; raises OSError, also when it is not ours."""
    folder = destination.folder / process
    make_own_folder(destination.folder)
    make_own_folder(folder)
    return folder


def check_folder(folder: Path) -> None:
    """Raise OSError for a folder of which others decide what is in it, as for `open_ours`."""
    _refuse_foreign(folder, folder.lstat(), stat.S_ISDIR)


def own_folders(directory: Path) -> list[Path]:
    """The folders in a directory that are ours, by their names; none where there is no such directory.

    Raises OSError when it cannot be read.
    """
    try:
        with os.scandir(directory) as found:
            paths = sorted(directory / each.name for each in found if each.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for path in paths if _is_ours(path)]


def open_ours(path: Path, flags: int) -> int:
    """Open a file that nobody else has made or may write to, and make it with `O_CREAT`.

    Others may write to many a directory, as to a container's volume. What they put there is neither
    shipped nor followed anywhere. What root has made is as good as ours: root decides anyway. A group may
    write, because a volume's group is given that right by Kubernetes (`fsGroup`).

    Raises:
        OSError: it cannot be opened, or is not ours.
    """
    try:
        fd = os.open(path, flags | _OURS_FLAGS, _PRIVATE_FILE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PermissionError(errno.EPERM, _NO_LINK, str(path)) from error
        raise
    try:
        _refuse_foreign(path, os.fstat(fd), stat.S_ISREG)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_ours(path: Path) -> bytes:
    """The content of such a file; raises OSError."""
    with os.fdopen(open_ours(path, os.O_RDONLY), "rb") as file:
        return file.read()


def _is_ours(folder: Path) -> bool:
    try:
        check_folder(folder)
    except OSError:
        return False
    return True


def _refuse_foreign(path: Path, status: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    if os.name != "posix":
        return
    if not is_kind(status.st_mode):
        problem = _NO_LINK
    elif status.st_uid not in (os.geteuid(), _ROOT):
        problem = f"not used: it belongs to user {status.st_uid}, and this process runs as {os.geteuid()}"
    elif status.st_mode & stat.S_IWOTH:
        problem = f"not used: anybody may write to it (mode {stat.S_IMODE(status.st_mode):o})"
    else:
        return
    raise PermissionError(errno.EPERM, problem, str(path))


def lock_folder(folder: Path) -> int | None:
    """Lock a process's folder and return the descriptor to close; None when another one has it.

    The lock ends with the process, however that ends, on a local disk and with every system.
    Raises OSError when there is no such folder, or the lock is not ours.
    """
    fd = open_ours(folder / LOCK_NAME, _LOCK_FLAGS)
    try:
        # Who locked it before us may have deleted it when it was done: then it locks nothing.
        if lock_descriptor(fd, blocking=False) and os.fstat(fd).st_nlink:
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
