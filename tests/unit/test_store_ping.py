"""The ping: asked when it may be needed, and not with every batch."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from doubles import ManualClock
from execution_logger.settings import Settings
from execution_logger.store import create_engine
from execution_logger.store import engine as module


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The pool's time."""
    clock = ManualClock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An engine of one connection."""
    engine = create_engine(Settings(database_url=f"sqlite:///{tmp_path}/logs.db"), pool_size=1)
    yield engine
    await engine.dispose()


@pytest.fixture
def pings(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that were asked."""
    asked: list[Any] = []
    ping = engine.dialect.do_ping

    def do_ping(connection: Any) -> bool:
        asked.append(connection)
        return ping(connection)

    monkeypatch.setattr(engine.dialect, "do_ping", do_ping)
    return asked


@pytest.fixture
def opened(engine: AsyncEngine) -> list[Any]:
    """The connections that were made."""
    made: list[Any] = []
    event.listen(engine.sync_engine, "connect", lambda connection, _: made.append(connection))
    return made


async def use(engine: AsyncEngine) -> None:
    """Do something with a connection, and give it back."""
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1


async def test_a_connection_in_use_is_not_asked(
    engine: AsyncEngine, clock: ManualClock, pings: list[Any], opened: list[Any]
) -> None:
    """A new one is all right, and one that has just worked, too."""
    for _ in range(5):
        await use(engine)
        clock.advance(0.9)
    assert (len(pings), len(opened)) == (0, 1)


async def test_an_idle_connection_is_asked_and_goes_on(
    engine: AsyncEngine, clock: ManualClock, pings: list[Any], opened: list[Any]
) -> None:
    """A night without a batch may have ended it."""
    for _ in range(3):
        await use(engine)
        clock.advance(1)
    assert (len(pings), len(opened)) == (2, 1)


async def test_an_idle_connection_that_fails_is_replaced(
    engine: AsyncEngine, clock: ManualClock, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch does not notice."""

    def fail(_: object) -> bool:
        raise engine.dialect.loaded_dbapi.OperationalError("the connection was reset")

    await use(engine)
    clock.advance(1)
    monkeypatch.setattr(engine.dialect, "do_ping", fail)
    await use(engine)
    await use(engine)
    assert len(opened) == 2


async def test_a_connection_that_was_ended_is_replaced_at_once(
    engine: AsyncEngine,
    clock: ManualClock,
    pings: list[Any],
    opened: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver knows it already, however short ago the connection was used."""
    await use(engine)
    # SQLite's driver does not end connections: one of PostgreSQL's stands in for it.
    (first,) = opened
    ended = asyncpg.Connection.__new__(asyncpg.Connection)
    monkeypatch.setattr(asyncpg.Connection, "is_closed", lambda _: True)
    monkeypatch.setattr(
        type(first), "driver_connection", property(lambda own: ended if own is first else own)
    )
    await use(engine)
    assert (len(pings), len(opened)) == (0, 2)
