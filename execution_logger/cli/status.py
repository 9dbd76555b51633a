"""`execution-logger status` and `health`: where the entries are, and whether all parts answer."""

import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NoReturn

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from execution_logger.cli.options import Number, json_option
from execution_logger.cli.terminal import (
    ago,
    day_and_time,
    echo_json,
    hanging,
    listed,
    open_console,
    print_lines,
    words,
)
from execution_logger.errors import ExecutionLoggerError
from execution_logger.operate.asking import Part
from execution_logger.operate.facts import ANSWER_SECONDS, StatusReader, ask_for
from execution_logger.settings import BROKER, DATABASE, Settings
from execution_logger.text import printable

_WATCH_SECONDS = 2.0
_sleep = time.sleep
_HEALTH_SECONDS = 4.0
_OLD_SECONDS = 60.0
"""An entry that is not written after that needs a look; usually it takes two seconds."""
_WAITING_PARTS = ("unwritten", "journal", "broker")
_LEFT_OUT = ("age_seconds",)
_LEFT_OUT_IF_ZERO = ("damaged_lines", "other_destinations", "size_bytes")
_ALARMING = ("dead_letters", "quarantined", "damaged_lines")


@click.command()
@json_option
@click.option(
    "--watch",
    "watch_seconds",
    type=Number(min=0.5),
    is_flag=False,
    flag_value=_WATCH_SECONDS,
    metavar="[SECONDS]",
    help=f"Look again and again, every {_WATCH_SECONDS:g} s if not said otherwise, until Ctrl-C.",
)
@click.option(
    "--timeout",
    "answer_seconds",
    type=Number(min=0.5),
    default=ANSWER_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long the answers of a look are waited for.",
)
def command(as_json: bool, watch_seconds: float | None, answer_seconds: float) -> None:
    """Show where the entries are, and whether all parts answer.

    That is what is not written yet, the journal, the queue, the workers and the tables. The journal is
    that of this machine and user; other hosts have their own. All parts are asked at the same time, and
    none for longer than --timeout; of one that says only half there is that half. With --json and
    --watch each look is one line.

    The exit code is 0 when all parts answer, 1 when one does not, 2 for wrong usage or settings, and 130
    after Ctrl-C.
    """
    reader = StatusReader(Settings.from_environment(), answer_seconds)
    if watch_seconds is not None:
        _watch(reader, watch_seconds, as_json=as_json)
    parts = reader.read()
    if as_json:
        echo_json(_facts(parts), default=str)
    else:
        console = open_console()
        print_lines(console, _table(parts, console.width))
    sys.exit(any(part.error for part in parts.values()))


def _watch(reader: StatusReader, every_seconds: float, *, as_json: bool) -> NoReturn:
    console = open_console()
    often = f"every {every_seconds:g} s; Ctrl-C ends it"
    is_live = console.is_terminal and not as_json
    with Live(console=console, auto_refresh=False) if is_live else nullcontext() as live:
        while True:
            parts, now = reader.read(), datetime.now(UTC)
            head = f"execution-logger status, {day_and_time(now)} UTC, {often}"
            screen = [Text(head, "dim"), *_table(parts, console.width)]
            if as_json:
                echo_json({"at": now, "parts": _facts(parts)}, default=str, indent=None)
            elif live is None:
                print_lines(console, screen)
            else:
                live.update(Group(*screen), refresh=True)
            _sleep(every_seconds)


def _facts(parts: Mapping[str, Part]) -> dict[str, Any]:
    return {name: asdict(part) for name, part in parts.items()}


def _table(parts: Mapping[str, Part], width: int) -> Iterator[Text]:
    rows = [(name, fact, pieces) for name, part in parts.items() for fact, pieces in _rows(name, part)]
    part_cells, fact_cells = (2 + max(len(row[column]) for row in rows) for column in (0, 1))
    before = ""
    for name, fact, pieces in rows:
        part = "" if name == before else name
        head = Text.assemble((part.ljust(part_cells), "bold"), (fact.ljust(fact_cells), "dim"))
        yield from hanging(head, pieces, width)
        before = name


def _rows(name: str, part: Part) -> Iterator[tuple[str, list[Text]]]:
    """Each fact, and the pieces of its value; what matters only sometimes is left out at other times."""
    if part.error is not None:
        yield "error", words(Text(printable(part.error), "red"))
    for fact, value in part.facts.items():
        if fact in _LEFT_OUT or (fact in _LEFT_OUT_IF_ZERO and not value):
            continue
        yield fact.replace("_", " "), _pieces(name, fact, value)


def _pieces(name: str, fact: str, value: Any) -> list[Text]:
    if isinstance(value, list):
        return listed([Text(printable(each)) for each in value]) or [Text("none", "yellow")]
    shown = _shown(fact, value, is_waiting=name in _WAITING_PARTS)
    return words(shown) if name == "jobs" else [shown]  # what is wrong with a job is a sentence


def _shown(fact: str, value: Any, *, is_waiting: bool = False) -> Text:
    if isinstance(value, datetime):
        age_seconds = (datetime.now(UTC) - value).total_seconds()
        is_late = is_waiting and age_seconds >= _OLD_SECONDS
        return Text(f"{day_and_time(value)} UTC, {ago(age_seconds)}", "yellow" if is_late else "")
    if isinstance(value, int):
        return Text(f"{value:,}", "red" if value > 0 and fact in _ALARMING else "")
    return Text("-" if value is None else printable(str(value)))


class UnhealthyError(ExecutionLoggerError):
    """The worker does not answer, or takes from other queues."""

    exit_code = 1


@click.command()
@click.option(
    "--name", metavar="NAME", help="The worker's. Default: that of the queue or celery, @, this machine's."
)
def health(name: str | None) -> None:
    """Ask the worker of this machine whether it works.

    It does if it answers, takes from the queue, and the database has the table. For the health checks
    of containers: one line and an exit code. What is wrong otherwise, `execution-logger doctor` finds.

    The exit code is 0 when it works, 1 when it does not, and 2 when a setting cannot be used.
    """
    settings = Settings.from_environment(uses=BROKER | DATABASE)
    # Celery's own default is for one that `celery -A tasks worker` has started.
    names = [name] if name else [f"{each}@{socket.gethostname()}" for each in (settings.queue, "celery")]
    click.echo(printable(f"{check_worker(settings, names)} works"))


def check_worker(settings: Settings, names: Sequence[str]) -> str:
    """Ask workers and the database, at the same time; takes a few seconds at most. The first that works.

    Raises:
        UnhealthyError: one of them does not answer, the worker does not take from the queue, or there is no
            table for the entries.
        SettingsError: there is no such database.
    """
    settings.require_database("health")
    parts = ask_for(settings, ("workers", "table"), _HEALTH_SECONDS).ask()
    if problem := next((part.error for part in parts.values() if part.error), None):
        raise UnhealthyError(problem)
    online = parts["workers"].facts["online"]
    if (name := next((name for name in names if name in online), None)) is None:
        others = f"; others do: {', '.join(online)}" if online else ""
        raise UnhealthyError(f"{names[0]} does not take from the queue {settings.queue!r}{others}")
    return name
