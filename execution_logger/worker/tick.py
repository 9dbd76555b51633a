"""What a job is given each time: a tick, which is short, and may be repeated without harm."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from execution_logger.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from execution_logger.store.job_runs import JobRun


@dataclass(slots=True)
class Tick:
    """A short while in which a job works.

    Attributes:
        engine: to the database.
        settings: of the worker.
        run: as it was noted down when the tick began.
        now: when the tick began, by the clock of the database, in UTC.
        limit_seconds: after which the tick is cut off.
        has_time: whether to go on; otherwise the job returns, and the next tick is given its summary.
        summary: what the run has done so far, for people and for the next tick; of what JSON knows.
    """

    engine: "AsyncEngine"
    settings: Settings
    run: "JobRun"
    now: datetime
    limit_seconds: float
    has_time: Callable[[], bool]
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def started_at(self) -> datetime:
        """When the run began, which is the same in all its ticks."""
        return self.run.started_at or self.now


Work = Callable[[Tick], Awaitable[bool]]
"""Works for a tick, and returns whether the run is finished."""
