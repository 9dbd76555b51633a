"""The logger that hosts write for themselves, whole: what the library is compared with end to end.

    celery -A naive worker -Q naive_logs

A list of dicts under an `asyncio.Lock`; at 50 entries, and every 2 seconds, `apply_async` in the
event loop hands them to a Celery worker, whose task makes an ORM object of each, adds them all and
commits. Celery is set up as in its tutorial: nothing but the broker's URL, and the prefork pool.
What hosts of today get wrong beyond that is left out: a child keeps its loop, its engine and its
connection from task to task, where an `asyncio.run` in each task connects anew each time.
"""

import asyncio
import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

from celery import Celery
from sqlalchemy import DateTime
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.ext.asyncio import AsyncSession as Session
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

QUEUE = "naive_logs"
BATCH_SIZE = 50
FLUSH_INTERVAL_SECONDS = 2.0

Entry = dict[str, Any]
Send = Callable[[list[Entry]], object]

app = Celery("naive", broker=os.environ.get("CELERY_BROKER_URL"))


class NaiveLogger:
    """Calls like ours, to be made in one event loop.

    Args:
        send: hands a batch over; by default, to Celery. What it raises costs the batch, as in hosts,
            where an error of the log must not be one of the workflow.
    """

    def __init__(self, send: Send | None = None) -> None:
        self.lost = 0
        """Entries that could not be handed over."""
        self._send = send or send_to_celery
        self._buffer: list[Entry] = []
        self._lock = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None

    async def log_agent_complete(
        self,
        task_id: str,
        agent_name: str,
        message: str,
        duration_ms: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Record an info entry of an agent."""
        await self.log(
            task_id=task_id,
            level="info",
            category="agent",
            message=message,
            agent_name=agent_name,
            duration_ms=duration_ms,
            details=details,
        )

    async def log(self, **fields: Any) -> None:
        """Record an entry."""
        entry = {"id": str(uuid.uuid4()), "created_at": datetime.now(UTC).isoformat(), **fields}
        async with self._lock:
            self._buffer.append(entry)
            is_full = len(self._buffer) >= BATCH_SIZE
        if self._timer is None:
            self._timer = asyncio.create_task(self._flush_periodically())
        if is_full:
            await self.flush()

    async def flush(self) -> None:
        """Hand over what is there."""
        async with self._lock:
            batch, self._buffer = self._buffer, []
            try:
                if batch:
                    self._send(batch)
            except Exception:  # noqa: BLE001 - counted: see the class
                self.lost += len(batch)

    async def close(self) -> None:
        """Flush, and end the timer."""
        if self._timer is not None:
            self._timer.cancel()
        await self.flush()

    async def _flush_periodically(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_SECONDS)
            await self.flush()


def connect(broker_url: str) -> None:
    """Send to this broker from now on."""
    app.conf.broker_url = broker_url


def send_to_celery(batch: list[Entry]) -> None:
    """One message for the batch."""
    write_logs.apply_async(args=[batch], queue=QUEUE)


class Base(DeclarativeBase):
    """Of the host's tables."""

    type_annotation_map = {dict[str, Any]: JSONB, datetime: DateTime(timezone=True)}  # noqa: RUF012


class ExecutionLog(Base):
    """A row of the library's own table: both write the same ones."""

    __tablename__ = "execution_logs"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    task_id: Mapped[str]
    roadmap_id: Mapped[str | None]
    concept_id: Mapped[str | None]
    level: Mapped[str]
    category: Mapped[str]
    step: Mapped[str | None]
    agent_name: Mapped[str | None]
    message: Mapped[str]
    details: Mapped[dict[str, Any] | None]
    duration_ms: Mapped[int | None]
    created_at: Mapped[datetime]


@app.task(name="naive.write_logs")  # type: ignore[untyped-decorator] # Celery has no types
def write_logs(entries: list[Entry]) -> None:
    """Write the rows of a batch."""
    _loop().run_until_complete(_write(entries))


async def _write(entries: list[Entry]) -> None:
    async with Session(_engine()) as session:
        session.add_all([_row(entry) for entry in entries])
        await session.commit()


def _row(entry: Entry) -> ExecutionLog:
    created_at = datetime.fromisoformat(entry["created_at"])
    return ExecutionLog(**{**entry, "id": uuid.UUID(entry["id"]), "created_at": created_at})


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@cache
def _engine() -> AsyncEngine:
    """Made at the first task of a child, and so never shared with the parent."""
    return create_async_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"))
