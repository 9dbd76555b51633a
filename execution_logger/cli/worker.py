"""`execution-logger worker`: the Celery worker, kept running."""

import asyncio
import logging
import sys
from collections.abc import Sequence
from typing import Any

import click

from execution_logger.cli.options import (
    Integer,
    celery_options_argument,
    log_level,
    stop_at_end_of_input,
    stop_at_eof_option,
)
from execution_logger.settings import WORKER, Settings
from execution_logger.worker.supervisor import CAUSE_REMOVED, Supervisor

_LOG_FORMAT = "[%(asctime)s: %(levelname)s/Supervisor] %(message)s"  # as Celery's lines look


@click.command(context_settings={"show_default": True})
@click.option("--pool", type=click.Choice(["threads", "prefork", "solo"]), help="Celery's pool.")
@click.option("--concurrency", type=Integer(min=1), metavar="N", help="Batches written at once.")
@log_level
@stop_at_eof_option
@click.option("--run", type=click.Choice(["first", "after-crash"]), hidden=True)
@celery_options_argument
def command(
    pool: str | None,
    concurrency: int | None,
    loglevel: str,
    stop_at_eof: bool,
    run: str | None,
    celery_options: tuple[str, ...],
) -> None:
    """Write the batches of the queue to the database.

    Runs Celery's worker as a process of its own, starts it again when it dies, and moves messages
    aside that kill it. SIGTERM, SIGINT and SIGQUIT reach Celery: the first two end the worker when
    the batches in hand are written.

    The exit code is 2, at once, when a setting or an option cannot be used.
    """
    logging.basicConfig(format=_LOG_FORMAT, level=loglevel.upper())
    if stop_at_eof:
        stop_at_end_of_input()
    options = [f"--loglevel={loglevel.upper()}", *([f"--pool={pool}"] if pool else [])]
    options += [f"--concurrency={concurrency}"] if concurrency else []
    if run or sys.platform == "win32":  # which has not the signals that a supervisor needs
        sys.exit(_run([*options, *celery_options], looks_at_queue=run == "after-crash"))
    # -P: it runs the installed package, and not what lies in the current folder.
    process = [sys.executable, "-P", "-m", "execution_logger.cli", "worker", "--stop-at-eof"]
    again = [*process, "--run=after-crash", *options, "--", *celery_options]
    first = [*process, "--run=first", *options, "--", *celery_options]
    sys.exit(asyncio.run(Supervisor(first, again).run()))


def _run(options: Sequence[str], *, looks_at_queue: bool) -> int:
    """Run Celery's worker in this process, to its end; the exit code."""
    # Not where the supervisor imports it: 40 MB.
    from celery.signals import worker_init  # noqa: PLC0415

    from execution_logger.worker import create_app  # noqa: PLC0415
    from execution_logger.worker.poison import keep_looking, quarantine_malformed  # noqa: PLC0415
    from execution_logger.worker.tasks import check_pool  # noqa: PLC0415

    settings = Settings.from_environment(uses=WORKER)
    check_pool(settings, options)
    app = create_app(settings)
    if looks_at_queue and quarantine_malformed(settings):
        return CAUSE_REMOVED
    keep_looking(settings)
    workers: list[Any] = []
    worker_init.connect(lambda sender, **_: workers.append(sender), weak=False)
    own = ["worker", "-Q", settings.queue, *_name(settings, options), "--without-gossip", "--without-mingle"]
    app.worker_main([*own, *options])
    # worker_main() forgets it: a worker that an error ended would look like one that was stopped.
    return workers[0].exitcode or 0 if workers else 0


def _name(settings: Settings, options: Sequence[str]) -> list[str]:
    """The option for its name: with Celery's default a host's own worker here would have the same one."""
    is_named = any(option.startswith(("--hostname", "-n")) for option in options)
    return [] if is_named else ["--hostname", f"{settings.queue}@%h"]
