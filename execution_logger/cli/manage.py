"""`execution-logger manage`: worker, Beat and Flower in the background, without a service manager."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from execution_logger.cli.terminal import echo_json, open_console
from execution_logger.operate.services.directory import ServiceError
from execution_logger.operate.services.manager import (
    START_SECONDS,
    STOP_SECONDS,
    Condition,
    Status,
    check_platform,
    is_running,
    look,
    start,
    stop,
)
from execution_logger.operate.services.runner import LOG_NAME
from execution_logger.operate.services.service import NAMES, Service, find_service
from execution_logger.operate.services.tail import Tail
from execution_logger.settings import Settings
from execution_logger.text import printable, printable_lines

ALL = "all"

_EXIT_CODES = {Condition.RUNNING: 0, Condition.DIED: 1, Condition.STOPPED: 3}
_COLOURS = {Condition.RUNNING: "green", Condition.DIED: "red", Condition.STOPPED: ""}
_FOLLOW_SECONDS = 0.2

_SERVICE = click.argument("service", type=click.Choice([*NAMES, ALL]), default=ALL)
_SECONDS = click.FloatRange(min=0)


@click.group()
def command() -> None:
    """Run worker, Beat and Flower in the background of one machine.

    For machines without systemd or containers. A service goes on when the terminal is closed, keeps a
    log of bounded size, and takes its settings from the environment of `manage start`. Worker and Beat
    start again when they crash, but nothing does after a reboot: put `manage start` into the machine's
    start-up.
    """
    check_platform()


@command.command("start", context_settings={"show_default": True})
@_SERVICE
@click.option("--timeout", type=_SECONDS, default=START_SECONDS, help="Seconds to wait until it works.")
def start_command(service: str, timeout: float) -> None:
    """Start a service, or all, and wait until it works.

    The worker works when it answers Celery's ping, Beat when it holds its lock, Flower when its page
    answers. One that runs already is left alone; with `all`, Flower is left out if it is not installed.

    The exit code is 1 when one does not work in time; it goes on trying, e.g. while the broker is away.
    """
    _for_each(_services(service), lambda each: _start(each, timeout))


@command.command("stop", context_settings={"show_default": True})
@_SERVICE
@click.option("--timeout", type=_SECONDS, default=STOP_SECONDS, help="Seconds until it is killed.")
def stop_command(service: str, timeout: float) -> None:
    """Stop a service, or all, and wait for its end.

    The worker writes the batches that it has in hand. What does not end in time is killed; batches in
    hand come again to the next worker. The exit code is 1 when that was needed.
    """
    _for_each(reversed(_services(service)), lambda each: _stop(each, timeout))


@command.command("restart", context_settings={"show_default": True})
@_SERVICE
@click.option(
    "--timeout", type=_SECONDS, default=START_SECONDS, help="Seconds for the end, and for the start."
)
def restart_command(service: str, timeout: float) -> None:
    """Stop a service, or all, and start it with the settings of this environment.

    The exit code is 1 when one had to be killed, or does not work in time.
    """
    _for_each(_services(service), lambda each: all([_stop(each, timeout), _start(each, timeout)]))


@command.command("status")
@_SERVICE
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def status_command(service: str, as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Show whether a service runs, since when, and whether it works.

    The exit code is 0 when it runs, 3 when it was stopped or never started, and 1 when it died; of all,
    the worst: 1, then 3. Flower counts only where it is installed.
    """
    found = [(each, look(each)) for each in _services(service)]
    if as_json:
        echo_json([_facts(*each) for each in found], default=str)
    else:
        open_console().print(_table(found))
    codes = {_EXIT_CODES[status.condition] for _, status in found}
    sys.exit(next(code for code in (1, 3, 0) if code in codes))


@command.command("logs", context_settings={"show_default": True})
@_SERVICE
@click.option("-n", "count", type=click.IntRange(min=0), default=20, metavar="N", help="How many lines.")
@click.option("-f", "--follow", "follows", is_flag=True, help="Go on with what is added, until Ctrl-C.")
def logs_command(service: str, count: int, follows: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Show the last lines of a service's log, or of all."""
    services = _services(service)
    with ExitStack() as stack:
        tails = [stack.enter_context(Tail(each.folder / LOG_NAME, count)) for each in services]
        while True:
            for each, tail in zip(services, tails, strict=True):
                for line in tail.read():
                    click.echo(printable(line if len(services) == 1 else f"{each.name:6} | {line}"))
            if not follows:
                return
            time.sleep(_FOLLOW_SECONDS)


def _services(name: str) -> Sequence[Service]:
    settings = Settings.from_environment()
    if name != ALL:
        return [find_service(name, settings)]
    return [find_service(each, settings) for each in NAMES if each != "flower" or find_spec("flower")]


def _for_each(services: Any, act: Callable[[Service], bool]) -> None:
    """Go on with the others when one fails; the exit code is 1 then."""
    succeeded = True
    for service in services:
        try:
            succeeded &= act(service)
        except ServiceError as error:
            succeeded = False
            click.echo(printable_lines(f"execution-logger: {error}"), err=True)
    sys.exit(not succeeded)


def _start(service: Service, timeout_seconds: float) -> bool:
    what = "runs already" if is_running(service) else "started"
    status = start(service, timeout_seconds)
    pid = status.record and status.record.pid
    click.echo(printable(f"{service.name} {what}: process {pid}, {service.about}"))
    if status.problem:
        problem = f"execution-logger: {service.name} runs, but not as it should: {status.problem}"
        click.echo(printable(problem), err=True)
        click.echo(printable(f"  its log: {service.folder / LOG_NAME}"), err=True)
    return status.problem is None


def _stop(service: Service, timeout_seconds: float) -> bool:
    if not is_running(service):
        click.echo(f"{service.name} did not run")
        return True
    has_ended = stop(service, timeout_seconds)
    click.echo(f"{service.name} stopped")
    if not has_ended:
        click.echo(
            f"execution-logger: {service.name} did not end within {timeout_seconds:g} s and was killed",
            err=True,
        )
    return has_ended


def _facts(service: Service, status: Status) -> dict[str, Any]:
    record = status.record
    return {
        "service": service.name,
        "condition": status.condition,
        "pid": record.pid if record and status.condition is Condition.RUNNING else None,
        "about": record.about if record else service.about,
        "started_at": record and record.started_at.isoformat(),
        "ended_at": record and record.ended_at and record.ended_at.isoformat(),
        "exit_code": record and record.exit_code,
        "problem": status.problem,
        "log": str(service.folder / LOG_NAME),
    }


def _table(found: Sequence[tuple[Service, Status]]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_header=False)
    for service, status in found:
        colour = "yellow" if status.problem else _COLOURS[status.condition]
        table.add_row(service.name, Text(status.condition, colour), Text(_said(status)))
    return table


def _said(status: Status) -> str:
    record = status.record
    if record is None:
        return "never started here"
    if status.condition is Condition.RUNNING:
        said = printable(f"process {record.pid} since {_moment(record.started_at)}, {record.about}")
        return f"{said}\n{printable(status.problem)}" if status.problem else said
    ended = f", at {_moment(record.ended_at)}" if record.ended_at else ""
    how = status.problem or ("it was told to end" if record.was_stopped else "it ended by itself")
    return printable(f"{how}{ended}")


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
