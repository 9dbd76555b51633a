"""The skeleton of a run: what a picture of all its entries needs, without their texts and details."""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from execution_logger.entry.entry import ENDED, RUN_STATE, LogEntry, RunState
from execution_logger.read.place import Place, micros, moment_of
from execution_logger.read.timeline import Timeline, is_of_run, oldest_first
from execution_logger.read.tree import name_in, name_of
from execution_logger.store.table import LogTable, kept_field, kept_value

MOST_COUNTED = 1_000_000
_TOOL = "tool_name"
_MAX_TITLE_CHARS = 300
_TEXTS = ("level", "category", "step", "agent_name")
_STATES = frozenset(RunState)


class Outline(msgspec.Struct, frozen=True, gc=False):
    """An entry of which only little is wanted.

    Attributes:
        id: the entry's.
        at_us: when it was made, in microseconds since 1970.
        level: as it is stored.
        category: as it is stored.
        step: as it is stored.
        agent: its `agent_name`.
        tool: the `tool_name` of its details.
        name: that of the operation that it begins or ends.
        operation: that operation's id.
        parent: the id of the operation within which it was recorded.
        duration_ms: as it is stored.
        state: what it says of its run, if it begins or ends one.
    """

    id: str
    at_us: int
    level: str | None
    category: str | None
    step: str | None
    agent: str | None
    tool: str | None
    name: str | None
    operation: str | None
    parent: str | None
    duration_ms: int | None
    state: str | None

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(moment_of(self.at_us), self.id)


def outline_of(entry: LogEntry) -> Outline:
    """The outline of a whole entry."""
    details = entry.details or {}
    state = details.get(RUN_STATE) if entry.operation_id else None
    return Outline(
        id=entry.id,
        at_us=micros(entry.created_at),
        level=entry.level,
        category=entry.category,
        step=entry.step,
        agent=entry.agent_name,
        tool=kept_field(details, _TOOL),
        name=name_of(entry) if entry.operation_id else None,
        operation=entry.operation_id,
        parent=entry.parent_id,
        duration_ms=entry.duration_ms,
        state=state if isinstance(state, str) and state in _STATES else None,
    )


async def read_outlines(timeline: Timeline, after: Place | None, limit: int) -> list[Outline]:
    """The next ones after a place, or from the first one on, in the order of time.

    Raises:
        StoreUnavailableError: the database cannot be used now.
        UnknownPlaceError: the place is none of this table.
    """
    async with timeline.reading() as (connection, table):
        query = sa.select(*_columns(table)).where(is_of_run(table, timeline.task_id))
        if after is not None:
            query = query.where(after.after(table, timeline.task_id))
        rows = await connection.execute(oldest_first(table, query, timeline.place).limit(limit))
        return _outlines(table, rows.all())


async def count_entries(timeline: Timeline, up_to: Place | None = None) -> int:
    """How many entries there are, up to a place or in all; no more than `MOST_COUNTED` are counted."""
    async with timeline.reading() as (connection, table):
        some = sa.select(sa.literal(1)).select_from(table.table).where(is_of_run(table, timeline.task_id))
        if up_to is not None:
            some = some.where(up_to.up_to(table, timeline.task_id))
        query = sa.select(sa.func.count()).select_from(some.limit(MOST_COUNTED).subquery())
        return int((await connection.execute(query)).scalar_one())


def _columns(table: LogTable) -> list[Any]:
    def of_operation(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.case((operation_id.is_not(None), value))

    details, dialect = table.columns["details"], table.dialect
    operation_id = sa.cast(table.value("operation_id"), sa.Text)
    title = sa.func.substr(sa.cast(table.columns["message"], sa.Text), 1, _MAX_TITLE_CHARS)
    return [
        table.columns["id"],
        table.columns["created_at"],
        *(table.value(name) for name in _TEXTS),
        kept_value(details, dialect, _TOOL),
        of_operation(title),
        operation_id,
        sa.cast(table.value("parent_id"), sa.Text),
        table.value("duration_ms"),
        of_operation(kept_value(details, dialect, RUN_STATE)),
    ]


def _outlines(table: LogTable, rows: Sequence[Any]) -> list[Outline]:
    known: dict[tuple[str, Any], str | None] = {}

    def text(field: str, value: Any) -> str | None:
        """The same few values come again and again."""
        key = field, value
        if key not in known:
            known[key] = table.to_text(field, value)
        return known[key]

    outlines = []
    for row in rows:
        id_, created_at, level, category, step, agent, tool, title, operation, parent, duration_ms, state = (
            row
        )
        moment, level = table.to_utc(created_at), text("level", level)
        duration_ms = None if duration_ms is None else int(duration_ms)
        is_end = duration_ms is not None or state in ENDED
        outlines.append(
            Outline(
                table.id_text(id_),
                0 if moment is None else micros(moment),
                level,
                text("category", category),
                text("step", step),
                text("agent_name", agent),
                tool,
                name_in(title or "", level, is_end=is_end) if operation else None,
                operation,
                parent,
                duration_ms,
                state if state in _STATES else None,
            )
        )
    return outlines
