"""The host's own tables, beside those of the logger in the same database."""

import time
from contextlib import suppress
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, NullPool, create_engine, make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from flask_host.settings import DATABASE_URL


class Base(DeclarativeBase):
    """All tables of the host."""


class Plan(Base):
    """A script or a scenario."""

    __tablename__ = "host_plans"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    definition: Mapped[dict[str, Any]] = mapped_column(JSON)


class Run(Base):
    """One run of a plan; times in seconds since 1970."""

    __tablename__ = "host_runs"
    id: Mapped[str] = mapped_column(primary_key=True)
    plan_id: Mapped[int] = mapped_column(ForeignKey(Plan.id))
    status: Mapped[str]
    priority: Mapped[int]
    attempt: Mapped[int] = mapped_column(default=0)
    is_terminable: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[float] = mapped_column(default=time.time)
    started_at: Mapped[float | None]
    heard_at: Mapped[float] = mapped_column(default=time.time)
    finished_at: Mapped[float | None] = mapped_column(index=True)
    result: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    error: Mapped[str | None]


IS_ACTIVE = Run.finished_at.is_(None)
# The database keeps a plan from running twice, whichever processes are asked at once.
Index("host_runs_active", Run.plan_id, unique=True, postgresql_where=IS_ACTIVE, sqlite_where=IS_ACTIVE)

_url = make_url(DATABASE_URL)
if _url.get_backend_name() == "postgresql":
    _url = _url.set(drivername="postgresql+psycopg").update_query_dict({"connect_timeout": "5"})
else:
    _url = _url.update_query_dict({"timeout": "30"})
# No connection outlives its transaction: none is shared after a fork, none is stale after an outage.
engine = create_engine(_url, poolclass=NullPool)
session = sessionmaker(engine, expire_on_commit=False)


def create_tables() -> None:
    """Make the tables that are missing; any number of processes may do so at once."""
    with suppress(DatabaseError):  # another process is quicker
        Base.metadata.create_all(engine)
    Base.metadata.create_all(engine)
