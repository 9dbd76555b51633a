"""`execution-logger doctor` against real servers and workers with planted misconfigurations."""

import json
import os
import pwd
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from documents import Document
from execution_logger import Settings
from execution_logger.operate.doctor import Level, journal, send_probe
from execution_logger.store.schema import DEAD_LETTERS
from planted import (
    EXAMPLE,
    HEALTHY,
    HOSTS_APPLICATION,
    HOSTS_OWN,
    NAIVE_INDEXES,
    NOBODY,
    STRANGER,
    STRANGERS_APPLICATION,
    Plant,
    Site,
    environment,
    left_over_journal,
    locked_role,
    naive_table,
    of_application,
    older_migration,
    open_journal,
    redis_keys,
    redis_option,
    redis_user,
    sql,
    unknown_zone,
)
from rows import count_rows, fetch, upgrade_database
from servers import PostgresServer, RedisServer, unprivileged_account
from waiting import wait_until
from workers import CELERY, WorkerProcess

CELERY_SETUP = Document("docs/CELERY_SETUP.md")
USERS = Path(__file__).resolve().parents[2] / "deploy" / "redis" / "users.acl"


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer) -> Iterator[Site]:
    """Servers with three workers, each in a Redis database of its own."""
    database, empty = postgres_server.create_database(), postgres_server.create_database()
    with RedisServer() as redis, ExitStack() as stack:
        site = Site(redis, postgres_server, database, empty)
        upgrade_database(site.url)
        workers = [
            WorkerProcess((*CELERY, "-n", "logs@%h"), environment=site.environ(HEALTHY)),
            of_application(
                HOSTS_APPLICATION,
                {
                    **site.environ(HOSTS_OWN),
                    "DATABASE_URL": postgres_server.url("elsewhere"),
                    "CELERY_RESULT_BACKEND": redis.url(9),
                },
            ),
            of_application(STRANGERS_APPLICATION, site.environ(STRANGER)),
        ]
        for worker in workers:
            stack.callback(worker.close)
            worker.start(ready="")  # all at once
        wait_until(lambda: all("ready." in worker.output for worker in workers), 30)
        yield site
    for name in (database, empty):
        postgres_server.drop_database(name)


@dataclass
class Case:
    """A misconfiguration, and what is said of it."""

    name: str
    plant: Plant
    finds: dict[str, Level]
    """All findings that are not `ok`."""
    what: str
    advice: str
    skip: tuple[str, ...] = ("workers",)
    ahead_seconds: float = 0


ERROR, WARNING = Level.ERROR, Level.WARNING
ALL_BUT_JOURNAL = ("settings", "broker", "results", "workers", "database")

TENANT = (
    "CREATE ROLE tenant LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO tenant; "
    "ALTER TABLE execution_logs ENABLE ROW LEVEL SECURITY; "
    "CREATE POLICY reading ON execution_logs FOR SELECT USING (true); "
    "CREATE POLICY writing ON execution_logs FOR INSERT WITH CHECK (task_id LIKE 'ours-%')"
)
AFTER_TENANT = (
    "DROP POLICY IF EXISTS writing ON execution_logs; DROP POLICY reading ON execution_logs; "
    "ALTER TABLE execution_logs DISABLE ROW LEVEL SECURITY; DROP OWNED BY tenant; DROP ROLE tenant"
)

