"""Options that several commands have, and what they mean."""

import os
import re
import signal
import threading
from datetime import UTC, datetime, timedelta

import click

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"(\d{1,6})([smhdw])")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
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


def to_moment(_context: click.Context, _option: click.Parameter, text: str | None) -> datetime | None:
    """The moment that an option names: an age such as `2h`, or a time in ISO 8601, in UTC by default."""
    if text is None:
        return None
    try:
        if age := _AGE.fullmatch(text):
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} must be an age such as 30m, 2h or 7d, or a time such as 2026-11-22T08:30"
        ) from None


def check_span(since: datetime | None, until: datetime | None) -> None:
    """Raise UsageError for a time that ends before it begins."""
    if since is not None and until is not None and since >= until:
        raise click.UsageError(f"--since {since:%Y-%m-%dT%H:%M:%SZ} is not before --until")
