"""Celery Beat, which a supervisor keeps running: `python -m execution_logger.operate.services.beat`.

Options are those of `celery beat`. It ends with its standard input.
"""

import os
import signal
import sys
from types import FrameType

import click
from celery.signals import beat_init

from execution_logger.errors import ExecutionLoggerError
from execution_logger.operate.services.beat_lock import lock_beat, note_begin
from execution_logger.operate.services.directory import service_folder
from execution_logger.settings import BROKER, Settings
from execution_logger.text import printable
from execution_logger.worker.app import create_client
from execution_logger.worker.supervisor import WRONG_USAGE, stop_at_end_of_input


def main() -> int:
    """Run Beat to its end and return its exit code."""
    try:
        settings = Settings.from_environment(uses=BROKER)
        app = create_client(settings)
        folder = service_folder(settings, "beat")
        lock = lock_beat(folder)
    except ExecutionLoggerError as error:
        # As for an unknown option: the supervisor does not try again.
        click.echo(printable(f"execution-logger: {error}"), err=True)
        return WRONG_USAGE
    app.conf.worker_redirect_stdouts = False  # else a traceback is hundreds of log lines
    beat_init.connect(_end_at_once)
    beat_init.connect(lambda **_: note_begin(folder), weak=False)
    stop_at_end_of_input()
    try:
        app.start(["beat", *sys.argv[1:]])
    except click.ClickException as error:
        error.show()
        return error.exit_code
    finally:
        lock.release()
    return 0


def _end_at_once(**_: object) -> None:
    """Let a signal end this process, instead of raising an exception wherever it is.

    Celery's SystemExit is lost in a send to a broker that hangs. There is nothing to keep.
    """

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's signature
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


if __name__ == "__main__":
    sys.exit(main())
