"""The host's own tables, in the database that holds the log as well."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy import JSON, NullPool, exc, make_url, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from analysis_host.settings import AwayError, shared

CELERY, BACKGROUND = "celery", "background_tasks"
OPEN, ENDED = ("pending", "running"), ("completed", "failed")
Json = dict[str, Any]
_url = make_url(shared.database_url or "")
_driver = "sqlite+aiosqlite" if _url.get_backend_name() == "sqlite" else "postgresql+psycopg"
# No connection outlives its transaction: none is shared after a fork, or by the loops of two tasks.
_engine = create_async_engine(_url.set(drivername=_driver), poolclass=NullPool, hide_parameters=True)


class SupersededError(Exception):
    """Another attempt has taken the session over, or it has ended."""


class Base(DeclarativeBase):
    """All tables of the host."""


class Session(Base):
    """An analysis that was asked for, and what was found so far."""

    __tablename__ = "analysis_sessions"
    session_id: Mapped[str] = mapped_column(primary_key=True)
    request: Mapped[Json] = mapped_column(JSON)
    task_system: Mapped[str] = mapped_column(default=CELERY)
    celery_task_id: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="pending")
    attempt: Mapped[int] = mapped_column(default=0)
    progress: Mapped[Json] = mapped_column(JSON, default=dict)
    results: Mapped[Json] = mapped_column(JSON, default=dict)
    error: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=time.time)
    updated_at: Mapped[float] = mapped_column(default=time.time, onupdate=time.time)


class Event(Base):
    """Something that was told of a session, to be read by whoever comes."""

    __tablename__ = "analysis_events"
    id: Mapped[int] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    data: Mapped[Json] = mapped_column(JSON)
    created_at: Mapped[float] = mapped_column(default=time.time)


class Document(Base):
    """A text that analyses may refer to."""

    __tablename__ = "analysis_documents"
    document_id: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]


@asynccontextmanager
async def transaction() -> AsyncIterator[AsyncSession]:
    """One transaction; it raises AwayError, as do all that use it."""
    try:
        async with asyncio.timeout(10), AsyncSession(_engine) as database, database.begin():
            yield database
    except (OSError, exc.OperationalError, exc.InterfaceError) as error:
        raise AwayError(f"The database does not answer: {error}") from error


async def keep(row: Base) -> None:
    """Keep a row, in the place of one with its key."""
    async with transaction() as database:
        await database.merge(row)


async def rows(table: type[Base], *conditions: Any) -> list[Json]:
    """The rows that meet the conditions, in the order of their keys."""
    async with transaction() as database:
        chosen = select(table.__table__).where(*conditions).order_by(*table.__table__.primary_key)
        return [dict(row) for row in (await database.execute(chosen)).mappings()]


async def change(session_id: str, *conditions: Any, **values: Any) -> Json:
    """Change a session, which it returns; SupersededError when it does not meet the conditions."""
    chosen = update(Session).where(Session.session_id == session_id, *conditions).values(values)
    async with transaction() as database:
        if changed := (await database.execute(chosen.returning(*Session.__table__.c))).mappings().first():
            return dict(changed)
    raise SupersededError("Nothing is to be done: the session has ended or runs elsewhere")


async def end(session_id: str, status: str, *conditions: Any, **values: Any) -> None:
    """End a session, and tell those who follow it; SupersededError when it has ended already."""
    await change(session_id, Session.status.in_(OPEN), *conditions, status=status, **values)
    await tell(session_id, status, error=values.get("error"))


async def tell(session_id: str, kind: str, **data: Any) -> None:
    """Tell something to those who follow a session, now or later."""
    await keep(Event(session_id=session_id, kind=kind, data=data))


async def follow(session_id: str, after: int = 0) -> AsyncIterator[Json]:
    """All that was told of a session and will be, until its end, over outages of the database."""
    while True:
        with suppress(AwayError):
            for event in await rows(Event, Event.session_id == session_id, Event.id > after):
                after = event["id"]
                yield {**event.pop("data"), **event}
                if event["kind"] in ENDED:
                    return
        await asyncio.sleep(0.2)
