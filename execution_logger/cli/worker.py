"""`execution-logger worker`: the Celery worker, kept running."""

import logging
import os
import sys
from functools import partial

import click

from execution_logger.cli.foreground import LEVELS, LOG_FORMAT, run_supervised
from execution_logger.errors import SettingsError
from execution_logger.settings import WORKER, Settings
from execution_logger.text import printable
from execution_logger.worker import create_app
from execution_logger.worker.pool import check_pool
from execution_logger.worker.quarantine import quarantine_malformed, quarantine_next
from execution_logger.worker.supervisor import WRONG_USAGE


@click.command(context_settings={"show_default": True})
@click.option("--pool", type=click.Choice(["threads", "prefork", "solo"]), help="Celery's pool.")
@click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="Batches written at once.")
@click.option("--loglevel", type=click.Choice(LEVELS, case_sensitive=False), default="info")
@click.option("--stop-at-eof", is_flag=True, help="Also shut down when the standard input ends.")
@click.argument("celery_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- CELERY OPTIONS]")
def command(
    pool: str | None,
    concurrency: int | None,
    loglevel: str,
    stop_at_eof: bool,  # noqa: FBT001 - click passes it by name
    celery_options: tuple[str, ...],
) -> None:
    """Write the batches of the queue to the database.

    Runs Celery's worker as a process of its own, starts it again when it dies, and moves messages
    aside that kill it. SIGTERM, SIGINT and SIGQUIT reach Celery: the first two end the worker when
    the batches in hand are written.

    The exit code is 2, at once, when a setting or an option cannot be used.
    """
    options = [*(["--pool", pool] if pool else []), *celery_options]
    settings = _checked_settings(options)
    if concurrency:
        options = ["--concurrency", str(concurrency), *options]
    listening = ["-Q", settings.queue, "--loglevel", loglevel.upper(), "--without-gossip", "--without-mingle"]
    logging.basicConfig(format=LOG_FORMAT, level=loglevel.upper())
    code = run_supervised(
        ["execution_logger.worker", *listening, *options],
        partial(quarantine_malformed, settings),
        look_after=partial(quarantine_next, settings),
        stop_at_eof=stop_at_eof,
    )
    sys.exit(code)


def _checked_settings(options: list[str]) -> Settings:
    """Those of the environment, if the worker's process could begin with them."""
    try:
        settings = Settings.from_environment(dict(os.environ), uses=WORKER)  # its process warns of names
        check_pool(settings, options)
        create_app(settings).close()
    except SettingsError as error:
        click.echo(printable(f"execution-logger: {error}"), err=True)
        sys.exit(WRONG_USAGE)
    return settings
