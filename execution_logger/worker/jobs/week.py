"""The week in numbers, as a text and as data."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from execution_logger.read.overview import table_size
from execution_logger.read.statistics import ALL, Statistic, read_statistics
from execution_logger.settings import Settings
from execution_logger.store.dead_letters import dead_letter_table
from execution_logger.store.job_runs import FAILED, JobRuns
from execution_logger.text import printable

DAYS = 7

_MOST_SLOW = 5


@dataclass(frozen=True, slots=True)
class WeeklyReport:
    """What the hook is given.

    Attributes:
        text: for people, some twenty lines.
        data: the same for programs, of what JSON knows.
    """

    text: str
    data: dict[str, Any]


async def make_report(connection: AsyncConnection, settings: Settings, now: datetime) -> WeeklyReport:
    """Sum up the seven days before the hour of `now`, from the statistics.

    Raises:
        sqlalchemy.exc.DBAPIError: `attempt` of `store.faults` explains it.
    """
    until = now.replace(minute=0, second=0, microsecond=0)
    since = until - timedelta(days=DAYS)
    statistics = await read_statistics(connection, settings, since - timedelta(days=DAYS), until)
    data = {
        "since": since.isoformat(timespec="minutes"),
        "until": until.isoformat(timespec="minutes"),
        **_sums(each for each in statistics if each.hour >= since),
        "week_before": _sums(each for each in statistics if each.hour < since),
        "dead_letters": await _dead_letters(connection, settings, since),
        "table_bytes": await table_size(connection, settings),
        "failed_jobs": await _failed_jobs(connection, settings, since),
    }
    return WeeklyReport(_text(data), data)


def _sums(statistics: Iterable[Statistic]) -> dict[str, Any]:
    entries: dict[str, Counter[str]] = defaultdict(Counter)
    errors: Counter[str] = Counter()
    hours = runs = 0
    timed = []
    for each in statistics:
        entries[each.dimension][each.name] += each.entries
        if each.dimension == ALL:
            hours, runs = hours + 1, runs + (each.runs or 0)
            errors[ALL] += each.errors
        if each.timed:
            timed.append(each)
    return {
        "hours": hours,
        "runs": runs,
        "entries": entries[ALL].total(),
        "errors": errors[ALL],
        "levels": dict(entries["level"].most_common()),
        "categories": dict(entries["category"].most_common()),
        "slowest_steps": _slowest(each for each in timed if each.dimension == "step"),
        "slowest_agents": _slowest(each for each in timed if each.dimension == "agent"),
    }


def _slowest(statistics: Iterable[Statistic]) -> list[dict[str, Any]]:
    """By the mean of the hours' 95th percentiles, in which an hour counts as often as it has durations."""
    groups: dict[str, list[Statistic]] = defaultdict(list)
    for each in statistics:
        groups[each.name].append(each)
    found = [
        {
            "name": name,
            "timed": sum(each.timed for each in hours),
            "p50_ms": _mean((each.p50_ms or 0.0, each.timed) for each in hours),
            "p95_ms": _mean((each.p95_ms or 0.0, each.timed) for each in hours),
        }
        for name, hours in groups.items()
    ]
    return sorted(found, key=lambda each: (-each["p95_ms"], each["name"]))[:_MOST_SLOW]  # type: ignore[operator]


def _mean(weighted: Iterable[tuple[float, int]]) -> float:
    pairs = list(weighted)
    return round(sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs), 1)


async def _dead_letters(connection: AsyncConnection, settings: Settings, since: datetime) -> int:
    letters = dead_letter_table(settings).c
    query = select(func.count()).where(letters.created_at >= since)
    return int((await connection.execute(query)).scalar_one())


async def _failed_jobs(connection: AsyncConnection, settings: Settings, since: datetime) -> dict[str, Any]:
    """Of each job that has failed since how often, as far as it is remembered, and why the last time."""
    failures = {}
    for run in await JobRuns(settings).all(connection):
        failed = [
            past
            for past in run.past_runs
            if past["outcome"] == FAILED and datetime.fromisoformat(past["finished_at"]) >= since
        ]
        if failed:
            failures[run.name] = {"times": len(failed), "error": failed[0]["error"]}
    return failures


def _text(data: dict[str, Any]) -> str:
    before = data["week_before"]
    lines = [
        f"Execution logs from {data['since']} to {data['until']}",
        "",
        *(
            f"{name:<13}{data[name]:>14,}{_change(data[name], before[name], has_before=before['hours'] > 0)}"
            for name in ("runs", "entries", "errors")
        ),
        f"{'dead letters':<13}{data['dead_letters']:>14,}",
        f"{'table, MB':<13}{data['table_bytes'] / 1e6:>14,.1f}",
    ]
    if data["hours"] < DAYS * 24:
        lines.append(f"(only {data['hours']} of {DAYS * 24} hours were counted)")
    lines += [_names_line(name, data[name]) for name in ("levels", "categories") if data[name]]
    for name in ("slowest_steps", "slowest_agents"):
        lines += _slow_lines(name.replace("_", " "), data[name])
    lines += [
        f"job {name} has failed ({failure['times']}x), the last time: {failure['error']}"
        for name, failure in data["failed_jobs"].items()
    ]
    return "\n".join(map(printable, lines))


def _change(value: int, before: int, *, has_before: bool) -> str:
    if not has_before or not before:
        return ""
    return f"  ({(value - before) / before:+.0%} against the week before)"


def _names_line(title: str, entries: dict[str, int]) -> str:
    return f"{title}: " + ", ".join(f"{name} {number:,}" for name, number in entries.items())


def _slow_lines(title: str, slow: Sequence[dict[str, Any]]) -> list[str]:
    if not slow:
        return []
    return [
        f"{title}, ms:",
        *(
            f"  {each['name'][:40]:<40} p50 {each['p50_ms']:>10,.0f}  p95 {each['p95_ms']:>10,.0f}"
            f"  ({each['timed']:,} times)"
            for each in slow
        ),
    ]
