"""The ping: whether a connection that waited in the pool still leads to the database."""

import time
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine

_IDLE_SECONDS = 1.0
_RETURNED_AT = "execution_logger_returned_at"


def ping_idle_connections(engine: AsyncEngine) -> None:
    """Replace a connection that has ended, before it is used again.

    SQLAlchemy's `pool_pre_ping` asks the server each time, which would be a second round trip for each
    batch. Here only one is asked about that was not used for a second; a server that ends a connection
    in order says so to the driver at once.
    """
    dialect = engine.dialect

    def on_checkin(_connection: Any, record: Any) -> None:
        record.info[_RETURNED_AT] = time.monotonic()

    def on_checkout(connection: Any, record: Any, _fairy: Any) -> None:
        driver = connection.driver_connection
        if isinstance(driver, asyncpg.Connection) and driver.is_closed():
            raise InvalidatePoolError
        # A new one has not been returned yet.
        if time.monotonic() - record.info.get(_RETURNED_AT, float("inf")) < _IDLE_SECONDS:
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error

    event.listen(engine.sync_engine, "checkin", on_checkin)
    event.listen(engine.sync_engine, "checkout", on_checkout)
