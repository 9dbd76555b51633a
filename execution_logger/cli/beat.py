"""`execution-logger beat`: Celery Beat, one for a folder."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click
from filelock import FileLock, Timeout

from execution_logger.cli.options import (
    celery_options_argument,
    log_level,
    stop_at_end_of_input,
    stop_at_eof_option,
)
from execution_logger.errors import ExecutionLoggerError, SettingsError
from execution_logger.journal.directory import make_own_folder, service_folder
from execution_logger.settings import BROKER, Settings
from execution_logger.worker import create_client

_WAIT_SECONDS = 3.0
"""The last Beat may just be ending."""


class BeatRunsError(ExecutionLoggerError):
    """Beat runs already, and one is enough."""

    exit_code = 2  # a restart would not help


@click.command(context_settings={"show_default": True})
@log_level
@stop_at_eof_option
@celery_options_argument
def command(loglevel: str, stop_at_eof: bool, celery_options: tuple[str, ...]) -> None:
    """Send the scheduled jobs to the queue when they are due.

    One is enough for a queue; a second one with the same EXECUTION_LOGGER_SERVICE_DIRECTORY is refused.
    While the broker is away a job that is due waits; the worker does the jobs. SIGTERM and SIGINT end it
    at once. What starts it should start it again when it dies.

    The exit code is 2, at once, when a setting or an option cannot be used, or when Beat runs already.
    """
    if stop_at_eof:
        stop_at_end_of_input()
    settings = Settings.from_environment(uses=BROKER)
    app = create_client(settings)
    app.conf.worker_redirect_stdouts = False  # else a traceback is hundreds of log lines
    app.Beat.install_sync_handler = _end_at_signals
    with the_only_beat(settings):
        app.start(["beat", "--loglevel", loglevel.upper(), *celery_options])


@contextmanager
def the_only_beat(settings: Settings) -> Iterator[None]:
    """Keep other Beats of this machine's user away, until this process ends, however that is.

    Raises:
        BeatRunsError: another one does.
        SettingsError: the folder of the lock cannot be used.
    """
    folder = service_folder(settings) / "beat"
    try:
        if settings.service_directory is None:
            make_own_folder(folder.parent)  # one that is named may be a volume, to which anybody may write
        make_own_folder(folder)
        lock = FileLock(folder / "beat.lock")
        lock.acquire(timeout=_WAIT_SECONDS)
    except Timeout:
        raise BeatRunsError(f"Beat runs already ({folder}), and one is enough") from None
    except OSError as error:
        raise SettingsError(
            f"{error.filename or folder}: {error.strerror}; name a folder that this user may write to: "
            "EXECUTION_LOGGER_SERVICE_DIRECTORY=/var/lib/execution-logger-services"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _end_at_signals(*_: object) -> None:
    """Let a signal end this process, instead of raising an exception wherever it is.

    Celery's SystemExit is lost in a finalizer, or in a send to a broker that hangs. There is nothing to keep.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
