"""Which runs have changed since one has looked: those with a newer entry than then."""

from typing import Any

from sqlalchemy import func, select

from execution_logger.read.timeline import Timeline

MOST_LOOKED_AT = 5000
"""Entries, from the newest backwards."""


class RecentlyChanged:
    """Tells the runs that have new entries among the newest ones of the table.

    What comes late, with an older time than the newest entry of its run, changes nothing here.

    Args:
        timeline: of all runs.

    Raises:
        StoreUnavailableError: from `look`; it can be called again.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._newest: dict[Any, Any] = {}

    async def look(self) -> list[str]:
        """The names of those that have changed since the last look, that with the newest entry first."""
        async with self._timeline.reading() as (connection, table):
            columns = table.columns
            entries = select(columns["task_id"], columns["created_at"])
            newest = entries.order_by(columns["created_at"].desc()).limit(MOST_LOOKED_AT).subquery().c
            last = func.max(newest.created_at).label("last")
            query = (
                select(newest.task_id, last).group_by(newest.task_id).order_by(last.desc(), newest.task_id)
            )
            rows = await connection.execute(query)
            found: dict[Any, Any] = dict(tuple(row) for row in rows)
        changed = [name for name, moment in found.items() if self._newest.get(name) != moment]
        self._newest = found
        return [table.to_text("task_id", name) or "" for name in changed]
