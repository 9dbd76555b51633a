"""The engine: every way to write a URL, and clear words for those that cannot work."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from execution_logger.errors import SettingsError
from execution_logger.settings import Settings
from execution_logger.store import create_engine
from execution_logger.store import engine as module


class _NoNetworkError(Exception):
    """Raised instead of connecting."""


async def connect_arguments(url: str, **settings: Any) -> dict[str, Any]:
    """What the driver is given to connect with; it is not called."""
    seen: dict[str, Any] = {}
    engine = create_engine(Settings(database_url=url, **settings), pool_size=1)

    def note(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        seen.update(parameters)
        raise _NoNetworkError

    event.listen(engine.sync_engine, "do_connect", note)
    with pytest.raises(_NoNetworkError):
        await engine.connect()
    return seen


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[AsyncEngine]:
    """An engine that is disposed of."""
    engine = create_engine(Settings(database_url=url, **settings), pool_size=2)
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest.mark.parametrize(
    "scheme",
    ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg", "postgresql+psycopg2"],
)
async def test_a_url_for_any_postgresql_driver_works(scheme: str) -> None:
    """Hosts have one DATABASE_URL, for the driver that they use."""
    arguments = await connect_arguments(f"{scheme}://ann:p%40ss%2Fw@db.example:6543/app")
    wanted = {"user": "ann", "password": "p@ss/w", "host": "db.example", "port": 6543, "database": "app"}
    assert arguments.items() >= wanted.items()


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite", "sqlite+pysqlite"])
async def test_a_url_for_any_sqlite_driver_works(scheme: str, tmp_path: Path) -> None:
    """The file is opened by the one driver that does not block the loop."""
    async with opened(f"{scheme}:///{tmp_path}/logs.db") as engine, engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
        assert engine.dialect.driver == "aiosqlite"


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("sslmode=verify-full&sslrootcert=/ca.pem", ["sslmode=verify-full", "sslrootcert=%2Fca.pem"]),
        ("ssl=require", ["sslmode=require"]),
        ("ssl=true", ["sslmode=require"]),
        ("application_name=app", ["application_name=app"]),
        ("", ["application_name=execution_logger", "statement_timeout=9000"]),
        ("options=-c%20search_path%3Dlogs", ["options=-c+search_path%3Dlogs"]),
        ("keepalives=1&gssencmode=disable", []),
        ("sslmode=no-verify", ["sslmode=require"]),
        ("sslmode=Verify-CA&ssl=false", ["sslmode=disable"]),
        ("ssl=1", ["sslmode=require"]),
    ],
)
async def test_parameters_of_libpq_are_understood(query: str, parameters: list[str]) -> None:
    """What psycopg takes in a URL, asyncpg is given in its own form."""
    arguments = await connect_arguments(f"postgresql://ann@db.example/app?{query}")
    _, _, given = arguments["dsn"].partition("?")
    assert set(parameters) <= set(given.split("&"))
    assert "keepalives" not in given
    assert "gssencmode" not in given


@pytest.mark.parametrize(
    "query",
    [
        "channel_binding=require&sslmode=require",  # Neon's
        "schema=app&connection_limit=5&pool_timeout=10&socket_timeout=5&sslaccept=strict",  # Prisma's
        "currentSchema=app&ApplicationName=app&loginTimeout=3&stringtype=unspecified",  # JDBC's
        "load_balance_hosts=random&require_auth=scram-sha-256&hostaddr=10.0.0.1&keepalives=1",  # libpq's
        "min_size=1&max_size=9&command_timeout=3&uselibpqcompat=true&conn_max_age=60&supa=base-pooler.x",
    ],
)
async def test_parameters_of_other_drivers_mean_nothing_here(query: str) -> None:
    """The host's URL is used as it is, whatever reads it there."""
    arguments = await connect_arguments(f"postgresql://ann@db.example/app?{query}")
    given = dict(part.split("=") for part in arguments["dsn"].partition("?")[2].split("&"))
    given.pop("sslmode", None)
    assert given == {"application_name": "execution_logger", "statement_timeout": "9000"}
    assert arguments["timeout"] == 10.0


async def test_user_and_database_may_be_parameters() -> None:
    """As libpq takes them, for sockets above all."""
    url = "postgresql:///?host=/run/postgresql&user=ann&password=s3cret&dbname=app"
    arguments = await connect_arguments(url)
    wanted = {"host": "/run/postgresql", "user": "ann", "password": "s3cret", "database": "app"}
    assert {name: arguments[name] for name in wanted} == wanted
    assert "s3cret" not in arguments["dsn"]


