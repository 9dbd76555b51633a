"""`execution-logger status`: where the entries are, and whether all parts answer."""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from execution_logger.broker import public_url
from execution_logger.errors import ExecutionLoggerError
from execution_logger.settings import Settings
from execution_logger.store import create_engine, overview
from execution_logger.worker.online import workers_online
from execution_logger.worker.queue import queue_length

_DATABASE_SECONDS = 3.0
_NOT_USED = "not used: CELERY_ENABLED=false"


@dataclass(frozen=True, slots=True)
class Part:
    """What one part says, or why it says nothing."""

    facts: dict[str, Any]
    error: str | None = None


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def command(as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Show the queue, the workers and the tables.

    The exit code is 0 when all parts answer, and 1 otherwise.
    """
    parts = read_status(Settings.from_environment())
    if as_json:
        click.echo(json.dumps({name: asdict(part) for name, part in parts.items()}, indent=2, default=str))
    else:
        Console().print(_table(parts))
    sys.exit(any(part.error for part in parts.values()))


def read_status(settings: Settings) -> dict[str, Part]:
    """Ask every part: `broker`, `workers` and `database`. Takes a few seconds at most."""
    database = _ask(lambda: asyncio.run(_read_database(settings)))
    if not settings.celery_enabled:
        return {"broker": Part({"state": _NOT_USED}), "database": database}
    return {
        "broker": _ask(lambda: _read_broker(settings)),
        "workers": _ask(lambda: {"online": workers_online(settings)}),
        "database": database,
    }


def _ask(read: Callable[[], dict[str, Any]]) -> Part:
    try:
        return Part(read())
    except ExecutionLoggerError as error:
        return Part({}, str(error))


def _read_broker(settings: Settings) -> dict[str, Any]:
    length = asdict(queue_length(settings))
    return {"url": public_url(settings.broker_url), "queue": settings.queue, **length}


async def _read_database(settings: Settings) -> dict[str, Any]:
    settings.require_database("status")
    settings = replace(
        settings, database_timeout_seconds=min(_DATABASE_SECONDS, settings.database_timeout_seconds)
    )
    engine = create_engine(settings, pool_size=1)
    try:
        found = asdict(await overview(engine, settings))
    finally:
        await engine.dispose()
    url = engine.url.set(query={}).render_as_string(hide_password=True)
    return {"url": url, "table": settings.table, **found}


def _table(parts: dict[str, Part]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_header=False)
    table.add_column("part", style="bold")
    table.add_column("fact", style="dim")
    table.add_column("value", overflow="fold")
    for name, part in parts.items():
        if part.error is not None:
            table.add_row(name, "error", Text(part.error, "red"))
        for number, (fact, value) in enumerate(part.facts.items()):
            table.add_row("" if number else name, fact.replace("_", " "), _shown(fact, value))
        table.add_section()
    return table


def _shown(fact: str, value: Any) -> Text:
    if isinstance(value, datetime):
        age_seconds = (datetime.now(UTC) - value).total_seconds()
        return Text(f"{value:%Y-%m-%d %H:%M:%S} UTC, {_ago(age_seconds)}")
    if isinstance(value, list):
        return Text(", ".join(value)) if value else Text("none", "yellow")
    if isinstance(value, int):
        alarming = value > 0 and fact in ("dead_letters", "quarantined")
        return Text(f"{value:,}", "red" if alarming else "")
    return Text("-" if value is None else str(value))


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"
