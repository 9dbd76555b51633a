"""The whole path, with nothing replaced: calls in a host, Redis, a Celery worker, rows in PostgreSQL."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from doubles import DEADLINE_SECONDS
from execution_logger import ExecutionLogger, LogCategory, LogLevel, Settings
from execution_logger.store import ExecutionLogRepository, create_engine
from rows import count_rows, fetch, messages_in_order
from servers import PostgresServer, RedisServer
from waiting import wait_until
from workers import CELERY, DOCUMENTED, WorkerProcess

RunHost = Callable[[str, dict[str, str]], str]

POOLS = [("threads", "4"), ("prefork", "2"), ("solo", "1")]


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """A server of this file's own: a worker stands by that would take what other tests send."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def standing(
    redis_server: RedisServer, postgres_server: PostgresServer, template: str
) -> Iterator[WorkerProcess]:
    """A worker as deployments start it, for all tests that do it no harm."""
    database_url = postgres_server.url(postgres_server.create_database(template))
    environment = {"CELERY_BROKER_URL": redis_server.url(), "DATABASE_URL": database_url}
    with WorkerProcess(DOCUMENTED, environment=environment) as worker:
        yield worker


@pytest.fixture
def worker(redis_url: str, standing: WorkerProcess) -> WorkerProcess:
    """That worker, on an empty queue and empty tables."""
    fetch(standing.environment["DATABASE_URL"], "TRUNCATE execution_logs, execution_log_batches")
    return standing


@pytest.fixture
def redis_url(request: pytest.FixtureRequest, redis_server: RedisServer) -> str:
    """The URL of an empty Redis: that of the worker, where the test has asked for it."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url(0 if "worker" in request.fixturenames else 1)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, database_url: str) -> str:
    """The URL of a database with empty tables: that of the worker, where the test has asked for it."""
    if "worker" not in request.fixturenames:
        return database_url
    worker: WorkerProcess = request.getfixturevalue("worker")
    return worker.environment["DATABASE_URL"]


@pytest.fixture
def environment(redis_url: str, database_url: str) -> dict[str, str]:
    """What a deployment sets, for the worker."""
    return {"CELERY_BROKER_URL": redis_url, "DATABASE_URL": database_url}


@pytest.fixture
async def logger(redis_url: str) -> AsyncIterator[ExecutionLogger]:
    """A host's logger; what it could not deliver within its shutdown fails the test."""
    logger = ExecutionLogger(Settings(broker_url=redis_url))
    yield logger
    report = await logger.shutdown()
    assert report.complete, str(report)


