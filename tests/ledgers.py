"""Ledgers of any content, and what an audit of them has to say, told in the plainest way."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import strategies as st
from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from execution_logger.read.audit import Audit, Range
from execution_logger.store.schema import Moment

LATE_AFTER_SECONDS = 60

_DELETE = text("DELETE FROM execution_log_batches")
_INSERT = text(
    "INSERT INTO execution_log_batches (batch_id, process, first, entries, dead_lettered, deliveries, "
    "oldest_at, newest_at, stored_at) VALUES (:batch_id, :process, :first, :entries, 0, :deliveries, "
    ":oldest_at, :newest_at, :stored_at)"
).bindparams(*(bindparam(name, type_=Moment) for name in ("oldest_at", "newest_at", "stored_at")))


@dataclass(frozen=True)
class Noted:
    """A row of the ledger, its times as ages in seconds."""

    batch_id: str
    process: str
    first: int
    entries: int
    deliveries: int
    age: int
    delay: int | None

    @property
    def numbers(self) -> range:
        """The numbers of its entries."""
        return range(self.first, self.first + self.entries)

    @property
    def is_late(self) -> bool:
        """Whether it took too long."""
        return self.delay is not None and self.delay > LATE_AFTER_SECONDS


LEDGERS = st.lists(
    st.builds(
        Noted,
        batch_id=st.uuids().map(str),
        process=st.sampled_from(["p", "q.1", "r-2"]),
        first=st.integers(1, 40),
        entries=st.integers(1, 6),
        deliveries=st.sampled_from([1, 1, 1, 2, 5]),
        age=st.sampled_from([5, 20, 100, 1000, 5000]),
        delay=st.sampled_from([None, -30, 0, 1, 59, 61, 600]),
    ),
    max_size=14,
    unique_by=lambda noted: noted.batch_id,
)
"""Any ledger: with gaps, batches that overlap, and such as came late or again."""

AGES = st.sampled_from([None, 10, 50, 500, 2000])
"""Where a time range may begin or end."""


async def fill(engine: AsyncEngine, ledger: Iterable[Noted], now: datetime) -> None:
    """Make this the ledger."""
    async with engine.begin() as connection:
        await connection.execute(_DELETE)
        for noted in ledger:
            stored_at = now - timedelta(seconds=noted.age)
            made_at = None if noted.delay is None else stored_at - timedelta(seconds=noted.delay)
            times = {"oldest_at": made_at, "newest_at": made_at, "stored_at": stored_at}
            values = {
                name: getattr(noted, name)
                for name in ("batch_id", "process", "first", "entries", "deliveries")
            }
            await connection.execute(_INSERT, values | times)


@dataclass(frozen=True)
class Judgement:
    """The numbers of the entries that are missing and so on, by their process, and the sums."""

    missing: set[tuple[str, int]]
    pending: set[tuple[str, int]]
    late: set[tuple[str, int]]
    repeated: set[tuple[str, int]]
    sums: dict[str, tuple[int, int, int, int, int, int]]


def expected(ledger: list[Noted], since_age: int | None, until_age: int | None) -> Judgement:
    """What an audit has to find, entry by entry."""
    judgement = Judgement(set(), set(), set(), set(), {})
    for process in {noted.process for noted in ledger}:
        batches = sorted(
            (noted for noted in ledger if noted.process == process),
            key=lambda b: (b.first, -b.age, -b.entries, b.batch_id),
        )
        judged = [
            noted
            for noted in batches
            if (since_age is None or noted.age <= since_age) and (until_age is None or noted.age > until_age)
        ]
        if judged:
            _judge(judgement, process, batches, judged, has_start=since_age is not None)
    return judgement


def _judge(
    judgement: Judgement, process: str, batches: list[Noted], judged: list[Noted], *, has_start: bool
) -> None:
    seen: set[int] = set()
    entries = late = 0
    for noted in batches:
        new = set(noted.numbers) - seen
        if noted in judged:
            entries += len(new)
            again = set(noted.numbers) - new if noted.deliveries == 1 else set(noted.numbers)
            judgement.repeated.update((process, number) for number in again)
            if noted.is_late:
                late += len(new)
                judgement.late.update((process, number) for number in new)
        seen |= new
    gaps = 0, 0
    for number in set(range(1, max(seen))) - seen:
        after = next(noted for noted in batches if noted.first > number)
        if after not in judged or (has_start and number < batches[0].first):
            continue
        is_due = after.age >= LATE_AFTER_SECONDS
        (judgement.missing if is_due else judgement.pending).add((process, number))
        gaps = gaps[0] + is_due, gaps[1] + (not is_due)
    delivered = sum(noted.entries * noted.deliveries for noted in judged)
    judgement.sums[process] = (len(judged), entries, *gaps, late, delivered - entries)


def judged(audit: Audit) -> Judgement:
    """What an audit has found, entry by entry."""
    return Judgement(
        missing=set(_numbers(audit.missing)),
        pending=set(_numbers(audit.pending)),
        late=set(_numbers(audit.late)),
        repeated=set(_numbers(audit.repeated)),
        sums={
            account.process: (
                account.batches,
                account.entries,
                account.missing,
                account.pending,
                account.late,
                account.repeated,
            )
            for account in audit.accounts
        },
    )


def _numbers(ranges: Iterable[Range]) -> Iterator[tuple[str, int]]:
    for one in ranges:
        for number in range(one.first, one.last + 1):
            yield one.process, number