async def test_the_systems_authorities_are_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asyncpg would look for a file that is called `system`."""
    paths = SimpleNamespace(cafile="/etc/ssl/cert.pem")
    monkeypatch.setattr(module, "get_default_verify_paths", lambda: paths)
    arguments = await connect_arguments("postgresql://db/app?sslmode=verify-full&sslrootcert=system")
    assert "sslrootcert=%2Fetc%2Fssl%2Fcert.pem" in arguments["dsn"]
    paths.cafile = None
    with pytest.raises(SettingsError, match="name the file"):
        await connect_arguments("postgresql://db/app?sslmode=verify-full&sslrootcert=system")


async def test_parameters_of_other_drivers_mean_nothing_to_sqlite(tmp_path: Path) -> None:
    """They would be arguments that `sqlite3.connect` does not have."""
    url = f"sqlite:///{tmp_path}/logs.db?connection_limit=1&mode=rwc&check_same_thread=false"
    async with opened(url) as engine, engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    assert (tmp_path / "logs.db").exists()


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        ("", 10.0), ("?connect_timeout=3", 3), ("?connect_timeout=60", 10), ("?connect_timeout=0", 10.0),
        ("?connect_timeout=-1", 10.0),
    ],
)  # fmt: skip
async def test_connecting_ends_with_the_shorter_timeout(query: str, seconds: float) -> None:
    """The URL's own timeout holds as long as it is within that of the settings."""
    assert (await connect_arguments(f"postgresql://db.example/app{query}"))["timeout"] == seconds


async def test_several_hosts_are_passed_on() -> None:
    """A cluster's hosts are tried in order, until one takes writes."""
    arguments = await connect_arguments(
        "postgresql://ann@/app?host=a:5432&host=b:5433&target_session_attrs=read-write"
    )
    assert (arguments["host"], arguments["port"]) == (["a", "b"], [5432, 5433])
    assert "target_session_attrs=read-write" in arguments["dsn"]


@pytest.mark.parametrize(
    "parameter", ["prepared_statement_cache_size=0", "statement_cache_size=0", "pgbouncer=true"]
)
async def test_pgbouncer_gets_no_statement_twice(parameter: str) -> None:
    """Behind PgBouncer no statement is kept, and no name or parameter is used that it refuses."""
    arguments = await connect_arguments(f"postgresql://db.example/app?{parameter}")
    assert arguments["statement_cache_size"] == arguments["prepared_statement_cache_size"] == 0
    make_name: Callable[[], str] = arguments["prepared_statement_name_func"]
    assert make_name() != make_name()
    assert "statement_timeout" not in arguments["dsn"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "DATABASE_URL is not set"),
        ("mysql+aiomysql://ann:s3cret@db/app", "DATABASE_URL=(hidden): mysql+aiomysql:// is not"),
        ("postgresql://ann:s3cret@db:port/app", "cannot be read"),
        ("postgresql://ann:s3cret@db/app?sslmode=on", "verify-full"),
        ("postgresql://ann:s3cret@db/app?sslmod=require", "no parameter sslmod; did you mean sslmode"),
        ("postgresql://ann:s3cret@db/app?ssl=perhaps", "sslmode='perhaps' must be one of"),
        ("mariadb://ann:s3cret@db/app", "DATABASE_URL=(hidden): mariadb:// is not"),
        ("postgresql://ann:s3cret@db/app?connect_timeout=soon", "connect_timeout='soon'"),
        ("postgresql:///app?host=a&port=s3cret", "cannot be read"),
        ("sqlite://logs.db", "sqlite:///file, or four"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str | None, words: str) -> None:
    """One error at the start says what is wrong, and never shows the password."""
    with pytest.raises(SettingsError, match=re.escape(words)) as refused:
        create_engine(Settings(database_url=url), pool_size=1)
    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in repr(refused.value.__cause__)


def test_the_variable_that_was_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours wins over DATABASE_URL, which is not to blame then."""
    monkeypatch.setenv("EXECUTION_LOGGER_DATABASE_URL", "postgresql://db/app?sslmode=on")
    with pytest.raises(
        SettingsError, match=r"^EXECUTION_LOGGER_DATABASE_URL=\(hidden\): sslmode='on' must be one of"
    ):
        create_engine(Settings.from_environment(), pool_size=1)


async def test_readers_and_a_writer_of_a_sqlite_file_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """The write-ahead log lets the host read while a batch is being written."""
    async with opened(f"sqlite:///{tmp_path}/logs.db") as engine, engine.connect() as reader:
        await reader.execute(text("CREATE TABLE t (x)"))
        with closing(sqlite3.connect(tmp_path / "logs.db")) as writer:
            writer.execute("INSERT INTO t VALUES (1)")
            assert (await reader.execute(text("SELECT count(*) FROM t"))).scalar_one() == 0


async def test_a_sqlite_database_in_memory_is_one_database() -> None:
    """Each connection would otherwise see an empty one of its own."""
    async with opened("sqlite://") as engine:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE t (x)"))
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM t"))).scalar_one() == 0


async def test_errors_do_not_show_what_was_logged(tmp_path: Path) -> None:
    """Entries can be personal, and errors end up in other people's logs."""
    async with opened(f"sqlite:///{tmp_path}/logs.db") as engine, engine.connect() as connection:
        with pytest.raises(OperationalError) as failed:
            await connection.execute(text("INSERT INTO missing VALUES (:entry)"), {"entry": "s3cret"})
    assert "s3cret" not in str(failed.value)


@pytest.mark.parametrize("package", ["sqlalchemy", "asyncpg"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(package: str) -> None:
    """The producer needs none of them; who needs the database finds out how to get them."""
    code = f"import sys; sys.modules[{package!r}] = None; import execution_logger.store"
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("execution_logger.errors.SettingsError")
    assert package in last
    assert 'pip install "celery-execution-logger[worker]"' in last
