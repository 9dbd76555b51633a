"""Encoded entries in batches, as they come out of a queue."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import md5
from uuid import UUID

import msgspec
from uuid_utils import uuid7

from execution_logger import LogEntry

PROCESS = "host-1234-0193"
"""The pipeline that has made the entries."""

CALLS_PER_RUN = 100
RUNS_AT_ONCE = 10

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class EncodedBatch:
    """What a message carries: `entries` is a JSON array, `first` the number of its first entry."""

    id: str
    entries: str
    first: int


def make_batches(entries: int, size: int, *, first: int = 1, prefix: str = "batch") -> list[EncodedBatch]:
    """Batches of runs of 100 calls each, ten runs at a time; the times are those of now."""
    return list(_batches(entries, size, first, prefix))


def run_of(number: int) -> int:
    """The run that the entry of this number belongs to."""
    return number // (CALLS_PER_RUN * RUNS_AT_ONCE) * RUNS_AT_ONCE + number % RUNS_AT_ONCE


def task_of(run: int) -> str:
    """The run's `task_id`, in no order, as random ones are."""
    return str(UUID(md5(f"run-{run}".encode(), usedforsecurity=False).hexdigest()))


def _batches(entries: int, size: int, first: int, prefix: str) -> Iterator[EncodedBatch]:
    start = datetime.now(UTC)
    for begin in range(first, first + entries, size):
        numbers = range(begin, min(begin + size, first + entries))
        moments = (start + timedelta(microseconds=number - first) for number in numbers)
        texts = [_encode(_entry(*each)) for each in zip(numbers, moments, strict=True)]
        yield EncodedBatch(f"{prefix}-{begin}", f"[{b','.join(texts).decode()}]", begin)


def _entry(number: int, created_at: datetime) -> LogEntry:
    return LogEntry(
        id=str(uuid7()),
        created_at=created_at,
        task_id=task_of(run_of(number)),
        level="info",
        category="agent",
        message=f"agent has finished step {number}",
        step="analysis",
        agent_name=f"agent-{number % 7}",
        roadmap_id=f"roadmap-{number // 1000}",
        details={"model": "m", "tokens": number, "prompt": "x" * 60},
        duration_ms=number % 5000,
    )
