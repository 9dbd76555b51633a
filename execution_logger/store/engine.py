"""The engine: a pool of connections to the database of `DATABASE_URL`."""

import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from ssl import get_default_verify_paths
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import asyncpg
from sqlalchemy import AsyncAdaptedQueuePool, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from execution_logger.errors import SettingsError
from execution_logger.settings import Settings, variable_of
from execution_logger.store.faults import attempt
from execution_logger.urls import DATABASE_EXAMPLES, LIBPQ_PARAMETERS, database_problem, ssl_mode

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


_IDENTITY = {"user": "username", "password": "password", "dbname": "database"}
_POOLERS = {"prepared_statement_cache_size": "0", "statement_cache_size": "0", "pgbouncer": "true"}
"""What says, for SQLAlchemy, asyncpg and Prisma, that each transaction may get another connection."""

# Who has waited for a lock must see what the one before has made, so no snapshot.
_ISOLATION_LEVELS = {"postgresql": "READ COMMITTED", "sqlite": "SERIALIZABLE"}
_STATEMENT_CACHES = ("prepared_statement_cache_size", "statement_cache_size")
_SERVER_SHARE_OF_TIMEOUT = 0.9
_SQLITE_SHARE_OF_TIMEOUT = 0.25


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that closes at once.

    The graceful close waits for the server's answer, without any timeout when the engine is
    disposed of: a server that hangs would make the process hang with it.
    """

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - overrides
        """Drop the connection without waiting for an answer."""
        self.terminate()


def create_engine(settings: Settings, *, pool_size: int) -> AsyncEngine:
    """Make the engine for `settings.database_url`; nothing is connected yet.

    It commits each statement by itself, which is what the writer needs and a host's session does not;
    by way of PgBouncer, with `?prepared_statement_cache_size=0`, whoever writes has to commit.

    The URL may be written for any driver: `postgres://`, `postgresql+psycopg2://`, `sqlite:///`
    and so on. libpq's parameters (`?sslmode=require`) work, and those that mean nothing here are left out;
    `?prepared_statement_cache_size=0` is for a PgBouncer that gives each transaction another connection.

    Args:
        settings: names the database, and bounds every attempt to reach it.
        pool_size: most connections at a time; a SQLite database in memory has a single one.

    Raises:
        SettingsError: the URL is missing, cannot be read, or is for another kind of database.
    """
    text = settings.require_database("the store")
    if problem := database_problem(text):
        raise SettingsError(f"{_variable()}=(hidden): {problem}")
    make = _sqlite_engine if text.lower().startswith("sqlite") else _postgresql_engine
    try:
        return make(make_url(text), settings, pool_size)
    except (ArgumentError, TypeError, ValueError):  # whose texts can hold parts of the password
        raise SettingsError(f"{_variable()}=(hidden): cannot be read; must be {DATABASE_EXAMPLES}") from None


def transaction(engine: AsyncEngine) -> AbstractAsyncContextManager[AsyncConnection]:
    """A connection on which several statements are one transaction; leaving the block commits it."""
    return engine.execution_options(**_transactional(engine.dialect.name)).begin()


async def in_transactions(connection: AsyncConnection) -> None:
    """Let the statements on this connection be one transaction up to each commit, until it is closed.

    Args:
        connection: of an engine of `create_engine`, with no transaction open.
    """
    await connection.execution_options(**_transactional(connection.dialect.name))


def _transactional(dialect: str) -> dict[str, Any]:
    return {"isolation_level": _ISOLATION_LEVELS[dialect], AUTOCOMMIT: False}


@asynccontextmanager
async def patient_transaction(engine: AsyncEngine, seconds: float) -> AsyncIterator[AsyncConnection]:
    """A transaction that may take so long, instead of what the settings say of a batch.

    PostgreSQL is given more memory as well: what takes so long sorts.

    Raises:
        StoreUnavailableError: the database cannot be used now, or it took longer.
    """
    async with attempt(engine, seconds), transaction(engine) as connection:
        if connection.dialect.name == "postgresql":
            await connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(seconds * 1000)}")
            await connection.exec_driver_sql("SET LOCAL work_mem = '64MB'")
        yield connection


def _variable() -> str:
    return variable_of("database_url")


def _postgresql_engine(url: URL, settings: Settings, pool_size: int) -> AsyncEngine:
    query = {name: value if isinstance(value, str) else ",".join(value) for name, value in url.query.items()}
    arguments: dict[str, Any] = {"connection_class": _Connection}
    parameters = {"application_name": "execution_logger"}
    if any(url.query.get(name) == value for name, value in _POOLERS.items()):
        # PgBouncer may run each statement on another connection of the server's: no statement
        # is kept, each has a unique name, and no parameter is set that PgBouncer refuses.
        arguments |= dict.fromkeys(_STATEMENT_CACHES, 0)
        arguments["prepared_statement_name_func"] = lambda: f"__asyncpg_{uuid4()}__"
    else:
        # The server gives up a little earlier than we do. A statement that waits for a lock
        # would otherwise go on waiting there after we have left, and keep its connection.
        milliseconds = settings.database_timeout_seconds * 1000 * _SERVER_SHARE_OF_TIMEOUT
        parameters["statement_timeout"] = str(max(1, int(milliseconds)))
    arguments["timeout"] = _connect_timeout(query.pop("connect_timeout", "0"), settings)
    place = {name: url.query[name] for name in ("host", "port") if query.pop(name, None)}
    identity: dict[str, Any] = {_IDENTITY[name]: query.pop(name) for name in _IDENTITY if name in query}
    url = url.set(**identity)
    parameters |= _libpq_parameters(query)
    arguments["dsn"] = f"postgresql:///?{urlencode(parameters)}"
    url = url.set(drivername="postgresql+asyncpg", query=place)
    # One statement stores a batch. BEGIN and COMMIT around it, and around the ping before it, would
    # be four more round trips. But PgBouncer keeps a connection only for as long as a transaction,
    # and to prepare a statement and to execute it are two things.
    level = "READ COMMITTED" if "statement_timeout" not in parameters else "AUTOCOMMIT"
    return _engine(url, settings, pool_size, arguments, level)


def _connect_timeout(text: str, settings: Settings) -> float:
    """Seconds; as for libpq, zero means no timeout, which is ours then."""
    return min(max(0, int(text)) or settings.database_timeout_seconds, settings.database_timeout_seconds)


def _libpq_parameters(query: dict[str, str]) -> dict[str, str]:
    """Those that asyncpg or the server reads."""
    if mode := ssl_mode(query):
        query["sslmode"] = mode
    if query.get("sslrootcert") == "system":
        query["sslrootcert"] = _system_authorities()
    return {name: value for name, value in query.items() if name in LIBPQ_PARAMETERS}


def _system_authorities() -> str:
    """The file with the certificates of the authorities that the system trusts, as libpq would find it."""
    if (path := get_default_verify_paths().cafile) is None:
        raise SettingsError(f"{_variable()}: sslrootcert=system: name the file of the authorities instead")
    return path


def _sqlite_engine(url: URL, settings: Settings, pool_size: int) -> AsyncEngine:
    if url.database in (None, "", ":memory:"):
        pool_size = 1  # each connection would be an empty database of its own
    # Seconds that a writer waits for another one. They pass in a thread that cannot be
    # interrupted, and more than once in an attempt: to connect, and for each statement.
    arguments = {"timeout": settings.database_timeout_seconds * _SQLITE_SHARE_OF_TIMEOUT}
    if url.query.get("uri") != "true":  # parameters of other drivers, which sqlite3 would stumble over
        url = url.set(query={})
    engine = _engine(url.set(drivername="sqlite+aiosqlite"), settings, pool_size, arguments, "AUTOCOMMIT")
    event.listen(engine.sync_engine, "do_connect", _try_to_open)
    event.listen(engine.sync_engine, "connect", _use_write_ahead_log)
    return engine


def _try_to_open(_dialect: object, _record: object, arguments: list[Any], parameters: dict[str, Any]) -> None:
    """Fail here where the file cannot be opened: aiosqlite would leave a thread behind.

    That thread answers a loop that may be closed by then, and prints a traceback.
    """
    sqlite3.connect(*arguments, **parameters).close()


def _use_write_ahead_log(connection: Any, _: object) -> None:
    """Let the host read while we write, and write while it reads."""
    cursor = connection.cursor()
    # Refused at once while another connection is about to do the same, or to write.
    with suppress(sqlite3.OperationalError):
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _engine(
    url: URL, settings: Settings, pool_size: int, arguments: dict[str, Any], isolation_level: str
) -> AsyncEngine:
    engine = create_async_engine(
        url,
        connect_args=arguments,
        isolation_level=isolation_level,
        execution_options={AUTOCOMMIT: isolation_level == "AUTOCOMMIT"},
        poolclass=AsyncAdaptedQueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=settings.database_timeout_seconds,
        hide_parameters=True,  # or every error would show the entries
    )
    ping_idle_connections(engine)
    return engine


AUTOCOMMIT = "execution_logger_autocommit"
"""The execution option of an engine on whose connections each statement commits itself."""


async def execute(connection: AsyncConnection, statement: str, values: Sequence[Any]) -> int:
    """Carry out a statement on PostgreSQL, in the connection's transaction.

    Where each statement commits itself there is no transaction that SQLAlchemy had to know of. Its
    layers, which serve any statement and result, would take longer than asyncpg does.

    Args:
        connection: of an engine of `create_engine`, to PostgreSQL.
        statement: with parameters `$1`, `$2` and so on.
        values: of the parameters.

    Returns:
        How many rows it has touched.

    Raises:
        asyncpg.PostgresError, sqlalchemy.exc.DBAPIError: `is_refusal` knows both.
    """
    own: Any = connection.sync_connection
    if own.get_execution_options().get(AUTOCOMMIT):
        status: str = await own.connection.driver_connection.execute(statement, *values)
        return int(status.rpartition(" ")[2])
    return (await connection.exec_driver_sql(statement, tuple(values))).rowcount
