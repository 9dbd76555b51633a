"""Real Redis and PostgreSQL servers, each on a free port of 127.0.0.1 with a temporary folder.

They run from the server programs of this machine, or in a container where only a Docker
engine is found. A server keeps its port and its data from `stop()` or `kill()` to the next
`start()`; `close()` removes both.
"""

import asyncio
import os
import pwd
import random
import shutil
import signal
import socket
import struct
import tempfile
import uuid
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Self

import asyncpg
import redis

from processes import Container, LocalProcess, Running, docker, has_docker
from waiting import wait_until

START_TIMEOUT_SECONDS = 30.0


class Server(ABC):
    """What the servers have in common: a port, a folder, and a process that comes and goes."""

    program: ClassVar[str]
    places: ClassVar[tuple[str, ...]] = ()
    package: ClassVar[str]
    image: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="execution-logger-"))
        self._binaries = self._find_binaries()
        self._running: Running | None = None

    def start(self) -> Self:
        """Start it, on the same port with the same data as before, and wait until it answers."""
        if self._running is not None:
            raise RuntimeError(f"{self.program} runs already on port {self.port}")
        self._running = self._launch_local() if self._binaries else self._launch_container()
        wait_until(self._has_started, START_TIMEOUT_SECONDS, message=lambda: self.output)
        return self

    def stop(self) -> None:
        """Shut it down in order, with its data written; nothing when it does not run."""
        running, self._running = self._running, None
        if running is not None:
            running.stop(self.stop_signal)

    def kill(self) -> None:
        """SIGKILL: what it had not written yet is lost."""
        running, self._running = self._running, None
        if running is not None:
            running.kill()

    def restart(self) -> None:
        """Stop it in order and start it again."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open, new ones are accepted by the kernel, nothing answers."""
        self._require().pause()

    def resume(self) -> None:
        """End a pause."""
        self._require().resume()

    @property
    def output(self) -> str:
        """All that it has printed since it was made, for the message of a failure."""
        return "" if self._running is None else self._running.output

    def close(self) -> None:
        """Stop it, when it runs, and remove its data."""
        try:
            self.stop()
        finally:
            if not self._binaries:
                docker("volume", "rm", self.folder.name, check=False)
            shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def url(self) -> str:
        """Its URL, as the settings take it."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it serves clients; raises OSError or RedisError as long as it does not."""

    @abstractmethod
    def _launch_local(self) -> Running: ...

    @abstractmethod
    def _launch_container(self) -> Running: ...

    def _has_started(self) -> bool:
        if not self._require().is_running():
            raise RuntimeError(f"{self.program} ended at its start. Its output:\n{self.output}")
        try:
            return self._answers()
        except (OSError, redis.RedisError):
            return False

    def _require(self) -> Running:
        if self._running is None:
            raise RuntimeError(f"{self.program} does not run")
        return self._running

    def _find_binaries(self) -> Path | None:
        """The folder of the server programs, or None to use a container."""
        places = [place for pattern in self.places for place in sorted(Path("/").glob(pattern), reverse=True)]
        for folder in [*map(Path, os.get_exec_path()), *places]:
            if os.access(folder / self.program, os.X_OK):
                return folder
        if has_docker():
            return None
        raise RuntimeError(
            f"{self.program} is not installed and no Docker engine answers: "
            f"install the package {self.package}, e.g. `apt-get install {self.package}`"
        )


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
        return redis.Redis.from_url(self.url(database), decode_responses=True, socket_timeout=5)

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
    image = "postgres:15-alpine"
    stop_signal = signal.SIGINT  # "fast": it ends its clients' sessions instead of waiting for them

    def url(self, database: str = "postgres") -> str:
        """`postgresql://postgres@127.0.0.1:port/database`."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str = "template1") -> str:
        """The name of a new database that is a copy of `template`; nobody may be connected to that."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database and end its clients' sessions."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, *arguments: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of one statement, on a connection of its own; from any test, async or not."""

        async def run() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(self.url(database), timeout=10)
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
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(struct.pack("!ii", len(parameters) + 8, 3 << 16) + parameters)
            return connection.recv(1) == b"R"

    def _settings(self) -> list[str]:
        settings = {
            "fsync": "off",
            "full_page_writes": "off",
            "unix_socket_directories": "",
        }
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _launch_local(self) -> Running:
        assert self._binaries is not None
        data = self.folder / "data"
        account = unprivileged_account()
        if account is not None:
            os.chown(self.folder, pwd.getpwnam(account).pw_uid, pwd.getpwnam(account).pw_gid)
        if not data.exists():
            self._run_initdb(data, account)
        own = ["-D", str(data), "-h", "127.0.0.1", "-p", str(self.port)]
        command = [str(self._binaries / "postgres"), *own, *self._settings()]
        return LocalProcess(command, output=self.folder / "output.txt", folder=self.folder, account=account)

    def _run_initdb(self, data: Path, account: str | None) -> None:
        assert self._binaries is not None
        words = "--username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync --no-instructions"
        command = [str(self._binaries / "initdb"), "-D", str(data), *words.split()]
        output = self.folder / "initdb.txt"
        initdb = LocalProcess(command, output=output, folder=self.folder, account=account)
        wait_until(lambda: not initdb.is_running(), START_TIMEOUT_SECONDS, message=lambda: initdb.output)
        if not (data / "PG_VERSION").exists():
            raise RuntimeError(f"initdb failed: {initdb.output}")

    def _launch_container(self) -> Running:
        variables = {"POSTGRES_HOST_AUTH_METHOD": "trust", "PGDATA": "/data/pgdata"}
        ports = f"127.0.0.1:{self.port}:5432"
        arguments = ["postgres", *self._settings()]
        return Container(self.image, arguments, ports=ports, volume=self.folder.name, variables=variables)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on.

    It is below 32768, where kernels do not take the clients' ports from: a client that
    retries while the server is down could otherwise be given that port, or connect to itself.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def unprivileged_account() -> str | None:
    """The user to run PostgreSQL as, which refuses to run as root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    accounts = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in accounts else "nobody"