CASES = [
    Case(
        "wrong Redis password",
        redis_user("~*", "&*", "+@all", password="wrong"),
        {"broker.connection": ERROR},
        "invalid username-password",
        "password or the user in CELERY_BROKER_URL is wrong",
    ),
    Case(
        "no Redis password",
        environment(CELERY_BROKER_URL="redis://nobody:x@127.0.0.1:{port}/0"),
        {"broker.connection": ERROR},
        "invalid username-password",
        "is wrong",
    ),
    Case(
        "Redis user without a right",
        redis_user("~*", "&*", "+@all", "-lpush"),
        {"broker.commands": ERROR},
        "Redis refuses LPUSH logs",
        "ACL SETUSER",
    ),
    Case(
        "no Redis there",
        environment(CELERY_BROKER_URL="redis://127.0.0.1:1/0"),
        {"broker.connection": ERROR},
        "refused",
        "start the server, or correct host and port",
    ),
    Case(
        "not a Redis",
        environment(CELERY_BROKER_URL="redis://127.0.0.1:{postgres}/0"),
        {"broker.connection": ERROR},
        "redis://127.0.0.1",
        "is that a Redis?",
    ),
    Case(
        "eviction",
        redis_option(maxmemory_policy="allkeys-lru", maxmemory="2gb"),
        {"broker.eviction": ERROR},
        "maxmemory-policy is allkeys-lru",
        "CONFIG SET maxmemory-policy noeviction",
    ),
    Case(
        "eviction of confirmations",
        redis_option(maxmemory_policy="volatile-ttl", maxmemory="2gb"),
        {"broker.eviction": WARNING},
        "confirmations",
        "noeviction",
    ),
    Case(
        "no persistence",
        redis_option(appendonly="no", save=""),
        {"broker.persistence": WARNING},
        "no persistence at all",
        "CONFIG SET appendonly yes",
    ),
    Case(
        "maxmemory too small",
        redis_option(maxmemory="64mb"),
        {"broker.memory": WARNING},
        "maxmemory is 67 MB, and the queue alone may grow to about 300 MB",
        "QUEUE_MAX_MESSAGES=1789",
    ),
    Case(
        "Redis full",
        redis_option(maxmemory="500kb"),
        {"broker.commands": ERROR, "broker.memory": ERROR},
        "Redis refuses LPUSH logs",
        "start workers, raise maxmemory",
        skip=("workers", "results"),
    ),
    Case(
        "queue over its limit",
        redis_keys(
            lambda client: client.lpush("logs", *["x"] * 10), EXECUTION_LOGGER_QUEUE_MAX_MESSAGES="10"
        ),
        {"broker.queue": ERROR},
        "queue 'logs' holds 10 batches, its limit is 10",
        "start workers",
    ),
    Case(
        "old batches",
        redis_keys(
            lambda client: client.lpush("logs", json.dumps({"headers": {"sent_at": time.time() - 600}}))
        ),
        {"broker.age": WARNING},
        "waits for 60",
        "start workers",
    ),
    Case(
        "queue of another type",
        redis_keys(lambda client: client.set("logs", "x")),
        {"broker.connection": ERROR},
        "WRONGTYPE",
        "redis-cli TYPE",
    ),
    Case(
        "quarantine",
        redis_keys(lambda client: client.lpush("logs.quarantine", "x")),
        {"broker.quarantine": WARNING},
        "1 malformed messages",
        "execution-logger dead list",
    ),
    Case(
        "result backend unreachable",
        environment(CELERY_RESULT_BACKEND="redis://127.0.0.1:1/0"),
        {"results.connection": ERROR},
        "refused",
        "CELERY_RESULT_BACKEND",
    ),
    Case(
        "clocks",
        environment(),
        {"broker.clock": WARNING, "database.clock": WARNING, "workers.clock": WARNING},
        "clock is 3,600 s behind this machine's",
        "timedatectl",
        skip=(),
        ahead_seconds=3600,
    ),
    Case(
        "no worker",
        environment(NOBODY),
        {"workers.online": ERROR},
        "no worker answers",
        "execution-logger worker",
        skip=(),
    ),
    Case(
        "worker of another queue",
        environment(EXECUTION_LOGGER_QUEUE="other"),
        {"workers.queues": ERROR},
        "no worker takes from queue 'other'; they take from others (logs@",
        "-Q other",
        skip=(),
    ),
    Case(
        "task not registered",
        environment(STRANGER),
        {"workers.task": ERROR},
        "does not know execution_logger.write_batch: it throws batches away",
        "register_tasks(app)",
        skip=(),
    ),
    Case(
        "a host's own worker with defaults",
        environment(HOSTS_OWN),
        {
            "workers.visibility_timeout": WARNING,
            "workers.socket_timeout": WARNING,
            "workers.content": ERROR,
            "workers.database": ERROR,
            "workers.result_backend": ERROR,
        },
        "has a visibility_timeout of 3,600 s instead of 60 s",
        '"visibility_timeout"',
        skip=(),
    ),
    Case(
        "worker with another table",
        environment(EXECUTION_LOGGER_TABLE="naive_logs"),
        {"workers.table": ERROR},
        "writes to table execution_logs",
        "EXECUTION_LOGGER_TABLE",
        skip=("database",),
    ),
    Case(
        "wrong database password",
        locked_role,
        {"database.connection": ERROR},
        "password authentication failed",
        "correct user and password in DATABASE_URL",
    ),
    Case(
        "no such database",
        environment(DATABASE_URL="postgresql://postgres@127.0.0.1:{postgres}/nope"),
        {"database.connection": ERROR},
        'database "nope" does not exist',
        "createdb",
    ),
    Case(
        "missing tables",
        environment(DATABASE_URL="{empty}"),
        {"database.table": ERROR, "database.dead_letters": ERROR, "database.ledger": WARNING},
        'Table "execution_logs" does not exist',
        "execution-logger db upgrade",
    ),
    Case(
        "missing migration",
        older_migration,
        {"database.migrations": ERROR},
        "migration 0001",
        "execution-logger db upgrade",
    ),
    Case(
        "naive column",
        naive_table(*NAIVE_INDEXES),
        {"database.time_zone": WARNING},
        "created_at has no time zone",
        "EXECUTION_LOGGER_TIME_ZONE=Asia/Shanghai",
    ),
    Case(
        "wrong time zone",
        naive_table(
            *NAIVE_INDEXES,
            "INSERT INTO naive_logs VALUES "
            "('i', 't', 'l', 'c', 'm', null, now() AT TIME ZONE 'UTC' + interval '8 h')",
            EXECUTION_LOGGER_TIME_ZONE="UTC",
        ),
        {"database.time_zone": WARNING},
        "the newest entry is 8.0 h ahead",
        "correct EXECUTION_LOGGER_TIME_ZONE",
    ),
    Case(
        "missing index",
        naive_table(NAIVE_INDEXES[1], EXECUTION_LOGGER_TIME_ZONE="UTC"),
        {"database.indexes": WARNING},
        "no index that begins with task_id",
        "CREATE INDEX CONCURRENTLY ON naive_logs (task_id, created_at, id)",
    ),
    Case(
        "user without INSERT",
        sql(
            "CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
            "DROP OWNED BY reader; DROP ROLE reader",
            DATABASE_URL="postgresql://reader@127.0.0.1:{port}/{db}",
        ),
        {"database.rights": ERROR, "database.ledger": WARNING, "database.job_rights": WARNING},
        'no INSERT on table "execution_logs"',
        "GRANT INSERT ON execution_logs",
    ),
    Case(
        "read-only database",
        sql(
            "CREATE ROLE frozen LOGIN SUPERUSER; ALTER ROLE frozen SET default_transaction_read_only = on",
            "DROP ROLE frozen",
            DATABASE_URL="postgresql://frozen@127.0.0.1:{port}/{db}",
        ),
        {"database.writes": ERROR},
        "default_transaction_read_only is on",
        "primary",
    ),
    Case(
        "time zone that the server does not know",
        unknown_zone,
        {"database.insert": ERROR},
        'takes no entries, they wait: time zone "New/Zone" not recognized',
        "correct EXECUTION_LOGGER_TIME_ZONE",
    ),
    Case(
        "levels in capitals",
        sql(
            "ALTER TABLE execution_logs ADD CONSTRAINT capitals CHECK (level IN ('INFO', 'ERROR'))",
            "ALTER TABLE execution_logs DROP CONSTRAINT capitals",
        ),
        {"database.insert": ERROR},
        'violates check constraint "capitals"',
        "levels in lower case",
    ),
    Case(
        "no partition for today",
        naive_table(
            *NAIVE_INDEXES,
            "ALTER TABLE naive_logs RENAME TO plain_logs",
            "CREATE TABLE naive_logs (LIKE plain_logs, PRIMARY KEY (created_at, id)) "
            "PARTITION BY RANGE (created_at)",
            "DROP TABLE plain_logs",
            "CREATE INDEX ON naive_logs (task_id, created_at, id)",
            "CREATE TABLE naive_logs_2020 PARTITION OF naive_logs FOR VALUES FROM ('2020-01-01') "
            "TO ('2021-01-01')",
            EXECUTION_LOGGER_TIME_ZONE="UTC",
        ),
        {"database.insert": ERROR},
        'no partition of relation "naive_logs" found for row',
        "PARTITION OF",
    ),
    Case(
        "row security without a policy",
        sql(
            f"{TENANT}; DROP POLICY writing ON execution_logs",
            AFTER_TENANT,
            DATABASE_URL="postgresql://tenant@127.0.0.1:{port}/{db}",
        ),
        {"database.insert": ERROR},
        "violates row-level security policy",
        "CREATE POLICY",
    ),
    Case(
        "a sequence that may not be used",
        sql(
            f"{TENANT}; ALTER TABLE execution_logs DISABLE ROW LEVEL SECURITY, ADD number bigserial",
            f"ALTER TABLE execution_logs DROP number; {AFTER_TENANT}",
            DATABASE_URL="postgresql://tenant@127.0.0.1:{port}/{db}",
        ),
        {"database.insert": ERROR},
        "permission denied for sequence",
        "GRANT what is missing",
    ),
    Case(
        "dead letters",
        sql(
            f"INSERT INTO {DEAD_LETTERS} (id, batch_id, entry, reason) VALUES ('i', 'b', 'e', 'r')",
            f"DELETE FROM {DEAD_LETTERS}",
        ),
        {"database.dead_letters": WARNING},
        "has refused 1 entries",
        "execution-logger dead list",
    ),
    Case(
        "no Beat",
        sql(
            "UPDATE execution_log_job_runs SET known_since = now() - interval '1 day'",
            "UPDATE execution_log_job_runs SET known_since = now()",
        ),
        {"database.jobs": WARNING},
        "jobs that are late",
        "start execution-logger beat",
    ),
    Case(
        "misspelt variable",
        environment(EXECUTION_LOGGER_BATCHSIZE="10"),
        {"settings.unknown": WARNING},
        "EXECUTION_LOGGER_BATCHSIZE is set, and there is no such setting",
        "did you mean EXECUTION_LOGGER_BATCH_SIZE?",
    ),
    Case(
        "journal that is no folder",
        environment(EXECUTION_LOGGER_JOURNAL_DIRECTORY="/dev/null/journal"),
        {"journal.directory": ERROR},
        "/dev/null is no folder",
        "EXECUTION_LOGGER_JOURNAL_DIRECTORY",
    ),
    Case(
        "left-over journal",
        left_over_journal,
        {"journal.left_over": WARNING},
        "dead processes have left 1 entries",
        "execution-logger recover",
    ),
    Case("journal for all to read", open_journal, {"journal.modes": WARNING}, "can read", "chmod -R go-rwx"),
    Case(
        "disk too small",
        environment(EXECUTION_LOGGER_JOURNAL_MAX_BYTES=str(10**18)),
        {"journal.space": WARNING},
        "MB free",
        "EXECUTION_LOGGER_JOURNAL_MAX_BYTES",
    ),
]


