"""What the commands share that run a process of Celery: options, and how it ends."""

import os
import signal
import threading

import click

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


def stop_at_end_of_input() -> None:
    """Shut this process down, as by SIGTERM, once its standard input ends: who started it is gone.

    Without this a supervisor that is killed leaves a process behind that nobody knows of.
    """

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="execution-logger-input", daemon=True).start()
