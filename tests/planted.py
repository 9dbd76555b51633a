"""A deployment that is all right, and what can be planted in it for the doctor to find."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from execution_logger import Settings
from execution_logger.operate.doctor import Finding, Level, Subject, examine
from execution_logger.store.migrate import VERSION_TABLE, version_table
from execution_logger.store.schema import dead_letter_table, job_run_table, ledger_table, statistics_table
from rows import fetch
from servers import PostgresServer, RedisServer
from waiting import wait_until
from workers import WorkerProcess

COMMAND = (sys.executable, "-P", "-m", "execution_logger.cli", "doctor")

HEALTHY, HOSTS_OWN, STRANGER, NOBODY, EXAMPLE = range(5)
"""The Redis databases: a worker of ours, a host's that takes our task, one without it, and none."""

HOSTS_APPLICATION = """
from celery import Celery
from execution_logger.worker import register_tasks

app = Celery("host")
app.conf.accept_content = ["json", "pickle"]
register_tasks(app)
"""
STRANGERS_APPLICATION = "from celery import Celery\napp = Celery('stranger')\n"

NAIVE_TABLE = """
CREATE TABLE naive_logs (
    id varchar(36) PRIMARY KEY, task_id varchar(36) NOT NULL, level text NOT NULL, category text NOT NULL,
    message text NOT NULL, details jsonb, created_at timestamp NOT NULL
)
"""
NAIVE_INDEXES = (
    "CREATE INDEX ON naive_logs (task_id, created_at, id)",
    "CREATE INDEX ON naive_logs (created_at)",
)
LOCAL_RULES = "host all locked 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"


@dataclass
class Site:
    """Servers and workers that are all right, until somebody plants something."""

    redis: RedisServer
    postgres: PostgresServer
    database: str
    empty_database: str

    @property
    def url(self) -> str:
        """The database with the tables."""
        return self.postgres.url(self.database)

    def environ(self, database: int = HEALTHY) -> dict[str, str]:
        """That of a host and of its worker."""
        return {"CELERY_BROKER_URL": self.redis.url(database), "DATABASE_URL": self.url}

    def examine(
        self, environ: dict[str, str], skip: tuple[str, ...] = (), ahead_seconds: float = 0
    ) -> list[Finding]:
        """What the doctor finds that is not all right."""

        def now() -> float:
            return time.time() + ahead_seconds

        found = examine(Subject(Settings.from_environment(environ), environ, now), skip)
        assert found
        return [finding for finding in found if finding.level is not Level.OK]

    def run(self, environ: dict[str, str], *options: str) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end."""
        return subprocess.run(
            [*COMMAND, *options],
            check=False,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=300,
        )


def of_application(source: str, environ: dict[str, str]) -> WorkerProcess:
    """A worker of an application that a host has written."""
    command = (
        sys.executable,
        "-m",
        "celery",
        "-A",
        "planted",
        "worker",
        "-Q",
        "logs",
        "-P",
        "threads",
        "--loglevel",
        "INFO",
    )
    # Celery lets root accept pickle only when it is told to.
    worker = WorkerProcess(command, environment={**environ, "C_FORCE_ROOT": "1"})
    (worker.folder / "planted.py").write_text(source)
    return worker


Plant = Callable[[Site], AbstractContextManager[dict[str, str]]]


def environment(database: int = HEALTHY, **variables: str) -> Plant:
    """Other variables; `{redis}`, `{port}` and `{postgres}` stand for what the site has."""

    @contextmanager
    def plant(site: Site) -> Iterator[dict[str, str]]:
        values = {
            "redis": site.redis.url(),
            "port": site.redis.port,
            "postgres": site.postgres.port,
            "db": site.database,
            "empty": site.postgres.url(site.empty_database),
        }
        yield {**site.environ(database), **{name: text.format(**values) for name, text in variables.items()}}

    return plant


def redis_option(**options: str) -> Plant:
    """Options of the running Redis."""

    @contextmanager
    def plant(site: Site) -> Iterator[dict[str, str]]:
        with site.redis.client() as client:
            names = {name: name.replace("_", "-") for name in options}
            before = {real: client.config_get(real)[real] for real in names.values()}
            for name, real in names.items():
                client.config_set(real, options[name])
            try:
                yield site.environ()
            finally:
                for real, value in before.items():
                    client.config_set(real, value)

    return plant


def redis_user(*rules: str, password: str = "hunter2") -> Plant:
    """A user of Redis whose password is `hunter2`."""

    @contextmanager
    def plant(site: Site) -> Iterator[dict[str, str]]:
        with site.redis.client() as client:
            client.execute_command("ACL", "SETUSER", "planted", "reset", "on", ">hunter2", *rules)
            try:
                yield {
                    **site.environ(),
                    "CELERY_BROKER_URL": f"redis://planted:{password}@127.0.0.1:{site.redis.port}/0",
                }
            finally:
                client.execute_command("ACL", "DELUSER", "planted")

    return plant


def redis_keys(fill: Callable[[Any], object], **variables: str) -> Plant:
    """Something in a Redis database without workers."""

    @contextmanager
    def plant(site: Site) -> Iterator[dict[str, str]]:
        with site.redis.client(NOBODY) as client:
            fill(client)
            try:
                yield {**site.environ(NOBODY), **variables}
            finally:
                client.flushdb()

    return plant


def sql(before: str, after: str, **variables: str) -> Plant:
    """Statements in the database with the tables."""

    @contextmanager
    def plant(site: Site) -> Iterator[dict[str, str]]:
        for statement in before.split(";"):
            fetch(site.url, statement)
        values = {"port": site.postgres.port, "db": site.database}
        try:
            yield {**site.environ(), **{name: text.format(**values) for name, text in variables.items()}}
        finally:
            for statement in after.split(";"):
                fetch(site.url, statement)

    return plant


@contextmanager
def locked_role(site: Site) -> Iterator[dict[str, str]]:
    """A role of PostgreSQL that needs a password, and another password."""
    (path,) = site.postgres.execute("SHOW hba_file")[0]
    execute = site.postgres.execute
    (rules,) = execute("SELECT pg_read_file($1)", path)[0]
    execute("CREATE ROLE locked LOGIN PASSWORD 'hunter2'")
    execute(f"COPY (SELECT unnest(string_to_array($q${LOCAL_RULES}$q$, E'\\n'))) TO '{path}'")
    execute("SELECT pg_reload_conf()")
    wait_until(lambda: execute("SELECT 1 FROM pg_hba_file_rules WHERE user_name = '{locked}'"))
    try:
        yield {
            **site.environ(),
            "DATABASE_URL": f"postgresql://locked:wrong@127.0.0.1:{site.postgres.port}/{site.database}",
        }
    finally:
        execute(f"COPY (SELECT unnest(string_to_array($q${rules}$q$, E'\\n'))) TO '{path}'")
        execute("SELECT pg_reload_conf()")
        execute("DROP ROLE locked")


@contextmanager
def left_over_journal(site: Site) -> Iterator[dict[str, str]]:
    """What a process that was killed has left, and nobody sends."""
    environ = {**site.environ(NOBODY), "EXECUTION_LOGGER_QUEUE": "abandoned"}
    call = "from execution_logger import execution_logger; execution_logger.sync.info('t', 'c', 'm')"
    script = f"import os; {call}; os._exit(9)"
    subprocess.run([sys.executable, "-c", script], env={**os.environ, **environ}, check=False, timeout=300)
    yield environ


@contextmanager
def open_journal(site: Site) -> Iterator[dict[str, str]]:
    """A folder of journals that others can read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "logs-1234").mkdir(0o755)
        yield {**site.environ(), "EXECUTION_LOGGER_JOURNAL_DIRECTORY": folder}


