"""The week in numbers, made by a task of the host's own from the hourly statistics.

Run it with `celery -A weekly_report worker --beat`, or put task and schedule into an application that you
have. It needs `DATABASE_URL`, and the job `statistics` to have run.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from celery import Celery
from celery.schedules import crontab

from execution_logger import Settings
from execution_logger.read.statistics import Statistic, read_statistics
from execution_logger.store import create_engine

WEEK = timedelta(days=7)
MOST_SLOW = 5

app = Celery("weekly_report", broker="redis://localhost:6379/0")
app.conf.beat_schedule = {
    "weekly_report": {
        "task": "weekly_report.send",
        "schedule": crontab(minute="30", hour="6", day_of_week="mon"),
    }
}


@app.task(name="weekly_report.send")  # type: ignore[untyped-decorator] # Celery has no types
def send() -> None:
    """Sum up the last seven days; put your mail or chat in the place of `print`."""
    settings = Settings.from_environment()
    until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    statistics = asyncio.run(read(settings, until - 2 * WEEK, until))
    print(report(statistics, until))


async def read(settings: Settings, since: datetime, until: datetime) -> list[Statistic]:
    """The statistics of these hours."""
    engine = create_engine(settings, pool_size=1)
    try:
        async with engine.connect() as connection:
            return await read_statistics(connection, settings, since, until)
    finally:
        await engine.dispose()


def report(statistics: Sequence[Statistic], until: datetime) -> str:
    """The week before `until`, compared with the one before that."""
    week = [each for each in statistics if each.hour >= until - WEEK]
    now, before = totals(week), totals(each for each in statistics if each.hour < until - WEEK)
    lines = [f"Execution logs from {until - WEEK:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC"]
    lines += [f"{name:<8}{now[name]:>12,}{change(now[name], before[name])}" for name in now]
    for dimension in ("level", "category"):
        entries: Counter[str] = Counter()
        for each in week:
            if each.dimension == dimension:
                entries[each.name] += each.entries
        lines.append(f"{dimension}: " + ", ".join(f"{name} {n:,}" for name, n in entries.most_common()))
    lines += slowest(each for each in week if each.dimension == "step")
    return "\n".join(lines)


def totals(statistics: Iterable[Statistic]) -> dict[str, int]:
    """Over all hours."""
    found = [each for each in statistics if each.dimension == "all"]
    return {
        "runs": sum(each.runs or 0 for each in found),
        "entries": sum(each.entries for each in found),
        "errors": sum(each.errors for each in found),
    }


def change(value: int, before: int) -> str:
    """Against the week before, if that had any."""
    return f"  ({(value - before) / before:+.0%} against the week before)" if before else ""


def slowest(statistics: Iterable[Statistic]) -> list[str]:
    """By the mean of the hours' 95th percentiles, in which an hour counts as often as it has durations."""
    timed: Counter[str] = Counter()
    weighted: dict[str, float] = {}
    for each in statistics:
        timed[each.name] += each.timed
        weighted[each.name] = weighted.get(each.name, 0.0) + (each.p95_ms or 0.0) * each.timed
    means = {name: weighted[name] / number for name, number in timed.items() if number}
    slow = sorted(means, key=lambda name: -means[name])[:MOST_SLOW]
    return [f"step {name}: p95 {means[name]:,.0f} ms ({timed[name]:,} times)" for name in slow]
