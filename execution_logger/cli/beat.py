"""`execution-logger beat`: Celery Beat, kept running."""

import logging
import sys

import click

from execution_logger.cli.foreground import LEVELS, LOG_FORMAT, run_supervised


@click.command(context_settings={"show_default": True})
@click.option("--loglevel", type=click.Choice(LEVELS, case_sensitive=False), default="info")
@click.option("--stop-at-eof", is_flag=True, help="Also end when the standard input ends.")
@click.argument("celery_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- CELERY OPTIONS]")
def command(loglevel: str, stop_at_eof: bool, celery_options: tuple[str, ...]) -> None:  # noqa: FBT001 - click passes it by name
    """Send the scheduled jobs to the queue when they are due.

    Runs Celery Beat as a process of its own, and starts it again when it dies. One is enough for a
    queue; a second one with the same EXECUTION_LOGGER_SERVICE_DIRECTORY is refused. While the broker
    is away a job that is due waits; the worker does the jobs. SIGTERM and SIGINT end it at once.

    The exit code is 2, at once, when a setting or an option cannot be used, or when Beat runs already.
    """
    logging.basicConfig(format=LOG_FORMAT, level=loglevel.upper())
    beat = ["execution_logger.operate.services.beat", "--loglevel", loglevel.upper(), *celery_options]
    sys.exit(run_supervised(beat, name="Beat", stop_at_eof=stop_at_eof))
