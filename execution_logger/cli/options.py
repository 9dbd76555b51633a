"""Options that several commands have, and what they mean."""

import os
import re
import signal
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import click

from execution_logger.levels import LEVELS, known_level

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"(\d{1,6})([smhdw])")


class _Level(click.Choice[str]):
    """A level, by any of its names."""

    def __init__(self) -> None:
        super().__init__(LEVELS, case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """One of `LEVELS`."""
        level: str = super().convert(known_level(value), param, ctx)
        return level


class Integer(click.IntRange):
    """A range of them; click would say of a word that it is no valid `integer range`."""

    name = "integer"


class Number(click.FloatRange):
    """A range of them, as above."""

    name = "number"


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
log_level = click.option("--loglevel", type=_Level(), default="info")
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
        first, last = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (since, until))
        raise click.UsageError(f"--since {first} is not before --until {last}")


def _to_ids(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """The ids that an option names, as they are stored."""
    return tuple(map(_to_id, texts))


def _to_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no UUID: take the operation_id of an entry") from None


_FILTERS = (
    click.option("--since", callback=to_moment, metavar="AGE|TIME", help="Only from then on (2h, ISO)."),
    click.option("--until", callback=to_moment, metavar="AGE|TIME", help="Only before then."),
    click.option("--level", type=_Level(), help="Only this level and graver ones."),
    click.option("--category", "categories", multiple=True, help="Only this category; may be given again."),
    click.option("--agent", "agents", multiple=True, help="Only this agent; may be given again."),
    click.option("--step", "steps", multiple=True, help="Only this step; may be given again."),
    click.option(
        "--operation",
        "operations",
        multiple=True,
        callback=_to_ids,
        metavar="ID",
        help="Only this operation and what is within it; may be given again.",
    ),
    click.option(
        "--contains",
        default="",
        show_default=False,
        help="Only with this text in the message, in the same case.",
    ),
)


def filters(command: click.decorators.FC) -> click.decorators.FC:
    """Give a command the options that say which entries are wanted; `to_only` takes their values."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command
