"""The scheduled jobs against real servers: Beat sends them, workers run them, and one may be killed."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from celery import Celery
from kombu import Producer
from uuid_utils import uuid7

from batches import encoded
from documents import Document
from doubles import DEADLINE_SECONDS
from execution_logger import ExecutionLogger, Settings
from execution_logger.broker.queue import open_channel, queue_length
from execution_logger.read.overview import table_size
from execution_logger.read.statistics import count_hour
from execution_logger.store import upgrade
from execution_logger.store.deletion import Expiry
from execution_logger.store.table import look_up_table
from execution_logger.worker import create_app
from execution_logger.worker.jobs import Result, Runner, Tick
from execution_logger.worker.schedule import JOBS, RETENTION, STATISTICS, Job
from planted import of_application
from postgresql_site import PostgresqlSite
from processes import LocalProcess
from rows import count_rows, fetch
from waiting import wait_until
from workers import WorkerProcess

HOUR = datetime(2026, 11, 22, 10, tzinfo=UTC)
FILL = """
    INSERT INTO execution_logs (id, task_id, level, category, message, created_at)
    SELECT gen_random_uuid(), 'run-' || n % 100, 'info', 'agent', 'm',
        now() - $2::interval + n * interval '1 ms'
    FROM generate_series(1, $1::integer) AS n
"""
BEAT_APPLICATION = """
from execution_logger.worker import create_app
app = create_app()
for entry in app.conf.beat_schedule.values():
    entry["schedule"] = 1.0
"""
HOST = """
from celery import Celery
from execution_logger.worker import register_tasks

app = Celery("host")
app.conf.broker_transport_options = {"global_keyprefix": "host:"}
register_tasks(app)
"""
LOCKS = """
    SELECT pid FROM pg_locks JOIN pg_database ON database = pg_database.oid
    WHERE locktype = 'advisory' AND datname = current_database()
"""
CREATE, ADD_MONTH, _ = (block.code for block in Document("docs/SCALING.md").blocks if block.language == "sql")


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[PostgresqlSite]:
    """A database with the library's tables."""
    async with PostgresqlSite(database_url, pool_size=10) as site:
        yield site


def fill(url: str, rows: int, age: timedelta) -> None:
    """Entries of this age."""
    fetch(url, FILL, rows, age)


def job(url: str, name: str) -> dict[str, Any]:
    """What is noted of a job."""
    (row,) = fetch(url, "SELECT * FROM execution_log_job_runs WHERE name = $1", name)
    return {**row, "summary": json.loads(row["summary"])}


def is_locked(url: str) -> bool:
    """Whether somebody works on a job."""
    return bool(fetch(url, LOCKS))


def has_finished(url: str, environment: dict[str, str]) -> bool:
    """Whether nothing is left for the retention; otherwise the next tick is sent when the last is over."""
    if job(url, "retention")["finished_at"] is not None:
        return True
    if not is_locked(url):
        send(environment, "retention")
    return False


def send(environment: dict[str, str], *names: str) -> None:
    """Send jobs as Beat would."""
    settings = Settings.from_environment(environment)
    app = create_app(settings)
    with open_channel(settings) as channel:
        for name in names:
            publish(channel, app, name)
    app.close()


def publish(channel: Any, app: Celery, name: str, queue: str = "logs") -> None:
    """Send a job to a queue."""
    headers, properties, body, _ = app.amqp.as_task_v2(str(uuid7()), JOBS[name].task, expires=60)
    Producer(channel).publish(
        body, exchange="", routing_key=queue, serializer="json", headers=headers, **properties
    )


@contextmanager
def beat(worker: WorkerProcess) -> Iterator[LocalProcess]:
    """A Beat in the worker's folder, that sends each job every second."""
    (worker.folder / "beat_tasks.py").write_text(BEAT_APPLICATION)
    command = [sys.executable, "-m", "celery", "-A", "beat_tasks", "beat", "--loglevel", "INFO"]
    process = LocalProcess(
        command, output=worker.folder / "beat.txt", environment=worker.environment, folder=worker.folder
    )
    try:
        yield process
        process.stop()
    finally:
        process.kill()


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_two_beats_send_and_the_worker_runs_each_job_once(
    redis_url: str, database_url: str, pool: str
) -> None:
    """Both send every second; each job runs once, because it is due once. Neither leaves a file."""
    fill(database_url, 1000, timedelta(days=100))
    environment = {
        "CELERY_BROKER_URL": redis_url,
        "DATABASE_URL": database_url,
        **{f"EXECUTION_LOGGER_{each.setting.upper()}": "0 0 1 1 *" for each in JOBS.values()},
        "EXECUTION_LOGGER_WORKER_POOL": pool,
        "EXECUTION_LOGGER_WORKER_CONCURRENCY": "2",
    }
    with WorkerProcess(environment=environment) as worker, beat(worker) as first, beat(worker):
        wait_until(lambda: all(job(database_url, name)["finished_at"] for name in JOBS), 30)
        wait_until(lambda: worker.output.count("'skipped'") > len(JOBS), 30)
        files = {path.name for path in worker.folder.iterdir() if path.suffix != ".txt"}
        assert files - {"__pycache__"} == {"tasks", "beat_tasks.py"}
        assert first.output.count("Sending due task") >= len(JOBS)
    for name in JOBS:
        found = job(database_url, name)
        assert (found["outcome"], found["error"], len(json.loads(found["past_runs"]))) == (
            "succeeded",
            None,
            1,
        )
    assert job(database_url, "retention")["summary"]["entries"] == 1000
    assert count_rows(database_url) == 0
    assert job(database_url, "health")["summary"]["broker"] == "ok"


