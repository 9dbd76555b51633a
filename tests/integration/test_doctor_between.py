"""What stands between us and a server, or a server in a mode of its own: the doctor calls it by its name."""

import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from execution_logger.operate.doctor import Finding, Level
from execution_logger.operate.doctor.broker import examine_broker, examine_results
from execution_logger.operate.doctor.database import examine_database
from execution_logger.operate.doctor.finding import Subject
from execution_logger.settings import Settings
from processes import LocalProcess
from server import free_port
from servers import PostgresServer, RedisServer, unprivileged_account
from waiting import wait_until

IGNORED = "ignore_startup_parameters = statement_timeout"


@contextmanager
def pgbouncer(server: PostgresServer, pool_mode: str, *lines: str) -> Iterator[str]:
    """A PgBouncer before a PostgreSQL server: where its databases are."""
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="execution-logger-"))
    if (account := unprivileged_account()) is not None:
        os.chown(folder, pwd.getpwnam(account).pw_uid, pwd.getpwnam(account).pw_gid)
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port} user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
        f"unix_socket_dir =\npool_mode = {pool_mode}\n" + "".join(f"{line}\n" for line in lines)
    )
    binary = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert binary, (
        "pgbouncer is not installed: install the package pgbouncer, e.g. `apt-get install pgbouncer`"
    )
    process = LocalProcess(
        [binary, str(configuration)], output=folder / "output.txt", folder=folder, account=account
    )

    def answers() -> bool:
        assert process.is_running(), process.output
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    try:
        wait_until(answers, 10)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        shutil.rmtree(folder)


def subject(**settings: object) -> Subject:
    """What is examined, with a clock that agrees with every other one."""
    return Subject(Settings(**settings), {}, lambda: 0.0)  # type: ignore[arg-type]


def errors(found: Iterator[Finding]) -> dict[str, str]:
    """The advice on each error, but on clocks and tables."""
    apart = ("clock", "tables", "migrations")
    return {e.name: e.advice for e in found if e.level is Level.ERROR and not e.name.endswith(apart)}


@pytest.mark.parametrize(
    ("pool_mode", "lines", "query", "wrong"),
    [
        ("transaction", [IGNORED], "", ["database.pgbouncer"]),
        ("transaction", [], "", ["database.pgbouncer"]),
        ("session", [], "", ["database.pgbouncer"]),
        ("transaction", [], "?prepared_statement_cache_size=0", []),
        ("transaction", [], "?pgbouncer=true", []),
        ("session", [IGNORED], "", []),
    ],
)
def test_a_pgbouncer_is_told_by_name(
    postgres_server: PostgresServer, database_url: str, pool_mode: str, lines: list[str], query: str,
    wrong: list[str],
) -> None:  # fmt: skip
    """With what to write into DATABASE_URL; one that the URL is made for is no finding."""
    name = database_url.rpartition("/")[2]
    with pgbouncer(postgres_server, pool_mode, *lines) as place:
        url = f"postgresql://postgres@{place}/{name}{query}"
        found = errors(examine_database(subject(database_url=url)))
    assert list(found) == wrong
    assert all("prepared_statement_cache_size=0" in advice for advice in found.values())


def test_a_postgresql_server_itself_is_no_pgbouncer(database_url: str) -> None:
    """Nothing is between."""
    assert errors(examine_database(subject(database_url=database_url))) == {}


def test_a_redis_in_cluster_mode_is_told_by_name() -> None:
    """As broker and as result backend; nothing else is asked of it."""
    with RedisServer(appendonly="no", cluster_enabled="yes", cluster_port=free_port()) as server:
        found = errors(examine_broker(subject(broker_url=server.url())))
        assert list(found) == ["broker.cluster"]
        assert "sentinel://" in found["broker.cluster"]
        found = errors(examine_results(subject(broker_url="amqp://host", result_backend=server.url())))
        assert list(found) == ["results.cluster"]
