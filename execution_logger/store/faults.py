"""What a database's errors mean: is the entry at fault, or can nothing be written now?"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from execution_logger.errors import StoreUnavailableError

UPGRADE = "Run: execution-logger db upgrade"

# Classes of https://www.postgresql.org/docs/current/errcodes-appendix.html: cardinality and data
# exceptions, broken constraints, limits exceeded, features missing; a view's check option, and what a
# trigger of the host's raises. All others (connection, resources, locks, privileges, ...) pass.
_DATA_CLASSES = ("21", "22", "23", "54", "0A", "44", "P0")
_SQLITE_DATA_CODES = (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG)
_UNDEFINED_TABLE = "42P01"


def is_data_error(error: Exception) -> bool:
    """Whether a statement failed because of the data that it was given, and would fail again."""
    origin = _origin(error)
    if isinstance(origin, sqlite3.Error):
        code = getattr(origin, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
        return code in _SQLITE_DATA_CODES or "malformed JSON" in str(origin)
    return _sqlstate(origin).startswith(_DATA_CLASSES)


def reason_of(error: BaseException) -> str:
    """The database's own words, without statement and parameters."""
    origin = _origin(error)
    return f"{type(origin).__name__}: {origin}"


@asynccontextmanager
async def attempt(engine: AsyncEngine, timeout_seconds: float) -> AsyncIterator[None]:
    """Bound one attempt to use the database, and tell its failures in one way.

    Raises:
        StoreUnavailableError: whatever went wrong inside, or took too long. The cause is kept.
    """
    try:
        async with asyncio.timeout(timeout_seconds) as deadline:
            yield
    except StoreUnavailableError:
        raise
    except Exception as error:
        text = f"no answer within {timeout_seconds:g} s" if deadline.expired() else _summary(error)
        name = engine.url.render_as_string(hide_password=True)
        raise StoreUnavailableError(f"The database {name} cannot be used now: {text}") from error


def _summary(error: Exception) -> str:
    origin = _origin(error)
    text = (str(origin).splitlines() or [""])[0] or type(origin).__name__
    missing = _sqlstate(origin) == _UNDEFINED_TABLE or "no such table" in text
    return f"{text}. {UPGRADE}" if missing else text


def _origin(error: BaseException) -> BaseException:
    """The driver's error: SQLAlchemy wraps it, and for asyncpg its adapter does so once more."""
    wrapped = getattr(error, "orig", None)
    return error if wrapped is None else wrapped.__cause__ or wrapped


def _sqlstate(origin: BaseException) -> str:
    return getattr(origin, "sqlstate", None) or ""