@pytest.fixture(autouse=True)
def local_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tests run on, a container's file system for instance, which would be a finding."""
    monkeypatch.setattr(journal, "file_system", lambda folder: "ext4")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_planted_misconfiguration_is_found(site: Site, case: Case) -> None:
    """With its level, its value and what to do; and nothing else is."""
    with case.plant(site) as environ:
        found = site.examine(environ, case.skip, case.ahead_seconds)
    assert {finding.name: finding.level for finding in found} == case.finds, found
    assert any(case.what in finding.what and case.advice in finding.advice for finding in found), found
    assert "hunter2" not in str(found)


def test_nothing_is_found_where_nothing_is_wrong(site: Site) -> None:
    """A false alarm is a defect: neither at rest nor after the probe, which leaves no row behind."""
    done = site.run(site.environ(), "--end-to-end", "--json", "--strict")
    facts = json.loads(done.stdout)
    assert [each for each in facts["findings"] if each["level"] != "ok"] == []
    assert (done.returncode, done.stderr, facts["level"]) == (0, "", "ok")
    assert list(facts["legs"]) == ["queue", "stored"]
    assert count_rows(site.url) == 0
    assert len(fetch(site.url, "SELECT * FROM execution_log_batches")) == 1, "the batch was stored"
    fetch(site.url, "DELETE FROM execution_log_batches")
    assert site.examine(site.environ()) == []