@pytest.mark.slow
def test_the_next_tick_goes_on_after_a_worker_was_killed(redis_url: str, database_url: str) -> None:
    """At once, because the lock is gone with it; every old row is deleted, and no other."""
    fill(database_url, 60_000, timedelta(days=100))
    fill(database_url, 1000, timedelta(days=1))
    environment = {
        "CELERY_BROKER_URL": redis_url,
        "DATABASE_URL": database_url,
        "EXECUTION_LOGGER_VISIBILITY_TIMEOUT_SECONDS": "120",  # of which a tick may take a share
        "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS": "60",
    }
    with WorkerProcess(environment=environment) as worker:
        send(environment, "retention")
        wait_until(lambda: count_rows(database_url) < 58_000, 30)
        worker.kill()
        assert count_rows(database_url) > 1000
        assert job(database_url, "retention")["finished_at"] is None
        worker.start()
        wait_until(lambda: has_finished(database_url, environment), 50)
    assert job(database_url, "retention")["outcome"] == "succeeded"
    assert count_rows(database_url) == 1000


def test_a_job_that_was_missed_is_sent_by_the_health_check(redis_url: str, database_url: str) -> None:
    """Beat was away for days; the statistics come without it."""
    fetch(database_url, "UPDATE execution_log_job_runs SET known_since = now() - interval '3 days'")
    environment = {"CELERY_BROKER_URL": redis_url, "DATABASE_URL": database_url}
    with WorkerProcess(environment=environment):
        send(environment, "health")
        wait_until(
            lambda: all(job(database_url, name)["finished_at"] for name in ("statistics", "retention"))
        )
    assert "retention" in job(database_url, "health")["summary"]["missed"]


def test_a_host_with_a_key_prefix(redis_url: str, database_url: str) -> None:
    """Its own worker stores its entries, and the health check counts those that wait there."""
    environment = {"CELERY_BROKER_URL": redis_url, "DATABASE_URL": database_url}
    with closing(Celery("host", broker=redis_url, set_as_current=False)) as app:
        app.conf.broker_transport_options = {"global_keyprefix": "host:"}
        logger = ExecutionLogger(Settings(broker_url=redis_url), celery_app=app)
        for message in ("first", "second"):
            logger.sync.info("t", "c", message)
            assert logger.sync.flush(DEADLINE_SECONDS).complete
        with open_channel(Settings(), app) as channel:
            publish(channel, app, "health", "others")
        worker = of_application(HOST, environment)
        documented = worker.command
        worker.command = ["others" if word == "logs" else word for word in documented]
        with worker:
            wait_until(lambda: job(database_url, "health")["finished_at"], 30)
            assert job(database_url, "health")["summary"]["waiting"] == 2
            worker.stop()
            worker.command = documented
            worker.start()
            wait_until(lambda: count_rows(database_url) == 2, 30)
        assert logger.sync.shutdown().complete


def test_how_long_the_oldest_batch_waits_is_known(redis_url: str) -> None:
    """From when its host has sent it."""
    settings = Settings(broker_url=redis_url)
    assert queue_length(settings).sent_at is None
    began = time.time()
    logger = ExecutionLogger(settings)
    for message in ("first", "second"):
        logger.sync.info("t", "c", message)
        assert logger.sync.flush(DEADLINE_SECONDS).complete
    sent_at = queue_length(settings).sent_at
    logger.sync.shutdown()
    assert sent_at is not None
    assert began <= sent_at <= time.time()


async def test_a_job_runs_once_at_a_time(site: PostgresqlSite) -> None:
    """Of ten workers that are sent the same; the one of another table of entries works beside it."""
    begun, goes_on, runs = asyncio.Event(), asyncio.Event(), []

    async def work(tick: Tick) -> bool:
        runs.append(tick.settings.table)
        begun.set()
        return await goes_on.wait()

    def runner(settings: Settings) -> Runner:
        return Runner(site.engine, settings, work={RETENTION.name: work})

    first = asyncio.create_task(runner(site.settings).run(RETENTION))
    await begun.wait()
    others = [await runner(site.settings).run(RETENTION, is_by_hand=True) for _ in range(9)]
    assert {each.outcome for each in others} == {"skipped"}
    beside = replace(site.settings, table="app_logs")
    await upgrade(site.engine, beside)
    begun.clear()
    second = asyncio.create_task(runner(beside).run(RETENTION))
    await begun.wait()
    goes_on.set()
    assert [(await each).outcome for each in (first, second)] == ["succeeded"] * 2
    assert runs == ["execution_logs", "app_logs"]


