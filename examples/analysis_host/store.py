"""The host's own tables, in the database that holds the log as well."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import asyncpg
from sqlalchemy import JSON, delete, exc, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from analysis_host.settings import shared
from execution_logger import LogCategory, execution_logger
from execution_logger.store import create_engine

CELERY, BACKGROUND = "celery", "background_tasks"
OPEN, ENDED = ("pending", "running"), ("completed", "failed")
OUTAGES = (OSError, exc.DBAPIError, exc.TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
TIMEOUT_SECONDS = 10
Json = dict[str, Any]


class DatabaseAwayError(Exception):
    """The database does not answer now: try again later."""


class Base(DeclarativeBase):
    """What the tables have in common."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {Json: JSON}


class Session(Base):
    """An analysis that was asked for, and what was found so far."""

    __tablename__ = "analysis_sessions"
    session_id: Mapped[str] = mapped_column(primary_key=True)
    request: Mapped[Json]
    task_system: Mapped[str] = mapped_column(default=CELERY)
    celery_task_id: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="pending")
    attempt: Mapped[int] = mapped_column(default=0)
    progress: Mapped[Json] = mapped_column(default=dict)
    results: Mapped[Json] = mapped_column(default=dict)
    error: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=time.time)
    updated_at: Mapped[float] = mapped_column(default=time.time, onupdate=time.time)


class Event(Base):
    """Something that was told of a session, to be read by whoever comes."""

    __tablename__ = "analysis_events"
    id: Mapped[int] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    data: Mapped[Json]
    created_at: Mapped[float] = mapped_column(default=time.time)


class Item(Base):
    """Whatever else is kept, by its kind and its key: documents, tasks that were sent."""

    __tablename__ = "analysis_items"
    kind: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Json]


class Store:
    """The tables; every method raises DatabaseAwayError while the database is away."""

    def __init__(self, pool_size: int = 1) -> None:
        self._engine = create_engine(shared, pool_size=pool_size)
        self.close = self._engine.dispose

    async def create_tables(self) -> None:
        """Make the tables that are missing."""
        async with self._connection() as connection:
            await connection.run_sync(Base.metadata.create_all)

    async def add(self, table: type[Base], **values: Any) -> None:
        """Add a row."""
        await self._execute(insert(table).values(values))

    async def rows(self, table: type[Base], *conditions: Any) -> list[Json]:
        """The rows that meet the conditions, in the order of their keys."""
        async with self._connection() as connection:
            chosen = select(table.__table__).where(*conditions).order_by(*table.__table__.primary_key)
            return [dict(row) for row in (await connection.execute(chosen)).mappings()]

    async def session(self, session_id: str) -> Json | None:
        """The session of this id."""
        return next(iter(await self.rows(Session, Session.session_id == session_id)), None)

    async def change(self, session_id: str, *conditions: Any, **values: Any) -> bool:
        """Change a session if it meets the conditions; whether it did."""
        chosen = update(Session).where(Session.session_id == session_id, *conditions)
        return await self._execute(chosen.values(values)) == 1

    async def end(self, session_id: str, status: str, error: str | None = None) -> bool:
        """End a session, and tell those who follow it; False when it has ended already."""
        is_open = Session.status.in_(OPEN)
        if has_ended := await self.change(session_id, is_open, status=status, error=error):
            await self.tell(session_id, status, error=error)
        return has_ended

    async def tell(self, session_id: str, kind: str, **data: Any) -> None:
        """Tell something to those who follow a session, now or later."""
        await self.add(Event, session_id=session_id, kind=kind, data=data)

    async def follow(self, session_id: str, after: int = 0) -> AsyncIterator[Json]:
        """All that was told of a session and will be, until its end, over outages of the database."""
        while True:
            try:
                for event in await self.rows(Event, Event.session_id == session_id, Event.id > after):
                    after = event["id"]
                    yield {**event.pop("data"), **event}
                    if event["kind"] in ENDED:
                        return
                await asyncio.sleep(0.2)
            except DatabaseAwayError as error:
                await execution_logger.log_error(session_id, LogCategory.API, f"The stream waits: {error}")
                await asyncio.sleep(2)

    async def keep(self, kind: str, key: str, **value: Any) -> None:
        """Keep something, in the place of what was kept before."""
        async with self._connection() as connection:
            await connection.execute(delete(Item).where(Item.kind == kind, Item.key == key))
            await connection.execute(insert(Item).values(kind=kind, key=key, value=value))

    async def kept(self, kind: str, *keys: str) -> dict[str, Json]:
        """What is kept under these keys, as far as it is there."""
        return {
            row["key"]: row["value"] for row in await self.rows(Item, Item.kind == kind, Item.key.in_(keys))
        }

    async def _execute(self, statement: Any) -> int:
        async with self._connection() as connection:
            return int((await connection.execute(statement)).rowcount)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS), self._engine.begin() as connection:
                yield connection
        except OUTAGES as error:
            raise DatabaseAwayError(f"The database does not answer: {error}") from error