@contextmanager
def older_migration(site: Site) -> Iterator[dict[str, str]]:
    """The tables of a version before."""
    statement = "UPDATE execution_logger_alembic_version SET version_num = $1"
    (row,) = fetch(site.url, "SELECT version_num FROM execution_logger_alembic_version")
    fetch(site.url, statement, "0001")
    try:
        yield site.environ()
    finally:
        fetch(site.url, statement, row["version_num"])


@contextmanager
def zone_of_python_alone() -> Iterator[str]:
    """A time zone that the server does not know: Python's data may be newer than its own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "New").mkdir()
        (source,) = (place for path in zoneinfo.TZPATH if (place := Path(path, "Asia/Shanghai")).exists())
        shutil.copy(source, Path(folder) / "New" / "Zone")
        zoneinfo.reset_tzpath([folder, *zoneinfo.TZPATH])
        try:
            yield "New/Zone"
        finally:
            zoneinfo.reset_tzpath()


@contextmanager
def unknown_zone(site: Site) -> Iterator[dict[str, str]]:
    """A time zone that is written, and that the server does not know."""
    with (
        zone_of_python_alone() as zone,
        naive_table(*NAIVE_INDEXES, EXECUTION_LOGGER_TIME_ZONE=zone)(site) as environ,
    ):
        yield environ


def naive_table(*statements: str, **variables: str) -> Plant:
    """A host's table whose `created_at` has no time zone."""
    settings = Settings(table="naive_logs")
    tables = [make(settings) for make in (dead_letter_table, ledger_table, job_run_table, statistics_table)]
    made: list[ExecutableDDLElement] = [CreateTable(table) for table in tables]
    made += [CreateIndex(index) for table in tables for index in table.indexes]
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    copies = [str(each.compile(dialect=dialect)) for each in made]
    version = version_table(settings).name
    copies.append(f"CREATE TABLE {version} AS TABLE {VERSION_TABLE}")
    before = ";".join((NAIVE_TABLE, *copies, *statements))
    after = f"DROP TABLE naive_logs, {version}, {', '.join(table.name for table in tables)}"
    return sql(before, after, EXECUTION_LOGGER_TABLE="naive_logs", **variables)
