"""`execution-logger worker`: the Celery worker, kept running."""

import asyncio
import logging
import subprocess
import sys
from functools import partial

import click

from execution_logger.errors import SettingsError
from execution_logger.settings import Settings
from execution_logger.worker import create_app
from execution_logger.worker.parent import stop_at_end_of_input
from execution_logger.worker.quarantine import quarantine_malformed, quarantine_next
from execution_logger.worker.supervisor import WRONG_USAGE, Supervisor

_LEVELS = ("debug", "info", "warning", "error", "critical")
_LOG_FORMAT = "[%(asctime)s: %(levelname)s/Supervisor] %(message)s"  # as Celery's lines look


@click.command(context_settings={"show_default": True})
@click.option("--pool", type=click.Choice(["threads", "prefork", "solo"]), help="Celery's pool.")
@click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="Batches written at once.")
@click.option("--loglevel", type=click.Choice(_LEVELS, case_sensitive=False), default="info")
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
    settings = _checked_settings()
    options = ["-Q", settings.queue, "--loglevel", loglevel.upper(), "--without-gossip", "--without-mingle"]
    if pool:
        options += ["--pool", pool]
    if concurrency:
        options += ["--concurrency", str(concurrency)]
    logging.basicConfig(format=_LOG_FORMAT, level=loglevel.upper())
    sys.exit(_run([*options, *celery_options], settings, stop_at_eof=stop_at_eof))


def _checked_settings() -> Settings:
    """Those of the environment, if the worker's process could begin with them."""
    try:
        settings = Settings.from_environment()
        create_app(settings).close()
    except SettingsError as error:
        click.echo(f"execution-logger: {error}", err=True)
        sys.exit(WRONG_USAGE)
    return settings


def _run(options: list[str], settings: Settings, *, stop_at_eof: bool) -> int:
    if stop_at_eof:
        stop_at_end_of_input()
    # -P: the worker runs the installed package, and not what lies in the current folder.
    process = [sys.executable, "-P", "-m", "execution_logger.worker", *options]
    if sys.platform == "win32":  # without the signals that a supervisor needs
        return subprocess.Popen(process, stdin=subprocess.PIPE).wait()  # noqa: S603 - our own command
    supervisor = Supervisor(
        process,
        after_crash=partial(quarantine_malformed, settings),
        look_after=partial(quarantine_next, settings),
    )
    return asyncio.run(supervisor.run())
