"""What a database's errors mean: has it refused what it was given, or can nothing be written now?"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from execution_logger.errors import ExecutionLoggerError, StoreUnavailableError
from execution_logger.text import public_url

UPGRADE = "Run: execution-logger db upgrade"

# Classes of https://www.postgresql.org/docs/current/errcodes-appendix.html, and states: connections,
# rollbacks, resources, an operator at work, the system; a standby, a lock. All others answer this batch; and
# so may these, when a trigger of the host's has met with them.
_OUTAGES = ("08", "40", "53", "57", "58", "25006", "55P03", "55006")
_TIMEOUT = "57014"
_DISK_FULL = "53100"
_FOREIGN_KEY = "23503"
_OF_OTHER_ROWS = (_FOREIGN_KEY, "23505", "23P01")  # unique, exclusion
_CHECK = "23514"
_UNDEFINED_TABLE = "42P01"
# Cardinality and data exceptions, broken constraints, limits exceeded, features missing, a view's check
# option, what a trigger raises: the same for ever. All others may be a migration that is under way.
_FOR_GOOD = ("0A", "21", "22", "23", "44", "54", "P0")
_SQLITE_REFUSALS = (
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
)
_SQLITE_OF_OTHER_ROWS = (
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
)
_RAISE = "exec_stmt_raise"
"""The function of PostgreSQL's that carries out a `RAISE` of PL/pgSQL."""


def is_refusal(error: BaseException) -> bool:
    """Whether a server that works has refused what it was given; otherwise nothing can be written now."""
    origin = _origin(error)
    if isinstance(origin, sqlite3.Error):
        return _sqlite_code(origin) & 0xFF in _SQLITE_REFUSALS
    sqlstate = sqlstate_of(error)
    return bool(sqlstate) and not sqlstate.startswith(_OUTAGES)


def may_be_refusal(error: BaseException) -> bool:
    """Whether a server that works may have said this of what it was given."""
    return sqlstate_of(error) not in ("", _TIMEOUT, _DISK_FULL)


def is_timeout(error: BaseException) -> bool:
    """Whether the server has ended a statement that took too long."""
    return sqlstate_of(error) == _TIMEOUT


def is_foreign_key(error: BaseException) -> bool:
    """Whether an entry was refused because what it refers to is not there, or not yet."""
    origin = _origin(error)
    if isinstance(origin, sqlite3.Error):
        return _sqlite_code(origin) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
    return sqlstate_of(error) == _FOREIGN_KEY


def is_of_other_rows(error: BaseException) -> bool:
    """Whether an entry was refused because of what other rows hold, or do not hold."""
    origin = _origin(error)
    if isinstance(origin, sqlite3.Error):
        return _sqlite_code(origin) in _SQLITE_OF_OTHER_ROWS
    return sqlstate_of(error) in _OF_OTHER_ROWS


def is_missing_partition(error: BaseException) -> bool:
    """Whether an entry was refused because no partition is there for it."""
    origin: Any = _origin(error)
    # As a check that has no name: the text may be in any language.
    is_check = sqlstate_of(error) == _CHECK and origin.table_name and not origin.constraint_name
    return bool(is_check)


def is_for_good(error: BaseException) -> bool:
    """Whether a refusal would be the same however often the entry is tried."""
    origin = _origin(error)
    if isinstance(origin, sqlite3.Error):
        return _sqlite_code(origin) & 0xFF != sqlite3.SQLITE_ERROR or "malformed JSON" in str(origin)
    return sqlstate_of(error).startswith(_FOR_GOOD) and not is_foreign_key(error)


def sqlstate_of(error: BaseException) -> str:
    """PostgreSQL's code; empty where there is none."""
    return getattr(_origin(error), "sqlstate", None) or ""


def cause_of(error: BaseException) -> tuple[str, ...]:
    """What tells a reason from others, for all entries alike.

    Its text may not: each partition has a name of its own, and a host's trigger may quote the entry. That is
    told by its line.
    """
    origin: Any = _origin(error)
    if not hasattr(origin, "constraint_name"):  # no word of PostgreSQL's
        return (summary_of(error),)
    name = origin.constraint_name or origin.column_name
    if not name and origin.server_source_function == _RAISE and origin.context:
        name = origin.context.splitlines()[0]
    return sqlstate_of(error), name or summary_of(error)


def reason_of(error: BaseException) -> str:
    """The database's own words, without statement and parameters."""
    origin = _origin(error)
    return f"{type(origin).__name__}: {origin}"


def summary_of(error: BaseException) -> str:
    """The first line of it: PostgreSQL tells the values, if at all, in the others."""
    origin = _origin(error)
    return (str(origin).splitlines() or [""])[0] or type(origin).__name__


def explanation_of(error: BaseException) -> str:
    """The same, and what to do where a table is missing."""
    text = summary_of(error)
    missing = sqlstate_of(error) == _UNDEFINED_TABLE or "no such table" in text
    return f"{text}. {UPGRADE}" if missing else text


@asynccontextmanager
async def attempt(engine: AsyncEngine, timeout_seconds: float) -> AsyncIterator[None]:
    """Bound one attempt to use the database, and tell its failures in one way.

    Raises:
        StoreUnavailableError: whatever went wrong inside, or took too long. The cause is kept. Other errors
            of the library stay as they are.
    """
    try:
        async with asyncio.timeout(timeout_seconds) as deadline:
            yield
    except ExecutionLoggerError:
        raise  # it has its text already
    except Exception as error:
        text = f"no answer within {timeout_seconds:g} s" if deadline.expired() else explanation_of(error)
        name = public_url(engine.url.render_as_string(hide_password=True), user="***@")
        raise StoreUnavailableError(f"The database {name} cannot be used now: {text}") from error


def _origin(error: BaseException) -> BaseException:
    """The driver's error: SQLAlchemy wraps it, and for asyncpg its adapter does so once more."""
    wrapped = getattr(error, "orig", None)
    return error if wrapped is None else wrapped.__cause__ or wrapped


def _sqlite_code(origin: sqlite3.Error) -> int:
    return getattr(origin, "sqlite_errorcode", sqlite3.SQLITE_OK)
