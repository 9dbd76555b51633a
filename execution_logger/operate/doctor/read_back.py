"""Reading an entry back from the database, and deleting it there."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Self, TypeVar

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from execution_logger.entry.entry import LogEntry
from execution_logger.operate.doctor.database import TIMEOUT_SECONDS
from execution_logger.operate.doctor.tables import may
from execution_logger.settings import Settings
from execution_logger.store import create_engine
from execution_logger.store.dead_letters import DeadLetters
from execution_logger.store.faults import attempt
from execution_logger.store.schema import ledger_table
from execution_logger.store.table import LogTable, look_up_table

_T = TypeVar("_T")


class ReadBack:
    """The database as a reader sees it; finds nothing where no database is named."""

    def __init__(self, settings: Settings) -> None:
        self.is_there = settings.database_url is not None
        self._settings = replace(
            settings, database_timeout_seconds=min(TIMEOUT_SECONDS, settings.database_timeout_seconds)
        )
        self._runner = asyncio.Runner()
        self._engine = create_engine(self._settings, pool_size=1) if self.is_there else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._runner:
            if self._engine is not None:
                self._runner.run(self._engine.dispose())

    def has(self, entry: LogEntry) -> bool:
        """Whether the entry is a row."""

        async def look(connection: AsyncConnection) -> bool:
            table = await look_up_table(connection, self._settings)
            found = await connection.execute(select(table.columns["id"]).where(_is(table, entry)))
            return found.first() is not None

        return self._ask(look)

    def refusal(self, entry: LogEntry) -> str | None:
        """Why the database has refused the entry; None when it has not."""

        async def look(connection: AsyncConnection) -> str | None:
            letters = await DeadLetters(self._settings).list(connection, limit=50)
            return next((letter.reason for letter in letters if entry.id in letter.entry), None)

        return self._ask(look)

    def delete(self, entry: LogEntry, process: str) -> bool:
        """Delete the row and what the ledger knows of it; False when this user may not."""

        async def remove(connection: AsyncConnection) -> bool:
            table, ledger = await look_up_table(connection, self._settings), ledger_table(self._settings)
            if not await may(connection, table.table, "DELETE"):
                return False
            await connection.execute(delete(table.table).where(_is(table, entry)))
            if await may(connection, ledger, "DELETE"):
                await connection.execute(delete(ledger).where(ledger.c.process == process))
            await connection.commit()
            return True

        return self._ask(remove)

    def _ask(self, question: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        async def ask() -> _T:
            assert self._engine is not None  # noqa: S101 - who asks has looked at is_there
            async with attempt(self._engine, TIMEOUT_SECONDS), self._engine.connect() as connection:
                return await question(connection)

        return self._runner.run(ask())


def _is(table: LogTable, entry: LogEntry) -> Any:
    return table.equals("id", entry.id.replace("-", "") if table.has_hex_ids else entry.id)
