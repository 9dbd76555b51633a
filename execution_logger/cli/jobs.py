"""`execution-logger jobs`: the scheduled jobs, what they did, and why one did not."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import click
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from execution_logger.cli.db import in_database
from execution_logger.cli.options import json_option
from execution_logger.cli.terminal import Cell, day_and_time, echo_json, open_console, print_rows, say
from execution_logger.settings import Settings
from execution_logger.text import printable
from execution_logger.worker.job_status import JobStatus, read_jobs
from execution_logger.worker.jobs import CONNECTIONS, Result, Runner
from execution_logger.worker.schedule import JOBS, Job

_STATE_STYLES = {"succeeded": "green", "failed": "red", "running": "cyan"}


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Show the scheduled jobs: their last run, what it did, and when they are due next.

    Celery Beat sends them and the worker runs them. Times are in UTC.

    The exit code is 0 when all is well, and 1 when a job has failed or is late.
    """
    if context.invoked_subcommand is not None:
        return
    jobs = in_database("jobs", read_jobs)
    if as_json:
        echo_json([_as_json(each) for each in jobs])
    else:
        _print(jobs)
    sys.exit(any(job.problem for job in jobs))


@command.command("run")
@click.argument("name", metavar="NAME", type=click.Choice(list(JOBS)))
@json_option
def run_command(name: str, as_json: bool) -> None:
    """Run a job now, in this process, without Beat, broker or worker.

    `health` looks at the broker, the database and the other jobs; `statistics` counts the entries of
    each hour; `retention` deletes entries that are too old.

    While a worker is at it, this says so and does nothing. After a Ctrl-C what it has done stays done; the
    same command goes on, or the next health check has a worker do so.

    The exit code is 0 when it succeeded, and 1 when it failed or runs elsewhere.
    """
    result = in_database("jobs run", partial(_run, JOBS[name], as_json), connections=CONNECTIONS)
    run = result.run
    if as_json:
        facts = {"name": name, "outcome": result.outcome, "summary": run.summary, "error": run.error}
        echo_json(facts)
    elif result.outcome == "skipped":
        click.echo(f"{name}: it runs already, since {day_and_time(run.started_at)} UTC", err=True)
    elif result.outcome == "failed":
        click.echo(printable(f"{name} failed: {run.error}"), err=True)
    else:
        click.echo(printable(f"{name} succeeded in {run.duration_seconds or 0:.1f} s: {_shown(run.summary)}"))
    sys.exit(result.outcome != "succeeded")


async def _run(job: Job, is_quiet: bool, engine: AsyncEngine, settings: Settings) -> Result:
    """Tick by tick, as a worker would message by message."""
    runner = Runner(engine, settings)
    while True:
        result = await runner.run(job, is_by_hand=True)
        if result.outcome != "unfinished":
            return result
        if not is_quiet:
            click.echo(printable(f"{job.name} goes on: {_shown(result.run.summary)}"))


def _print(jobs: Sequence[JobStatus]) -> None:
    console = open_console()
    rows: list[list[Cell]] = []
    for each in jobs:
        run = each.run
        took = "-" if run.duration_seconds is None else f"{run.duration_seconds:.1f} s"
        state = Text(each.state, _STATE_STYLES.get(each.state, "yellow"))
        due = (day_and_time(each.next_at), each.schedule or "off")
        rows.append([run.name, state, day_and_time(run.started_at), took, *due, _shown(run.summary)])
    columns = ("job", "outcome", "last run (UTC)", "took", "next (UTC)", "schedule", "what it did")
    print_rows(console, columns, rows, folded={"what it did": 24})
    for each in jobs:
        if each.problem:
            say(console, f"{each.run.name}: {each.problem}", "red")
        for reason in each.run.summary.get("reasons", ()):
            say(console, f"health: {reason}", "yellow")


def _as_json(status: JobStatus) -> dict[str, Any]:
    run = asdict(status.run)
    del run["known_since"], run["held_until"]
    return {
        **run,
        "meaning": status.job.meaning,
        "schedule": status.schedule,
        "state": status.state,
        "duration_seconds": status.run.duration_seconds,
        "next_at": status.next_at,
        "is_missed": status.is_missed,
        "problem": status.problem,
    }


def _shown(summary: Mapping[str, Any]) -> str:
    """What a job did, as `name value, name value`; the health's reasons have lines of their own."""
    told = {name.replace("_", " "): _value(value) for name, value in summary.items() if name != "reasons"}
    return ", ".join(f"{name} {value}" for name, value in told.items() if value) or "-"


def _value(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value or "")
