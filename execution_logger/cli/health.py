"""`execution-logger health`: whether a worker does what it is for, for the health checks of containers."""

import socket

import click

from execution_logger.errors import ExecutionLoggerError
from execution_logger.operate.facts import ask_for
from execution_logger.settings import BROKER, DATABASE, Settings
from execution_logger.text import printable

_ANSWER_SECONDS = 4.0


class UnhealthyError(ExecutionLoggerError):
    """The worker does not answer, or takes from other queues."""

    exit_code = 1


@click.command()
@click.option("--name", metavar="NAME", help="The worker's. Default: celery@ and the name of this machine.")
def command(name: str | None) -> None:
    """Ask the worker of this machine whether it works.

    It does if it answers, takes from the queue, and the database has the table. For the health checks
    of containers: one line and an exit code. What is wrong otherwise, `execution-logger doctor` finds.

    The exit code is 0 when it works, 1 when it does not, and 2 when a setting cannot be used.
    """
    name = name or f"celery@{socket.gethostname()}"  # as Celery calls it
    check_worker(Settings.from_environment(uses=BROKER | DATABASE), name)
    click.echo(printable(f"{name} works"))


def check_worker(settings: Settings, name: str) -> None:
    """Ask a worker and the database, at the same time; takes a few seconds at most.

    Raises:
        UnhealthyError: one of them does not answer, the worker does not take from the queue, or there is no
            table for the entries.
        SettingsError: there is no such database.
    """
    settings.require_database("health")
    parts = ask_for(settings, ("workers", "table"), _ANSWER_SECONDS).ask()
    if problem := next((part.error for part in parts.values() if part.error), None):
        raise UnhealthyError(problem)
    if name not in (online := parts["workers"].facts["online"]):
        others = f"; others do: {', '.join(online)}" if online else ""
        raise UnhealthyError(f"{name} does not take from the queue {settings.queue!r}{others}")
