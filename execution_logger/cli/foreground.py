"""What the commands share that run a process of Celery: options, and how it ends."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

from execution_logger.errors import ExecutionLoggerError
from execution_logger.text import printable
from execution_logger.worker.supervisor import WRONG_USAGE

log_level = click.option(
    "--loglevel",
    type=click.Choice(("debug", "info", "warning", "error", "critical"), case_sensitive=False),
    default="info",
)
stop_at_eof_option = click.option(
    "--stop-at-eof", is_flag=True, help="Also end when the standard input ends: who started it is gone."
)
celery_options_argument = click.argument(
    "celery_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- CELERY OPTIONS]"
)


@contextmanager
def wrong_usage() -> Iterator[None]:
    """End with one line and exit code 2 over an error of ours: a restart would not help."""
    try:
        yield
    except ExecutionLoggerError as error:
        click.echo(printable(f"execution-logger: {error}"), err=True)
        sys.exit(WRONG_USAGE)


def stop_at_end_of_input() -> None:
    """Shut this process down, as by SIGTERM, once its standard input ends: who started it is gone.

    Without this a supervisor that is killed leaves a process behind that nobody knows of.
    """

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="execution-logger-input", daemon=True).start()
