"""Entries of several runs, and what the options of `tail` and `export` are to find of them."""

from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from batches import encoded
from execution_logger.read.follow import Follower
from execution_logger.read.timeline import ALL, Only, Timeline
from execution_logger.settings import Settings
from execution_logger.store import ExecutionLogRepository, WriteResult

OPERATIONS = [f"01a2020e-76f9-7733-a5d1-0d5f613dc3d{number}" for number in range(4)]
START = datetime(2026, 11, 22, 2, 13, tzinfo=UTC)
SELECTIONS: dict[str, tuple[Only, str]] = {
    "all": (ALL, "012345"),
    "from a time on": (Only(since=START.replace(second=2)), "2345"),
    "before a time": (Only(until=START.replace(second=2)), "01"),
    "a span": (Only(since=START.replace(second=1), until=START.replace(second=3)), "12"),
    "one agent": (Only(agents=("a",)), "02"),
    "two agents": (Only(agents=("a", "b")), "0124"),
    "a step": (Only(steps=("plan",)), "014"),
    "a text": (Only(contains="ll"), "03"),
    "a percent sign is no wildcard": (Only(contains="100%"), "1"),
    "an underscore neither": (Only(contains="_"), "2"),
    "a backslash and a quote": (Only(contains="\\'"), "4"),
    "the case matters": (Only(contains="HELLO"), "5"),
    "any script": (Only(contains="失败"), "3"),
    "several": (Only.at_least("warning", ["api"], agents=("b",), steps=("plan",), contains="x"), "4"),
    "an operation": (Only(operations=(OPERATIONS[0],)), "014"),
    "two operations": (Only(operations=OPERATIONS[:2]), "0124"),
    "more operations than parameters are possible": (
        Only(operations={*OPERATIONS, *map(str, range(40_000))}),
        "01245",
    ),
    "a part of an operation": (Only(operations=(OPERATIONS[0],), agents=("b",)), "14"),
    "none": (Only(agents=("nobody",)), ""),
    "no such operation": (Only(operations=(OPERATIONS[3],)), ""),
}
"""What is asked for, and the numbers of what is found."""


REPOSITORY_SELECTIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "420"),
    ({"operation_id": OPERATIONS[0]}, "40"),
    ({"operation_id": OPERATIONS[1].upper()}, "2"),
    ({"operation_id": OPERATIONS[3]}, ""),
    ({"operation_id": OPERATIONS[0], "agent_name": "b", "step": "plan"}, "4"),
    ({"since": START.replace(second=1), "until": START.replace(second=4)}, "2"),
    ({"contains": "_", "level": "info"}, "2"),
]
"""What a host asks for of one of the runs, and the same, newest first."""


class Site(Protocol):
    """A database that entries are written to."""

    engine: AsyncEngine
    settings: Settings

    async def write(self, *entries: str, batch_id: str = "b") -> WriteResult:
        """Store them."""


def _entries() -> list[str]:
    fields = (
        {"message": "hello", "agent_name": "a", "step": "plan"},
        {"message": "100% x", "agent_name": "b", "step": "plan"},
        {"message": "a_b 1000", "agent_name": "a", "step": "write"},
        {"message": "all 失败", "step": "write"},
        {"message": "\\'x", "agent_name": "b", "step": "plan", "level": "error", "category": "api"},
        {"message": "HELLO", "agent_name": "c"},
    )
    a, b, c, _ = OPERATIONS
    places = ((a, None), (b, a), (None, b), (None, None), (a, None), (c, None))
    return [
        encoded(
            task_id=f"run-{number % 2}",
            duration_ms=number,
            created_at=START.replace(second=number).isoformat(),
            operation_id=operation_id,
            parent_id=parent_id,
            **changed,
        )
        for number, (changed, (operation_id, parent_id)) in enumerate(zip(fields, places, strict=True))
    ]


async def check_selections(site: Site) -> None:
    """All ways to read tell the same, of a run and of all; `duration_ms` is the number of an entry."""
    entries = _entries()
    follower = Follower(site.engine, site.settings, None)
    await follower.begin()
    await site.write(*entries[:2], *entries[3:])
    news = await follower.news()
    await site.write(entries[2], batch_id="late")
    late = await follower.late()
    assert [entry.duration_ms for entry in (*news, *late)] == [0, 1, 3, 4, 5, 2]
    assert await follower.news() == await follower.late() == []
    everything = Timeline(site.engine, site.settings, None)
    assert await everything.exists()
    assert [entry.duration_ms for entry in await everything.last(2)] == [4, 5]
    assert await everything.beneath(OPERATIONS[:1]) == {*OPERATIONS[:2]}
    assert await Timeline(site.engine, site.settings, "run-0").beneath(OPERATIONS[:1]) == {OPERATIONS[0]}
    for name, (only, numbers) in SELECTIONS.items():
        found = await everything.last(100, only)
        assert "".join(str(entry.duration_ms) for entry in found) == numbers, name
        assert [entry async for page in everything.pages(only) for entry in page] == found, name
        assert [entry for entry in await everything.last(100) if only.takes(entry)] == found, name
        of_run = await Timeline(site.engine, site.settings, "run-1").last(100, only)
        assert of_run == [entry for entry in found if entry.task_id == "run-1"], name
    async with AsyncSession(site.engine) as session:
        repository = ExecutionLogRepository(session, site.settings)
        for wanted, numbers in REPOSITORY_SELECTIONS:
            listed = await repository.list_by_trace("run-0", **wanted)
            assert "".join(str(entry.duration_ms) for entry in listed) == numbers, wanted