PARTICULAR = {
    "categories of its own": sql(
        "ALTER TABLE execution_logs ADD CONSTRAINT own CHECK (category IN ('tool', 'page'))",
        "ALTER TABLE execution_logs DROP CONSTRAINT own",
    ),
    "runs that it refers to": sql(
        "CREATE TABLE runs (id text PRIMARY KEY); "
        "ALTER TABLE execution_logs ADD CONSTRAINT own FOREIGN KEY (task_id) REFERENCES runs",
        "ALTER TABLE execution_logs DROP CONSTRAINT own; DROP TABLE runs",
    ),
    "a tenant who writes": sql(
        f"{TENANT}; INSERT INTO execution_logs (id, task_id, level, category, message, created_at) "
        "VALUES (gen_random_uuid(), 'ours-1', 'info', 'agent', 'm', now())",
        f"DELETE FROM execution_logs; {AFTER_TENANT}",
        DATABASE_URL="postgresql://tenant@127.0.0.1:{port}/{db}",
    ),
}


@pytest.mark.parametrize("plant", PARTICULAR.values(), ids=PARTICULAR)
def test_a_table_that_is_particular_is_healthy(site: Site, plant: Plant) -> None:
    """What it refuses of an entry made up to try it, it need not refuse of the host's; nothing is left."""
    with plant(site) as environ:
        before = count_rows(site.url)
        assert site.examine(environ, ("workers",)) == []
        assert count_rows(site.url) == before