@pytest.fixture
def run_host(tmp_path: Path) -> "RunHost":
    """Runs a host's script in a process of its own, under an environment, and returns what it printed."""

    def run(script: str, environment: dict[str, str]) -> str:
        file = tmp_path / "host.py"
        file.write_text(textwrap.dedent(script))
        done = subprocess.run(
            [sys.executable, file],
            env={**os.environ, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


class TestThePath:
    """From calls to rows."""

    async def test_each_call_is_a_row_with_what_was_passed(
        self, logger: ExecutionLogger, worker: WorkerProcess, database_url: str
    ) -> None:
        """Every method of the contract stores its level, category, texts, details and duration."""
        before = datetime.now(UTC)
        entries = [
            await logger.log(
                "t", LogLevel.DEBUG, LogCategory.DATABASE, "log", "s", "a", "r", "c", {"k": [1]}, 5
            ),
            await logger.debug("t", LogCategory.API, "debug"),
            await logger.info("t", "a category of the host's own", "信息"),
            await logger.warning("t", LogCategory.WORKFLOW, "warning", step="s"),
            await logger.error("t", LogCategory.WORKFLOW, "error", agent_name="a"),
            await logger.log_error("t", LogCategory.WORKFLOW, "log_error", details={"n": 1.5}),
            await logger.log_workflow_start("t", "s", "start", roadmap_id="r"),
            await logger.log_workflow_complete("t", "s", "complete", 7),
            await logger.log_agent_start("t", "a", "start", concept_id="c"),
            await logger.log_agent_complete("t", "a", "complete", duration_ms=1500),
            await logger.log_agent_error("t", "a", "failed", "the error"),
            await logger.log_tool_call("t", "a", "search", "called", details={"q": "x"}),
            await logger.log_retry_start("t", "retry"),
            await logger.log_retry_complete("t", "retried", 9),
        ]
        assert (await logger.flush(DEADLINE_SECONDS)).complete
        wait_until(lambda: count_rows(database_url) == len(entries))
        rows = fetch(database_url, "SELECT * FROM execution_logs ORDER BY created_at, id")
        for entry, row in zip(entries, rows, strict=True):
            assert str(row.pop("id")) == entry.id
            assert before <= row["created_at"] <= datetime.now(UTC)
            assert row == {name: getattr(entry, name) for name in row}

    async def test_runs_at_the_same_time_keep_their_order(
        self, logger: ExecutionLogger, worker: WorkerProcess, database_url: str
    ) -> None:
        """Thirty workflows of 120 calls each: all rows, each run in the order of its calls."""

        async def run(number: int) -> None:
            for step in range(120):
                await logger.info(f"run-{number}", LogCategory.WORKFLOW, str(step))
                if step % 10 == number % 10:
                    await asyncio.sleep(0)

        await asyncio.gather(*(run(number) for number in range(30)))
        assert (await logger.flush(DEADLINE_SECONDS)).complete
        wait_until(lambda: count_rows(database_url) == 30 * 120)
        for number in range(30):
            assert messages_in_order(database_url, f"run-{number}") == [str(step) for step in range(120)]

    async def test_one_call_arrives_by_itself(
        self, logger: ExecutionLogger, worker: WorkerProcess, database_url: str
    ) -> None:
        """No flush and no further call: two seconds later the row is there, and not much later."""
        await logger.info("t", LogCategory.WORKFLOW, "alone")
        began = time.monotonic()
        wait_until(lambda: count_rows(database_url) == 1)
        assert 1.5 < time.monotonic() - began < 5

    @pytest.mark.parametrize(("pool", "concurrency"), POOLS)
    async def test_every_pool_writes(
        self,
        logger: ExecutionLogger,
        environment: dict[str, str],
        database_url: str,
        pool: str,
        concurrency: str,
    ) -> None:
        """All rows arrive and the worker ends within seconds of SIGTERM, its connections closed."""
        # Celery takes `-P prefork` for its own default, and prefers what the application has configured.
        environment["EXECUTION_LOGGER_WORKER_POOL"] = pool
        with WorkerProcess((*CELERY, "-c", concurrency), environment=environment) as worker:
            for number in range(2000):
                await logger.info("t", LogCategory.WORKFLOW, str(number))
            assert (await logger.flush(DEADLINE_SECONDS)).complete
            wait_until(lambda: count_rows(database_url) == 2000)
            assert store_connections(database_url) <= int(concurrency)
            worker.stop()
        assert messages_in_order(database_url, "t") == [str(number) for number in range(2000)]
        wait_until(lambda: store_connections(database_url) == 0)

    async def test_the_repository_reads_what_the_worker_wrote(
        self, logger: ExecutionLogger, worker: WorkerProcess, database_url: str
    ) -> None:
        """A run's entries come back as they were returned by their calls, newest first."""
        from sqlalchemy.ext.asyncio import AsyncSession  # noqa: PLC0415

        entries = [await logger.info("t", LogCategory.AGENT, str(n), duration_ms=n) for n in range(3)]
        await logger.flush()
        wait_until(lambda: count_rows(database_url) == 3)
        engine = create_engine(Settings(database_url=database_url), pool_size=1)
        async with AsyncSession(engine) as session:
            repository = ExecutionLogRepository(session)
            assert await repository.list_by_trace("t") == entries[::-1]
            assert (await repository.get_logs_summary("t"))["total_logs"] == 3
        await engine.dispose()


class TestOperating:
    """What operators look at."""

    async def test_the_queue_grows_without_a_worker_and_empties_with_one(
        self, logger: ExecutionLogger, environment: dict[str, str], redis_url: str, database_url: str
    ) -> None:
        """`LLEN logs` counts the batches that wait."""
        for number in range(500):
            await logger.info("t", LogCategory.WORKFLOW, str(number))
        assert (await logger.flush(DEADLINE_SECONDS)).complete
        with redis.Redis.from_url(redis_url) as client:
            assert 1 <= client.llen("logs") <= 10
            with WorkerProcess(environment=environment):
                wait_until(lambda: count_rows(database_url) == 500)
            assert (client.llen("logs"), client.hlen("logs.unacked")) == (0, 0)

    async def test_inspect_active_shows_the_batch_that_is_being_written(
        self, logger: ExecutionLogger, worker: WorkerProcess, database_url: str
    ) -> None:
        """`celery -A tasks inspect active` names the task while a lock holds the table."""
        import asyncpg  # noqa: PLC0415

        connection = await asyncpg.connect(database_url)
        async with connection.transaction():
            await connection.execute("LOCK TABLE execution_logs IN EXCLUSIVE MODE")
            await logger.info("t", LogCategory.WORKFLOW, "waits for the lock")
            await logger.flush()
            wait_until(lambda: "execution_logger.write_batch" in inspect_active(worker))
        await connection.close()
        wait_until(lambda: count_rows(database_url) == 1)

    async def test_messages_and_worker_output_hold_no_credentials(
        self, logger: ExecutionLogger, redis_url: str, database_url: str
    ) -> None:
        """Neither Redis's nor PostgreSQL's password is in a message or in what the worker prints."""
        await logger.info("t", LogCategory.WORKFLOW, "m", details={"password": "s3cret-value"})
        await logger.flush()
        with redis.Redis.from_url(redis_url) as client:
            message = str(client.lindex("logs", 0))
        broker = redis_url.replace("://", "://default:s3cret-value@")
        database = database_url.replace("postgres@", "postgres:s3cret-value@")
        with WorkerProcess(environment={"CELERY_BROKER_URL": redis_url, "DATABASE_URL": database}) as worker:
            wait_until(lambda: count_rows(database_url) == 1)
            worker.stop()
            assert "s3cret-value" not in worker.output + message + broker.partition("@")[2]


class TestHosts:
    """The kinds of hosts there are."""

    def test_a_script_without_a_loop_delivers_at_its_end(
        self, run_host: RunHost, worker: WorkerProcess, redis_url: str, database_url: str
    ) -> None:
        """The sync calls, no flush: the entries are delivered while the interpreter exits."""
        run_host(
            """
            from execution_logger import execution_logger
            for number in range(120):
                execution_logger.sync.info("t", "workflow", str(number))
            """,
            {"CELERY_BROKER_URL": redis_url},
        )
        wait_until(lambda: count_rows(database_url) == 120)
        assert messages_in_order(database_url, "t") == [str(number) for number in range(120)]

    @pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
    def test_a_host_without_celery_writes_itself(
        self, run_host: RunHost, kind: str, postgres_url: str, tmp_path: Path
    ) -> None:
        """`CELERY_ENABLED=false`: the same calls, one connection, and nothing of Celery imported."""
        url = postgres_url if kind == "postgresql" else f"sqlite:///{tmp_path / 'logs.db'}"
        output = run_host(
            """
            import asyncio, os, sys
            from execution_logger import execution_logger
            from execution_logger.settings import Settings
            from execution_logger.store import create_engine, migrate

            async def main():
                settings = Settings.from_environment()
                engine = create_engine(settings, pool_size=1)
                await migrate.upgrade(engine, settings)
                for number in range(120):
                    await execution_logger.info("t", "workflow", str(number))
                print(await execution_logger.flush())
                await execution_logger.info("t", "workflow", "last, delivered at exit")
                from sqlalchemy import text
                async with engine.connect() as connection:
                    print((await connection.execute(text("SELECT count(*) FROM execution_logs"))).scalar())
                await engine.dispose()
                print("celery" in sys.modules)

            asyncio.run(main())
            """,
            {"CELERY_ENABLED": "false", "DATABASE_URL": url},
        )
        lines = output.split("\n")
        assert lines[0].startswith("120 delivered, 0 waiting")
        assert lines[1:3] == ["120", "False"]
        if kind == "postgresql":
            assert messages_in_order(url, "t")[-1] == "last, delivered at exit"

    def test_a_script_that_ends_at_once_writes_itself_by_host_name(
        self, run_host: RunHost, database_url: str
    ) -> None:
        """The first connection is opened while the interpreter exits, when executors are closed."""
        run_host(
            """
            from execution_logger import execution_logger
            execution_logger.sync.info("t", "workflow", "only one")
            """,
            {"CELERY_ENABLED": "false", "DATABASE_URL": database_url.replace("127.0.0.1", "localhost")},
        )
        assert messages_in_order(database_url, "t") == ["only one"]

    def test_forked_and_spawned_children_deliver_their_own(
        self, run_host: RunHost, worker: WorkerProcess, redis_url: str, database_url: str
    ) -> None:
        """Children end in os._exit, without atexit: their entries arrive, and the parent's once."""
        run_host(
            """
            import multiprocessing, os, sys
            from execution_logger import execution_logger

            def child(number):
                for step in range(30):
                    execution_logger.sync.info(f"child-{number}", "workflow", str(step))

            if __name__ == "__main__":
                execution_logger.sync.info("parent", "workflow", "before the forks")
                for method in ("fork", "spawn"):
                    context = multiprocessing.get_context(method)
                    children = [context.Process(target=child, args=(f"{method}-{n}",)) for n in range(2)]
                    for each in children: each.start()
                    for each in children: each.join()
                    assert [each.exitcode for each in children] == [0, 0]
                execution_logger.sync.info("parent", "workflow", "after")
            """,
            {"CELERY_BROKER_URL": redis_url},
        )
        wait_until(lambda: count_rows(database_url) == 4 * 30 + 2)
        assert messages_in_order(database_url, "parent") == ["before the forks", "after"]

    def test_tasks_of_the_hosts_own_celery_worker_log(
        self, worker: WorkerProcess, redis_url: str, environment: dict[str, str], database_url: str
    ) -> None:
        """Prefork children with a loop per task: recycled after five tasks, they lose nothing."""
        celery = (sys.executable, "-m", "celery", "-A", "host_tasks")
        options = ("-Q", "host", "-P", "prefork", "-c", "2", "--max-tasks-per-child", "5", "-l", "INFO")
        host = WorkerProcess((*celery, "worker", *options), environment=environment)
        (host.folder / "host_tasks.py").write_text(
            textwrap.dedent("""
            import asyncio, os
            from celery import Celery
            from execution_logger import execution_logger
            app = Celery("host", broker=os.environ["CELERY_BROKER_URL"])
            app.conf.task_default_queue = "host"

            @app.task
            def work(number):
                asyncio.run(steps(number))

            async def steps(number):
                for step in range(7):
                    await execution_logger.log_agent_start(f"work-{number}", "agent", str(step))
            """)
        )
        with host:
            from celery import Celery  # noqa: PLC0415

            app = Celery(broker=redis_url, set_as_current=False)
            with app.connection_for_write(redis_url) as connection, app.amqp.Producer(connection) as producer:
                for number in range(20):
                    app.send_task("host_tasks.work", args=[number], queue="host", producer=producer)
            wait_until(lambda: host.output.count("succeeded") == 20, 30)
            host.stop()
            wait_until(lambda: count_rows(database_url) == 140, message=lambda: str(count_rows(database_url)))
        assert all(messages_in_order(database_url, f"work-{n}") == list("0123456") for n in range(20))

    async def test_threads_with_loops_of_their_own_share_one_logger(
        self, logger: ExecutionLogger, worker: WorkerProcess, database_url: str
    ) -> None:
        """Eight threads, each with its own event loop, log and flush at the same time."""

        def thread(number: int) -> None:
            async def calls() -> None:
                for step in range(100):
                    await logger.info(f"thread-{number}", LogCategory.API, str(step))
                assert (await logger.flush(DEADLINE_SECONDS)).complete

            asyncio.run(calls())

        threads = [threading.Thread(target=thread, args=(number,)) for number in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        wait_until(lambda: count_rows(database_url) == 800)
        for number in range(8):
            assert messages_in_order(database_url, f"thread-{number}") == [str(step) for step in range(100)]


@pytest.mark.slow
class TestCeleryPerformance:
    """Amounts of entries, counted; the figures are printed, and benchmarks/ measures them properly."""

    async def test_twenty_thousand_entries_arrive_over_few_connections(
        self, logger: ExecutionLogger, worker: WorkerProcess, database_url: str
    ) -> None:
        """Every entry is one row, and PostgreSQL never sees more connections than the pool has."""
        most_connections = 0
        began = time.perf_counter()
        for number in range(20_000):
            await logger.log_agent_complete("t", "agent", "finished", 1500, details={"number": number})
            if number % 500 == 0:
                await asyncio.sleep(0)
                most_connections = max(most_connections, store_connections(database_url))
        called = time.perf_counter()
        assert (await logger.flush(60)).complete
        wait_until(lambda: count_rows(database_url) == 20_000, 120)
        stored = time.perf_counter()
        assert 1 <= most_connections <= 4
        distinct = fetch(database_url, "SELECT count(DISTINCT details->>'number') AS n FROM execution_logs")
        assert distinct[0]["n"] == 20_000
        print(
            f"calls: {(called - began) / 20_000 * 1e6:.1f} µs each; rows: {20_000 / (stored - began):,.0f}/s"
        )

    async def test_a_busy_event_loop_holds_nothing_back(
        self, logger: ExecutionLogger, worker: WorkerProcess, database_url: str
    ) -> None:
        """Entries are on their way while the loop never rests, and not when it does at last."""

        async def log(count: int) -> None:
            for _ in range(count):
                await logger.info("t", LogCategory.WORKFLOW, "step")
                await asyncio.sleep(0)

        await log(50)
        assert (await logger.flush(30)).complete
        await asyncio.gather(*(log(300) for _ in range(100)))
        waiting = logger.stats()["waiting"]
        assert (await logger.flush(60)).complete
        wait_until(lambda: count_rows(database_url) == 30_050, 60)
        assert waiting < 15_000

    async def test_a_call_waits_for_nothing_while_redis_is_away(self) -> None:
        """With a broker that refuses, the slowest of 20,000 calls takes less than an attempt's second."""
        logger = ExecutionLogger(Settings(broker_url="redis://127.0.0.1:1/0", buffer_max_entries=50_000))
        slowest = 0.0
        for number in range(20_000):
            began = time.perf_counter()
            await logger.info("t", LogCategory.API, str(number))
            slowest = max(slowest, time.perf_counter() - began)
        report = await logger.shutdown(0.5)
        assert (report.waiting, report.dropped) == (20_000, {})
        assert slowest < 0.9
        print(f"slowest call: {slowest * 1e3:.1f} ms")


def store_connections(url: str) -> int:
    """How many connections of the library the database has."""
    statement = """
        SELECT count(*) AS n FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'execution_logger'
    """
    return int(fetch(url, statement)[0]["n"])


def inspect_active(worker: WorkerProcess) -> str:
    """What `celery -A tasks inspect active` prints."""
    command = [sys.executable, "-m", "celery", "-A", "tasks", "inspect", "active", "--json"]
    done = subprocess.run(
        command,
        env=worker.environment,
        cwd=worker.folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return json.dumps(_last_json(done.stdout))


def _last_json(text: str) -> Any:
    lines = [line for line in text.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else None
