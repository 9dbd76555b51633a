"""Real Redis and PostgreSQL servers, each on a free port of 127.0.0.1 with a temporary folder.

They run from the server programs of this machine, or in a container where only a Docker
engine is found. A server keeps its port and its data from `stop()` or `kill()` to the next
`start()`; `close()` removes both.
"""

import asyncio
import atexit
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import asyncpg
import redis

from containers import Container
from processes import LocalProcess, Running
from server import Server


class RedisServer(Server):
    """A Redis server; each option is a line of redis.conf, with `_` for `-`.

    >>> RedisServer(appendonly="no", maxmemory="2mb", maxmemory_policy="noeviction")
    """

    program = "redis-server"
    places = ("opt/homebrew/bin", "usr/local/bin")
    package = "redis-server"
    image = "redis:7-alpine"

    def __init__(self, **options: str | int) -> None:
        super().__init__()
        self._options = {"appendonly": "yes", "save": "", **options}

    def url(self, database: int = 0) -> str:
        """`redis://127.0.0.1:port/database`."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def client(self, database: int = 0) -> "redis.Redis":
        """A client of its own, with texts decoded; use it in a `with` statement."""
        return redis.Redis.from_url(self.url(database), decode_responses=True, socket_timeout=60)

    def _answers(self) -> bool:
        with self.client() as client:
            return bool(client.ping())

    def _arguments(self) -> list[str]:
        pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in self._options.items())
        return [word for pair in pairs for word in pair]

    def _launch_local(self) -> Running:
        assert self._binaries is not None
        own = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        command = [str(self._binaries / self.program), *own, *self._arguments()]
        return LocalProcess(command, output=self.folder / "output.txt")

    def _launch_container(self) -> Running:
        arguments = ["redis-server", "--protected-mode", "no", "--dir", "/data", *self._arguments()]
        ports = f"127.0.0.1:{self.port}:6379"
        return Container(self.image, arguments, ports=ports, volume=self.folder.name, variables={})


class PostgresServer(Server):
    """A PostgreSQL server with the superuser `postgres` and no password.

    It does not wait for the disk (`fsync=off`): a killed server keeps its data all the same,
    a machine that loses its power would not.
    """

    program = "initdb"
    places = (
        "usr/lib/postgresql/*/bin",
        "opt/homebrew/opt/postgresql*/bin",
        "usr/local/opt/postgresql*/bin",
        "usr/pgsql-*/bin",
    )
    package = "postgresql"
    image = "postgres:16-alpine"
    stop_signal = signal.SIGINT  # "fast": it ends its clients' sessions instead of waiting for them

    def url(self, database: str = "postgres") -> str:
        """`postgresql://postgres@127.0.0.1:port/database`."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str = "template1") -> str:
        """The name of a new database that is a copy of `template`, behind which options may stand.

        Nobody may be connected to the template.
        """
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} {self._as_files}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database and end its clients' sessions."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @cached_property
    def _as_files(self) -> str:
        """What has a template's files copied as they are, for a third of the work; until 15 the only way."""
        ((version,),) = self.execute("SELECT current_setting('server_version_num')::int")
        return "STRATEGY FILE_COPY" if version >= 15_00_00 else ""

    def execute(self, statement: str, *arguments: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of one statement, on a connection of its own; from any test, async or not."""

        async def run() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(self.url(database), timeout=60)
            try:
                return [tuple(row) for row in await connection.fetch(statement, *arguments)]
            finally:
                await connection.close()

        # A thread of its own, because the caller may be inside an event loop.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, run()).result()

    def _answers(self) -> bool:
        """Open a session, as every client does; the first byte of the answer is R for welcome."""
        parameters = b"user\0postgres\0database\0postgres\0\0"
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(struct.pack("!ii", len(parameters) + 8, 3 << 16) + parameters)
            return connection.recv(1) == b"R"

    def _settings(self) -> list[str]:
        settings = {
            "fsync": "off",
            "full_page_writes": "off",
            "unix_socket_directories": "",
            # Statistics change when a test says so.
            "autovacuum_naptime": "1h",
        }
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _launch_local(self) -> Running:
        assert self._binaries is not None
        data = self.folder / "data"
        account = unprivileged_account()
        _give(self.folder, account)
        if not data.exists():
            _run_as(account, "cp", "-R", "-p", _new_cluster(self._binaries, account), data)
        own = ["-D", str(data), "-h", "127.0.0.1", "-p", str(self.port)]
        command = [str(self._binaries / "postgres"), *own, *self._settings()]
        return LocalProcess(command, output=self.folder / "output.txt", folder=self.folder, account=account)

    def _launch_container(self) -> Running:
        variables = {"POSTGRES_HOST_AUTH_METHOD": "trust", "PGDATA": "/data/pgdata"}
        ports = f"127.0.0.1:{self.port}:5432"
        arguments = ["postgres", *self._settings()]
        return Container(self.image, arguments, ports=ports, volume=self.folder.name, variables=variables)


@cache
def _new_cluster(binaries: Path, account: str | None) -> Path:
    """The data of a server that has never run, made once by each process: copies are quicker."""
    folder = Path(tempfile.mkdtemp(prefix="execution-logger-"))
    atexit.register(shutil.rmtree, folder)
    _give(folder, account)
    data = folder / "data"
    words = "--username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync --no-instructions"
    _run_as(account, binaries / "initdb", "-D", data, *words.split())
    return data


def _run_as(account: str | None, *command: str | Path) -> None:
    """Run a command that makes files of the user's own."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd="/",
        user=account, group=account and pwd.getpwnam(account).pw_gid, extra_groups=account and [],
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")


def _give(folder: Path, account: str | None) -> None:
    if account is not None:
        os.chown(folder, pwd.getpwnam(account).pw_uid, pwd.getpwnam(account).pw_gid)


def unprivileged_account() -> str | None:
    """The user to run PostgreSQL as, which refuses to run as root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    accounts = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in accounts else "nobody"
