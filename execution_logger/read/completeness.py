"""The completeness of a run: what is known to be missing from it, to have come late, or to be refused."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from execution_logger.errors import StoreUnavailableError
from execution_logger.read.audit import Delay, Gap, audit
from execution_logger.read.timeline import Timeline
from execution_logger.settings import Settings
from execution_logger.store.dead_letters import DeadLetter
from execution_logger.store.faults import attempt
from execution_logger.store.schema import dead_letter_table, storable

LATE_AFTER_SECONDS = 60.0
MOST_LETTERS = 50
_SLACK = timedelta(milliseconds=10)  # databases reckon and round: the first entry would be made before itself
_MOST_ENDING = 200  # the entry that ends a run is one of its last


@dataclass(frozen=True, slots=True)
class Completeness:
    """What is known of a run beside its entries.

    Gaps and delays are of processes: entries of this run may be among them, and need not.

    Attributes:
        why_unknown: why the ledger could not be asked; None when it was.
        missing: gaps in the numbers of a process that was at work while the run was.
        pending: such gaps that are too young to be called missing.
        late: what such a process had stored late.
        dead_letters: entries of the run that the database has refused.
        left_out: entries of the run that its limits have left out.
    """

    why_unknown: str | None
    missing: Sequence[Gap]
    pending: Sequence[Gap]
    late: Sequence[Delay]
    dead_letters: Sequence[DeadLetter]
    left_out: int


async def completeness_of(
    engine: AsyncEngine, settings: Settings, timeline: Timeline, first_at: datetime, last_at: datetime
) -> Completeness:
    """Ask the ledger and the dead letters.

    Args:
        engine: to the database.
        settings: name the tables.
        timeline: of the run.
        first_at: when its first entry was made, in UTC.
        last_at: when its last one was.

    Raises:
        StoreUnavailableError: not even the entries can be read now.
    """
    left_out = await _left_out(timeline)
    try:
        # Whatever was made during the run was stored after its beginning.
        found = await audit(engine, settings, since=first_at, late_after_seconds=LATE_AFTER_SECONDS)
        letters = await _letters(engine, settings, timeline.task_id or "")
    except StoreUnavailableError as error:
        return Completeness(str(error), (), (), (), (), left_out)
    return Completeness(
        None,
        _overlapping(found.missing, first_at, last_at),
        _overlapping(found.pending, first_at, last_at),
        [delay for delay in found.late if first_at - _SLACK <= _made_at(delay) <= last_at + _SLACK],
        letters,
        left_out,
    )


def _overlapping(gaps: Iterable[Gap], first_at: datetime, last_at: datetime) -> list[Gap]:
    return [
        gap
        for gap in gaps
        if (gap.made_before is None or gap.made_before >= first_at)
        and (gap.made_after is None or gap.made_after <= last_at)
    ]


def _made_at(delay: Delay) -> datetime:
    return (delay.stored_at - timedelta(seconds=delay.seconds)).astimezone(UTC)


async def _left_out(timeline: Timeline) -> int:
    for entry in reversed(await timeline.last(_MOST_ENDING)):
        number = (entry.details or {}).get("left_out")
        if entry.operation_id and type(number) is int and "run_state" in (entry.details or {}):
            return number
    return 0


async def _letters(engine: AsyncEngine, settings: Settings, task_id: str) -> list[DeadLetter]:
    table = dead_letter_table(settings)
    # There is no index on the run: dead letters are few.
    name = storable(msgspec.json.encode(task_id).decode())
    signs = [f'"task_id":{blank}{name}' for blank in ("", " ")]
    has_name = sa.or_(*(sa.func.replace(table.c.entry, sign, "") != table.c.entry for sign in signs))
    query = sa.select(table).where(has_name)
    query = query.order_by(table.c.created_at.desc(), table.c.id).limit(MOST_LETTERS)
    async with attempt(engine, settings.database_timeout_seconds), engine.connect() as connection:
        return [DeadLetter(*row) for row in await connection.execute(query)]