async def test_statistics_are_those_of_the_database_itself(site: PostgresqlSite) -> None:
    """Its own percentile_cont gives the same; the worker's statement is one for both databases."""
    fields = {"step": "s", "agent_name": "a"}
    moments = [(HOUR + timedelta(seconds=n)).isoformat() for n in range(300)]
    await site.write(*(encoded(created_at=at, duration_ms=n * n, **fields) for n, at in enumerate(moments)))
    async with site.engine.connect() as connection:
        table = await look_up_table(connection, site.settings)
        statistics = await count_hour(connection, table, HOUR)
    (expected,) = await site.rows(
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) AS p50, "
        "percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95 FROM execution_logs"
    )
    for dimension in ("step", "agent"):
        (found,) = [each for each in statistics if each.dimension == dimension]
        assert found.timed == 300
        assert found.p50_ms == pytest.approx(expected["p50"])
        assert found.p95_ms == pytest.approx(expected["p95"])


async def finished(runner: Runner, job: Job) -> Result:
    """The end of a job by hand, after as many ticks as it takes on this machine."""
    while (result := await runner.run(job, is_by_hand=True)).outcome == "unfinished":
        pass
    return result


async def test_a_hosts_own_table(postgres_url: str) -> None:
    """Short texts as ids, an enum, local time without zone, and no index on it: all jobs do their work."""
    async with PostgresqlSite(postgres_url, time_zone="Asia/Shanghai", retention_days=90) as site:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(
            "CREATE TYPE level AS ENUM ('INFO', 'ERROR');"
            "CREATE TABLE execution_logs (id varchar(36) PRIMARY KEY, task_id varchar(36) NOT NULL, "
            "level level NOT NULL, category varchar(50) NOT NULL, message text, step varchar(20), "
            "details json, duration_ms numeric, created_at timestamp NOT NULL)"
        )
        await connection.execute(
            "INSERT INTO execution_logs SELECT CAST(n AS text), 't', 'ERROR', 'agent', 'm', 's', NULL, n, "
            "now() AT TIME ZONE 'Asia/Shanghai' - n * interval '1 day' FROM generate_series(0, 99) AS n"
        )
        await connection.close()
        await upgrade(site.engine, site.settings)
        runner = Runner(site.engine, site.settings)
        for each in (STATISTICS, RETENTION):
            result = await finished(runner, each)
            assert (result.outcome, result.run.error) == ("succeeded", None)
        assert result.run.summary["entries"] == 10
        assert "CREATE INDEX" in result.run.summary["advice"]
        (found,) = await site.rows(
            "SELECT sum(entries) AS entries, sum(errors) AS errors, max(p50_ms) AS p50 "
            "FROM execution_log_statistics WHERE dimension = 'step'"
        )
        assert (found["entries"], found["errors"], found["p50"]) == (15, 15, 15.0)


async def test_a_partitioned_table(postgres_url: str) -> None:
    """Rows go from whichever partition they are in; the partitions stay."""
    connection = await asyncpg.connect(postgres_url)
    for script in (CREATE, ADD_MONTH):
        await connection.execute(script)
    await connection.close()
    async with PostgresqlSite(postgres_url) as site:
        await upgrade(site.engine, site.settings)
        times = (
            "2026-06-15T10:00:00Z",
            "2026-12-15T10:00:00Z",
            "2026-12-16T10:00:00Z",
            "2027-01-15T10:00:00Z",
        )
        await site.write(*(encoded(created_at=at) for at in times))
        deletion = await Expiry(site.engine, site.settings, datetime(2026, 12, 16, tzinfo=UTC)).entries()
        assert sum([deleted async for deleted in deletion.chunks()]) == 2
        async with site.engine.connect() as own:
            assert await table_size(own, site.settings) > 0
        left = await site.rows("SELECT created_at FROM execution_logs ORDER BY created_at")
        assert [f"{row['created_at']:%m-%d}" for row in left] == ["12-16", "01-15"]


async def test_a_right_that_is_missing_is_named(site: PostgresqlSite) -> None:
    """A worker whose user may only insert: the job fails with the database's words."""
    fill(site.url, 10, timedelta(days=100))
    await site.rows("CREATE ROLE writer LOGIN")
    try:
        await site.rows("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO writer")
        async with PostgresqlSite(site.url.replace("postgres@", "writer@")) as other:
            runner = Runner(other.engine, other.settings)
            result = await runner.run(RETENTION, is_by_hand=True)
        assert result.outcome == "failed"
        assert "permission denied for table execution_logs" in str(result.run.error)
    finally:
        await site.rows("DROP OWNED BY writer")
        await site.rows("DROP ROLE writer")
