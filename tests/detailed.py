"""Entries whose step and duration are kept in the details, and what every reader is to find of them."""

from collections import Counter
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from batches import encoded
from execution_logger.read.statistics import count_hour
from execution_logger.read.timeline import Only, Timeline
from execution_logger.settings import Settings
from execution_logger.store import ExecutionLogRepository
from execution_logger.store.table import look_up_table

_OWN = {"step": "mine", "duration_ms": 1000}
ENTRIES: dict[str, tuple[dict[str, Any], tuple[str | None, int | None]]] = {
    "plain": ({"step": "s", "duration_ms": 7}, ("s", 7)),
    "no duration": ({"step": "s"}, ("s", None)),
    "zero": ({"step": "t", "duration_ms": 0, "details": {"k": {"duration_ms": 5}}}, ("t", 0)),
    "own keys": ({"step": "s", "duration_ms": 30, "details": _OWN}, ("s", 30)),
    "own nulls": ({"step": "t", "duration_ms": 31, "details": dict.fromkeys(_OWN)}, ("t", 31)),
    "own keys of other kinds": ({"details": {"step": 5, "duration_ms": "7"}}, (None, None)),
    "changes": ({"details": {"_changed": {"step": "was cut", "duration_ms": 9}}}, (None, None)),
}
"""By message: fields, and the step and the duration that are to be read."""

HOSTS = {
    "an array": '[{"duration_ms": 5}]',
    "a number": "5",
    "a fraction": '{"step": "s", "duration_ms": 7.5}',
    "a negative number": '{"step": "s", "duration_ms": -7}',
    "too much": '{"step": "s", "duration_ms": 2147483648}',
    "far too much": '{"step": "s", "duration_ms": 1e30}',
    "true": '{"step": true, "duration_ms": true}',
    "an array of changes": '{"step": "s", "duration_ms": 8, "_changed": [1]}',
}
"""By message: details that only a host can have stored."""
NO_JSON = {"no JSON": "duration_ms: 5", "half of an object": '{"duration_ms": 5'}


def encoded_entries() -> list[str]:
    """All of them; those of the host have no details yet."""
    own = [encoded(message=message, **changed) for message, (changed, _) in ENTRIES.items()]
    return own + [encoded(message=message) for message in HOSTS | NO_JSON]


async def check_readers_agree(engine: AsyncEngine, settings: Settings) -> None:
    """The timeline, the summary and the statistics tell the same of the steps and the durations."""
    entries = await Timeline(engine, settings, "t").last(100)
    found: dict[str, Any] = {entry.message: (entry.step, entry.duration_ms) for entry in entries}
    assert {message: found[message] for message in ENTRIES} == {
        message: values for message, (_, values) in ENTRIES.items()
    }
    assert found["an array of changes"] == ("s", 8)
    for step in ("s", "t", "mine"):
        selected = await Timeline(engine, settings, "t").last(100, Only(steps=(step,)))
        assert selected == [entry for entry in entries if entry.step == step]
    durations = [entry.duration_ms for entry in entries if entry.duration_ms is not None]
    assert sorted(durations) == [0, 7, 8, 30, 31]
    async with AsyncSession(engine) as session:
        summary = await ExecutionLogRepository(session, settings).get_logs_summary("t")
        assert summary["total_duration_ms"] == sum(durations)
        connection = await session.connection()
        table = await look_up_table(connection, settings)
        hour = entries[0].created_at.replace(minute=0, second=0, microsecond=0)
        statistics = await count_hour(connection, table, hour)
    counted = {each.name: (each.entries, each.timed) for each in statistics if each.dimension == "step"}
    steps = Counter(entry.step for entry in entries)
    timed = Counter(entry.step for entry in entries if entry.duration_ms is not None)
    assert counted == {name: (steps[name], timed[name]) for name in ("s", "t")}