def test_the_hosts_own_worker_of_the_documentation_is_healthy(site: Site) -> None:
    """Whoever copies the example has nothing to explain to a check in CI."""
    (source,) = (block.code for block in CELERY_SETUP.blocks if block.example == "register-tasks")
    environ = site.environ(EXAMPLE)
    source = source.replace("redis://localhost:6379/0", environ["CELERY_BROKER_URL"])
    worker = of_application(source, environ)
    try:
        worker.start()
        done = site.run(environ, "--end-to-end", "--json", "--strict")
    finally:
        worker.close()
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["log_host", "log_worker"])
def test_a_user_of_redis_who_may_do_no_more_than_he_must_is_healthy(site: Site, name: str) -> None:
    """Those that are shipped: what they may not see is no finding, and the probe arrives."""
    (line,) = (line for line in USERS.read_text().splitlines() if line.startswith(f"user {name} on >"))
    rules = re.findall(r"\([^)]*\)|\S+", line)[4:]
    with redis_user(*rules)(site) as environ:
        assert site.examine(environ) == []
        probe = send_probe(Settings.from_environment(environ), timeout_seconds=60.0)
    assert list(probe.seconds) == ["queue", "stored"]
    assert [finding.level for finding in probe.findings] == [Level.OK]


def test_a_host_without_the_databases_url_is_healthy_as_well(site: Site) -> None:
    """The confirmation is enough for the probe."""
    environ = {"CELERY_BROKER_URL": site.redis.url()}
    done = site.run(environ, "--end-to-end", "--json", "--strict")
    assert done.returncode == 0, done.stdout
    assert list(json.loads(done.stdout)["legs"]) == ["queue", "stored"]
    fetch(site.url, "DELETE FROM execution_logs")


