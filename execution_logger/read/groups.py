"""What is in a run by name, and the most frequent errors of all runs."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from execution_logger.entry.entry import ERRORS
from execution_logger.read.summary import MOST_COUNTED
from execution_logger.read.timeline import Timeline, is_of_run, newest_first
from execution_logger.store.table import LogTable

MOST_NAMES = 1000
"""So many different combinations of names in a run are told apart."""
MOST_SEARCHED = 200_000
"""Entries, from the newest backwards, among which errors are looked for."""
MOST_ERRORS = 5000
"""Errors that are grouped."""

_DIMENSIONS = ("level", "category", "step", "agent_name")
_VARYING = re.compile(
    r"""\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b   # a UUID
    | \b0x[0-9a-f]+\b | \b[0-9a-f]*[0-9][0-9a-f]{7,}\b    # an address, a digest
    | \d+(?:[.,:]\d+)*                                      # a number, a time
    | '[^']{1,80}' | "[^"]{1,80}"                           # what is quoted
    """,
    re.VERBOSE | re.IGNORECASE,
)
_MAX_FINGERPRINT_CHARS = 200


@dataclass(frozen=True, slots=True)
class Names:
    """How many entries of a run there are by name, the most frequent first.

    Attributes:
        counts: for each of `level`, `category`, `step` and `agent_name`: entries and errors by name.
    """

    counts: dict[str, dict[str, tuple[int, int]]]


async def count_names(timeline: Timeline) -> Names:
    """Count the newest entries of a run by their names.

    Raises:
        StoreUnavailableError: the database cannot be used now.
    """
    async with timeline.reading() as (connection, table):
        values = [table.value(name).label(name) for name in _DIMENSIONS]
        entries = newest_first(table, sa.select(*values).where(is_of_run(table, timeline.task_id)))
        newest = entries.limit(MOST_COUNTED).subquery()
        query = sa.select(newest, sa.func.count().label("number")).group_by(*newest.c)
        query = query.order_by(sa.desc("number")).limit(MOST_NAMES)
        rows = (await connection.execute(query)).all()
    entries_by: dict[str, Counter[str]] = {name: Counter() for name in _DIMENSIONS}
    errors_by: dict[str, Counter[str]] = {name: Counter() for name in _DIMENSIONS}
    for *names, number in rows:
        texts = [table.to_text(field, name) for field, name in zip(_DIMENSIONS, names, strict=True)]
        for dimension, text in zip(_DIMENSIONS, texts, strict=True):
            if text is not None:
                entries_by[dimension][text] += number
                errors_by[dimension][text] += number if texts[0] in ERRORS else 0
    return Names({
        dimension: {name: (number, errors_by[dimension][name]) for name, number in counts.most_common()}
        for dimension, counts in entries_by.items()
    })  # fmt: skip


@dataclass(slots=True)
class ErrorGroup:
    """Errors that differ in numbers, ids and quoted words alone.

    Attributes:
        fingerprint: what their messages have in common.
        message: that of the newest.
        task_id: its run.
        entry_id: its id.
        step: its step.
        agent: its agent.
        last_at: when it was made.
        first_at: when the oldest of them was made.
        entries: how many there are.
        runs: the names of their runs.
    """

    fingerprint: str
    message: str
    task_id: str
    entry_id: str
    step: str | None
    agent: str | None
    last_at: datetime
    first_at: datetime
    entries: int = 0
    runs: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Errors:
    """The errors of a time.

    Attributes:
        groups: the most frequent first.
        looked_at: how many errors they are made of.
        is_complete: there are no others in this time.
    """

    groups: Sequence[ErrorGroup]
    looked_at: int
    is_complete: bool


async def group_errors(timeline: Timeline, since: datetime, until: datetime, limit: int) -> Errors:
    """Group the newest errors of a time by what their messages have in common.

    Args:
        timeline: of all runs.
        since: (aware) only those made from then on.
        until: (aware) only those made before then.
        limit: how many groups.

    Raises:
        StoreUnavailableError: the database cannot be used now.
    """
    async with timeline.reading() as (connection, table):
        rows, is_complete = await _newest_errors(connection, table, since, until)
        groups: dict[str, ErrorGroup] = {}
        for id_, created_at, name, message, step, agent in rows:
            task_id, moment = table.to_text("task_id", name) or "", table.to_utc(created_at) or since
            fingerprint = fingerprint_of(message or "")
            group = groups.get(fingerprint)
            if group is None:
                told = (table.to_text("step", step), table.to_text("agent_name", agent))
                group = ErrorGroup(
                    fingerprint, message or "", task_id, table.id_text(id_), *told, moment, moment
                )
                groups[fingerprint] = group
            group.entries += 1
            group.first_at = moment
            group.runs.add(task_id)
    ordered = sorted(groups.values(), key=lambda group: (-group.entries, -group.last_at.timestamp()))
    return Errors(ordered[:limit], len(rows), is_complete)


async def _newest_errors(
    connection: AsyncConnection, table: LogTable, since: datetime, until: datetime
) -> tuple[Sequence[Any], bool]:
    columns = table.columns
    fields: list[Any] = [columns["id"], columns["created_at"], columns["task_id"], columns["level"]]
    message = sa.func.substr(sa.cast(columns["message"], sa.Text), 1, 2 * _MAX_FINGERPRINT_CHARS)
    fields += [message.label("message"), table.value("step").label("step")]
    fields += [table.value("agent_name").label("agent_name")]
    of_time = sa.select(*fields).where(*table.made(since, until))
    newest = of_time.order_by(columns["created_at"].desc(), columns["id"].desc()).limit(MOST_SEARCHED)
    found = newest.subquery().c
    wanted = (found.id, found.created_at, found.task_id, found.message, found.step, found.agent_name)
    query = sa.select(*wanted).where(table.is_level(*ERRORS, column=found.level))
    query = query.order_by(found.created_at.desc(), found.id.desc()).limit(MOST_ERRORS)
    rows = (await connection.execute(query)).all()
    beyond = of_time.with_only_columns(columns["id"]).offset(MOST_SEARCHED).limit(1)
    is_cut = len(rows) == MOST_ERRORS or (await connection.execute(beyond)).first() is not None
    return rows, not is_cut


def fingerprint_of(message: str) -> str:
    """The message without what differs from one to the next: numbers, ids, digests, quoted words."""
    return _VARYING.sub("#", message)[:_MAX_FINGERPRINT_CHARS]
