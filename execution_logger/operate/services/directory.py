"""Where services keep what they have to remember: a folder for each, which only its user may enter.

::

    execution-logger-services/            the user's state directory, or EXECUTION_LOGGER_SERVICE_DIRECTORY
        beat/
            beat.lock, beat.pid           the one Beat of this directory
            record.json                   what `manage` has started: locked for as long as that runs
            log, log.1, ...
        worker/
            record.json
            log, log.1, ...
"""

import os
from pathlib import Path

from execution_logger.errors import ExecutionLoggerError
from execution_logger.journal.directory import make_private_folder, user_directory
from execution_logger.settings import Settings


class ServiceError(ExecutionLoggerError):
    """A service cannot be started, stopped or looked at."""


def service_directory(settings: Settings) -> Path:
    """The directory of all services of a deployment."""
    return user_directory(settings.service_directory, "execution-logger-services", "SERVICE_DIRECTORY")


def service_folder(settings: Settings, name: str) -> Path:
    """The folder of a service, which is made when it is missing.

    Raises:
        ServiceError: it cannot be made, or is another user's: neither its records nor its
            processes are ours to trust.
    """
    folder = service_directory(settings) / name
    try:
        make_private_folder(folder)
        owner = folder.stat().st_uid
    except OSError as error:
        raise ServiceError(
            f"{error.filename or folder}: {error.strerror}; name a folder that this user may write to: "
            "EXECUTION_LOGGER_SERVICE_DIRECTORY=/var/lib/execution-logger-services"
        ) from None
    if hasattr(os, "getuid") and owner != os.getuid():
        raise ServiceError(
            f"{folder} belongs to {_user_name(owner)}: run the command as that user, "
            "or name another folder: EXECUTION_LOGGER_SERVICE_DIRECTORY"
        )
    return folder


def _user_name(number: int) -> str:
    import pwd  # noqa: PLC0415 - Windows has none

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