def test_a_directory_that_cannot_be_written_is_found(site: Site, tmp_path: Path) -> None:
    """By a user without special rights, as hosts have."""
    account = unprivileged_account()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        environ = {**site.environ(), "EXECUTION_LOGGER_JOURNAL_DIRECTORY": folder}
        if account is not None:
            os.seteuid(pwd.getpwnam(account).pw_uid)
        try:
            (finding,) = site.examine(environ, ALL_BUT_JOURNAL)
        finally:
            if account is not None:
                os.seteuid(0)
    assert (finding.name, finding.level) == ("journal.directory", Level.ERROR)
    assert f"cannot keep a journal in {folder}: Permission denied" in finding.what
    assert "EXECUTION_LOGGER_JOURNAL_DIRECTORY" in finding.advice


def test_servers_that_hang_cost_seconds(
    own_redis_server: RedisServer, own_postgres_server: PostgresServer, site: Site
) -> None:
    """Each says so, at the same time, and without a traceback."""
    url = own_postgres_server.url()
    own_redis_server.pause()
    own_postgres_server.pause()
    done = site.run(
        {"CELERY_BROKER_URL": own_redis_server.url(), "DATABASE_URL": url}, "--json", "--end-to-end"
    )
    facts = json.loads(done.stdout)
    wrong = {each["name"]: each["what"] for each in facts["findings"] if each["level"] != "ok"}
    assert sorted(wrong) == ["broker.connection", "database.connection", "probe.delivery"]
    # Whether an attempt or the whole examination ends first, nobody needs to care.
    assert "no answer within " in wrong["broker.connection"]
    assert "no answer within " in wrong["database.connection"]
    assert (done.returncode, done.stderr) == (1, "")
    assert facts["seconds"] < 60, "it hangs with what it asks"


def test_a_name_server_that_hangs_holds_up_nobody(site: Site) -> None:
    """The command ends when it has said so; nothing is waited for at the exit."""
    script = (
        "import socket, time; from execution_logger import cli; from execution_logger.operate import doctor"
    )
    hang = "socket.getaddrinfo = lambda *_, **__: time.sleep(45)"
    limit = "doctor.examine.__kwdefaults__.update(limit_seconds=1.0)"
    call = "cli.main(['doctor', '--json'], prog_name='execution-logger')"
    environ = {
        "CELERY_BROKER_URL": "redis://nowhere.invalid/0",
        "DATABASE_URL": "postgresql://u@nowhere.invalid/d",
    }
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; {hang}; {limit}; {call}"],
        check=False, env={**os.environ, **environ}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    facts = json.loads(done.stdout)
    wrong = {each["name"]: each["what"] for each in facts["findings"] if each["level"] != "ok"}
    assert wrong == dict.fromkeys(("broker.connection", "database.connection"), "no answer within 1 s")
    assert (done.returncode, done.stderr) == (1, "")


STUCK = {
    "no worker": (
        environment(NOBODY),
        "probe.worker",
        "the broker has the entry, and it is not stored after",
    ),
    "no broker": (
        environment(CELERY_BROKER_URL="redis://127.0.0.1:1/0"),
        "probe.delivery",
        "did not leave this process",
    ),
    "worker without the task": (
        environment(STRANGER),
        "probe.worker",
        "the broker has the entry, and it is not stored after",
    ),
    "worker whose database is away": (
        environment(HOSTS_OWN, CELERY_RESULT_BACKEND="redis://127.0.0.1:{port}/9"),
        "probe.worker",
        "the broker has the entry, and it is not stored after",
    ),
    "database without the tables": (environment(DATABASE_URL="{empty}"), "probe.database", "does not exist"),
}


@pytest.mark.parametrize(("plant", "name", "what"), STUCK.values(), ids=STUCK)
def test_the_probe_says_where_it_is_stuck(site: Site, plant: Plant, name: str, what: str) -> None:
    """Not more than hosts are told."""
    with plant(site) as environ:
        timeout_seconds = 10.0 if name == "probe.database" else 4.0  # a worker stores it meanwhile
        probe = send_probe(Settings.from_environment(environ), timeout_seconds)
        with site.redis.client(NOBODY) as client:
            client.delete("logs")
    (finding,) = probe.findings
    assert (finding.name, finding.level) == (name, Level.ERROR)
    assert what in finding.what
    assert finding.advice


def test_a_worker_that_stores_elsewhere_is_found_by_the_probe(site: Site) -> None:
    """Its word says stored, and the row is not where this configuration looks for it."""
    upgrade_database(site.postgres.url(site.empty_database))
    environ = {**site.environ(), "DATABASE_URL": site.postgres.url(site.empty_database)}
    probe = send_probe(Settings.from_environment(environ), timeout_seconds=60.0)
    (finding,) = probe.findings
    assert finding.name == "probe.database"
    assert "a worker has stored the entry, and here table 'execution_logs' does not have it" in finding.what


def test_an_entry_that_the_database_refuses_is_found_by_the_probe(site: Site) -> None:
    """Whether the worker holds the entry or has buried it."""
    fetch(
        site.url, "ALTER TABLE execution_logs ADD CONSTRAINT planted CHECK (category <> 'workflow') NOT VALID"
    )
    try:
        probe = send_probe(Settings.from_environment(site.environ()), timeout_seconds=5.0)
    finally:
        fetch(site.url, "ALTER TABLE execution_logs DROP CONSTRAINT planted")
        # One that is held is stored now, and is nobody's.
        left = f"SELECT id::text FROM execution_logs UNION ALL SELECT id FROM {DEAD_LETTERS}"
        wait_until(lambda: fetch(site.url, left), 20)
        fetch(site.url, "DELETE FROM execution_logs")
        fetch(site.url, f"DELETE FROM {DEAD_LETTERS}")
    (finding,) = probe.findings
    assert finding.name in ("probe.database", "probe.worker")


def test_a_row_that_may_not_be_deleted_is_named(site: Site) -> None:
    """So that somebody else can."""
    reader = sql(
        "CREATE ROLE reader LOGIN; GRANT SELECT ON execution_logs TO reader",
        "DROP OWNED BY reader; DROP ROLE reader",
        DATABASE_URL="postgresql://reader@127.0.0.1:{port}/{db}",
    )
    with reader(site) as environ:
        probe = send_probe(Settings.from_environment(environ), timeout_seconds=60.0)
    left = {row["task_id"] for row in fetch(site.url, "DELETE FROM execution_logs RETURNING task_id")}
    (finding,) = probe.findings
    assert finding.level is Level.OK
    said, _, task_id = finding.what.rpartition(" ")
    assert said.endswith("; its row stays: task_id")
    assert task_id in left


def test_without_celery_the_probe_goes_straight_to_the_database(site: Site) -> None:
    """There is one leg."""
    environ = {"DATABASE_URL": site.url, "CELERY_ENABLED": "false"}
    probe = send_probe(Settings.from_environment(environ), timeout_seconds=60.0)
    assert list(probe.seconds) == ["stored"]
    assert [finding.level for finding in probe.findings] == [Level.OK]
    assert site.examine(environ, ()) == []
