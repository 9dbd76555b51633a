"""Every fault, for real, and the count afterwards: entries in, rows out, nothing lost, nothing twice."""

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from execution_logger import ExecutionLogger, LogCategory, Settings
from processes import LocalProcess
from rows import count_rows, fetch, messages_in_order, upgrade_database
from servers import PostgresServer, RedisServer
from waiting import wait_until
from workers import CELERY, WorkerProcess

# A killed worker's batch is back after the visibility timeout: ten seconds, so that a test can wait for it.
QUICK = {
    "EXECUTION_LOGGER_VISIBILITY_TIMEOUT_SECONDS": "10",
    "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS": "2",
}

SUPERVISED = (sys.executable, "-m", "execution_logger.cli", "worker")


class Site:
    """A host's logger, its Redis and its PostgreSQL, all to be harmed; the worker is started by the test."""

    def __init__(
        self, redis: RedisServer, postgres: PostgresServer, settings: Settings | None = None
    ) -> None:
        self.redis = redis
        self.postgres = postgres
        self.database_url = postgres.url()
        upgrade_database(self.database_url)
        settings = settings or Settings(broker_url=redis.url(), retry_pause_max_seconds=1.0)
        self.logger = ExecutionLogger(settings)
        self.calls = 0

    def close(self) -> None:
        """End the host's logger, whatever still waits."""
        self.logger.sync.shutdown(1)

    def log(self, count: int) -> None:
        """Make `count` calls, numbered on."""
        for _ in range(count):
            self.logger.sync.info("t", LogCategory.WORKFLOW, str(self.calls))
            self.calls += 1

    def log_batches(self, count: int) -> None:
        """Make calls that fill `count` messages of 50 entries each."""
        for _ in range(count):
            self.log(50)
            assert self.logger.sync.flush(10).complete

    def worker(self, pool: str = "threads", *arguments: str) -> WorkerProcess:
        """A worker as deployments start it, not started yet."""
        environment = {
            "CELERY_BROKER_URL": self.redis.url(),
            "DATABASE_URL": self.database_url,
            "EXECUTION_LOGGER_WORKER_POOL": pool,
            **QUICK,
        }
        return WorkerProcess((*CELERY, *arguments), environment=environment)

    def supervised_worker(self) -> WorkerProcess:
        """The worker that starts again when it dies, as it may when Redis goes away."""
        worker = self.worker()
        worker.command = SUPERVISED
        return worker

    def in_flight(self) -> int:
        """Batches that a worker has taken and not acknowledged."""
        with self.redis.client() as client:
            return int(client.hlen("unacked"))

    def queued(self) -> int:
        """`LLEN logs`."""
        with self.redis.client() as client:
            return int(client.llen("logs"))

    def rows(self) -> int:
        """Rows in the database."""
        return count_rows(self.database_url)

    def dead_letters(self) -> list[str]:
        """The reasons of the dead letters."""
        rows = fetch(self.database_url, "SELECT reason FROM execution_log_dead_letters ORDER BY created_at")
        return [row["reason"] for row in rows]

    def check(self, timeout_seconds: float = 40) -> None:
        """Each call is one row, in the order of the calls, and the accounts agree."""
        report = self.logger.sync.flush(20)
        assert report.complete, str(report)
        wait_until(
            lambda: self.rows() == self.calls, timeout_seconds, message=lambda: f"{self.rows()}/{self.calls}"
        )
        assert messages_in_order(self.database_url, "t") == [str(number) for number in range(self.calls)]
        stats = self.logger.stats()
        assert (stats["accepted"], stats["delivered"], stats["waiting"]) == (self.calls, self.calls, 0)
        assert (stats["dropped"], stats["internal_errors"]) == ({}, 0)
        assert self.dead_letters() == []
        # What a killed worker held comes again, and changes nothing.
        wait_until(lambda: self.queued() + self.in_flight() == 0, timeout_seconds)
        assert self.rows() == self.calls


@pytest.fixture
def site(own_redis_server: RedisServer, own_postgres_server: PostgresServer) -> Iterator[Site]:
    """Everything that can be harmed."""
    with closing(Site(own_redis_server, own_postgres_server)) as site:
        yield site


class TestWorker:
    """The worker is killed, stopped, recycled."""

    @pytest.mark.parametrize("pool", ["threads", "prefork"])
    def test_killed_while_it_writes(self, site: Site, pool: str) -> None:
        """SIGKILL of the whole worker in the middle of its batches: another one stores them, once."""
        with site.worker(pool, "-c", "2") as worker:
            site.log(100)
            assert site.logger.sync.flush(10).complete
            wait_until(lambda: site.rows() == 100)
            site.postgres.pause()
            site.log_batches(5)
            # Both of its threads hold a batch, so that it asks Redis for no more: between taking a
            # message and noting that down, Celery on Redis can lose it.
            wait_until(lambda: site.in_flight() == 2)
            worker.kill()
            site.postgres.resume()
            worker.start()
            site.check()

    def test_a_prefork_child_is_killed(self, site: Site) -> None:
        """SIGKILL of the child only: its batch goes back to the queue at once."""
        with site.worker("prefork", "-c", "1") as worker:
            site.log(10)
            site.logger.sync.flush(10)
            wait_until(lambda: site.rows() == 10)
            site.postgres.pause()
            site.log_batches(3)
            wait_until(lambda: site.in_flight() == 1)
            child = psutil.Process(worker.pid).children()[0]
            child.kill()
            site.postgres.resume()
            site.check()

    @pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
    def test_stopped_while_the_database_is_away(self, site: Site, pool: str) -> None:
        """SIGTERM in an outage: the worker gives its batches back and ends; the next one writes them."""
        with site.worker(pool, "-c", "2") as worker:
            site.postgres.stop()
            site.log(200)
            assert site.logger.sync.flush(10).complete
            wait_until(lambda: site.in_flight() > 0)
            worker.stop()
            wait_until(lambda: site.in_flight() == 0)
            assert site.queued() > 0
            site.postgres.start()
            worker.start()
            site.check()

    def test_recycled_children_lose_nothing(self, site: Site) -> None:
        """A prefork worker that replaces its children after three batches each."""
        with site.worker("prefork", "-c", "2", "--max-tasks-per-child", "3"):
            site.log_batches(40)
            site.check()


class TestDatabase:
    """PostgreSQL goes away in every way, and comes back."""

    @pytest.mark.parametrize("harm", ["stop", "kill", "pause"])
    def test_away_and_back(self, site: Site, harm: str) -> None:
        """Batches wait in the broker's queue, where operators see them, and land when it is back."""
        with site.worker() as worker:
            site.log(100)
            site.logger.sync.flush(10)
            wait_until(lambda: site.rows() == 100)
            getattr(site.postgres, harm)()
            site.log_batches(20)
            assert site.queued() + site.in_flight() == 20
            wait_until(lambda: "batches wait in the queue" in worker.output, 30)
            (site.postgres.resume if harm == "pause" else site.postgres.start)()
            site.check()

    def test_read_only_and_back(self, site: Site) -> None:
        """A standby that was not promoted yet refuses rows: they wait."""
        with site.worker() as worker:
            site.postgres.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            site.postgres.execute("SELECT pg_reload_conf()")
            site.log(100)
            site.logger.sync.flush(10)
            wait_until(lambda: "batches wait in the queue" in worker.output, 30)
            site.postgres.stop()
            (site.postgres.folder / "data" / "postgresql.auto.conf").write_text("")
            site.postgres.start()
            site.check()

    def test_no_table_yet(self, site: Site) -> None:
        """A worker that was started before the migration says what to do, and loses nothing."""
        site.postgres.execute("ALTER TABLE execution_logs RENAME TO away")
        with site.worker() as worker:
            site.log(100)
            site.logger.sync.flush(10)
            wait_until(lambda: "execution-logger db upgrade" in worker.output, 30)
            site.postgres.execute("ALTER TABLE away RENAME TO execution_logs")
            site.check()

    def test_locked_for_a_while(self, site: Site) -> None:
        """Somebody's ALTER TABLE holds the table longer than an attempt may last."""
        script = """
            import asyncio, asyncpg, sys
            async def main():
                connection = await asyncpg.connect(sys.argv[1])
                async with connection.transaction():
                    await connection.execute("LOCK TABLE execution_logs IN ACCESS EXCLUSIVE MODE")
                    print("locked", flush=True)
                    await asyncio.Event().wait()
            asyncio.run(main())
        """
        with site.worker() as worker:
            with script_process(site, script, site.database_url) as locker:
                wait_until(lambda: "locked" in locker.output)
                site.log(100)
                site.logger.sync.flush(10)
                wait_until(lambda: "batches wait in the queue" in worker.output, 30)
            site.check()

    def test_one_bad_entry_harms_no_other(self, site: Site) -> None:
        """An entry that the database refuses is a dead letter with its reason; its neighbours are rows."""
        site.postgres.execute("ALTER TABLE execution_logs ADD CHECK (message <> '13')")
        with site.worker():
            site.log(50)
            assert site.logger.sync.flush(10).complete
            wait_until(lambda: site.rows() == 49)
            wait_until(lambda: site.queued() + site.in_flight() == 0)
        assert [
            reason for reason in site.dead_letters() if "check constraint" in reason
        ] == site.dead_letters()
        assert len(site.dead_letters()) == 1
        assert messages_in_order(site.database_url, "t") == [str(n) for n in range(50) if n != 13]


class TestRedis:
    """Redis goes away in every way, and comes back."""

    @pytest.mark.parametrize("harm", ["stop", "kill", "pause"])
    def test_away_and_back(self, site: Site, harm: str) -> None:
        """Calls cost what they always cost, entries are kept in order, and land when it is back."""
        with site.supervised_worker():
            site.log_batches(2)
            # Nothing is under way: what a worker is being handed when Redis dies, Celery on Redis can lose.
            wait_until(lambda: site.rows() == 100 and site.queued() + site.in_flight() == 0)
            getattr(site.redis, harm)()
            slowest = 0.0
            for _ in range(1000):
                began = time.perf_counter()
                site.log(1)
                slowest = max(slowest, time.perf_counter() - began)
            assert slowest < 0.5
            report = site.logger.sync.flush(1.5)
            assert not report.complete
            assert report.elapsed_seconds < 2.5
            assert report.last_error is not None
            (site.redis.resume if harm == "pause" else site.redis.start)()
            site.check()

    def test_restarted_again_and_again_while_logging(self, site: Site) -> None:
        """Ten kills of a Redis with AOF during a stream of calls, most of them while batches are sent."""
        for _ in range(10):
            site.log(300)
            site.redis.kill()
            site.log(300)
            site.redis.start()
        with site.supervised_worker():
            site.check()

    def test_full(self, own_postgres_server: PostgresServer) -> None:
        """At `maxmemory` with `noeviction` entries are held back, and sent when there is room again."""
        server = RedisServer(maxmemory="4mb", maxmemory_policy="noeviction", appendonly="no")
        with server as redis, closing(Site(redis, own_postgres_server)) as site:
            while site.logger.stats()["last_error"] is None:
                site.log(500)
                site.logger.sync.flush(0.5)
            assert "maxmemory" in site.logger.stats()["last_error"]
            # As an operator would: a worker that starts on a full Redis cannot declare its queue.
            with redis.client() as client:
                client.config_set("maxmemory", "0")
            with site.supervised_worker():
                site.check()

    def test_over_the_queues_limit(
        self, own_redis_server: RedisServer, own_postgres_server: PostgresServer
    ) -> None:
        """Five batches are the limit: the sixth waits in the host, and the error names the queue."""
        settings = Settings(
            broker_url=own_redis_server.url(), queue_max_messages=5, retry_pause_max_seconds=0.5
        )
        with closing(Site(own_redis_server, own_postgres_server, settings)) as site:
            for _ in range(40):
                site.log(50)
                site.logger.sync.flush(0.1)
            assert "queue 'logs' holds" in site.logger.stats()["last_error"]
            assert site.logger.stats()["waiting"] > 0
            with site.supervised_worker():
                site.check()


class TestHost:
    """The host process ends, stops and forks."""

    def test_its_end_is_not_held_up_by_a_broker_that_hangs(self, site: Site) -> None:
        """With Redis stopped, a script ends within its shutdown timeout and says what is lost."""
        site.redis.pause()
        script = """
            from execution_logger import execution_logger
            for number in range(120):
                execution_logger.sync.info("t", "workflow", str(number))
        """
        began = time.monotonic()
        with script_process(
            site, script, environment={"EXECUTION_LOGGER_SHUTDOWN_TIMEOUT_SECONDS": "2"}
        ) as host:
            assert host.wait(15) == 0
            assert time.monotonic() - began < 10
            assert "120 waiting" in host.output
        site.redis.resume()

    def test_it_was_stopped_and_continued(self, site: Site) -> None:
        """SIGSTOP longer than every timeout, then SIGCONT: the entries of before and after are rows."""
        script = """
            import signal
            from execution_logger import execution_logger
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
            for number in range(60):
                execution_logger.sync.info("t", "workflow", str(number))
            print("logged", flush=True)
            signal.sigwait({signal.SIGUSR1})
            for number in range(60, 120):
                execution_logger.sync.info("t", "workflow", str(number))
        """
        with site.worker(), script_process(site, script) as host:
            wait_until(lambda: "logged" in host.output)
            host.pause()
            site.redis.restart()
            host.resume()
            host.send_signal(signal.SIGUSR1)
            assert host.wait(20) == 0
            wait_until(lambda: site.rows() == 120)
        assert messages_in_order(site.database_url, "t") == [str(number) for number in range(120)]

    def test_it_forks_while_its_threads_log(self, site: Site) -> None:
        """Twenty forks with the parent's locks in use: no child hangs, nothing is lost or doubled."""
        script = """
            import os, threading
            from execution_logger import execution_logger
            log = execution_logger.sync
            stop = threading.Event()
            counts = [0] * 4
            def stream(number):
                while not stop.is_set():
                    log.info(f"thread-{number}", "workflow", str(counts[number]))
                    counts[number] += 1
                    stop.wait(0.0005)
            threads = [threading.Thread(target=stream, args=(n,)) for n in range(4)]
            for each in threads: each.start()
            for number in range(20):
                log.info("parent", "workflow", str(number))
                pid = os.fork()
                if pid == 0:
                    log.info("child", "workflow", str(number))
                    report = log.flush(10)
                    os._exit(0 if report.complete else 1)
                assert os.waitpid(pid, 0)[1] == 0, number
            stop.set()
            for each in threads: each.join()
            assert log.flush(10).complete
            print("calls", sum(counts) + 40)
        """
        with site.worker(), script_process(site, script) as host:
            assert host.wait(50) == 0, host.output
            calls = int(host.output.rsplit("calls ", 1)[1])
            wait_until(lambda: site.rows() == calls, 30, message=lambda: f"{site.rows()} of {calls}")
            wait_until(lambda: site.queued() + site.in_flight() == 0)
        assert site.rows() == calls
        numbers = [str(number) for number in range(20)]
        assert messages_in_order(site.database_url, "parent") == numbers
        assert messages_in_order(site.database_url, "child") == numbers

    async def test_flush_in_a_loop_keeps_the_loop_turning(self, site: Site) -> None:
        """While a flush waits for a Redis that hangs, other coroutines run, and the flush ends in time."""
        site.log(100)
        site.redis.pause()
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        turning = asyncio.create_task(turn())
        began = time.monotonic()
        report = await site.logger.flush(1.0)
        assert time.monotonic() - began < 1.5
        assert turns > 50
        assert report.waiting == 100
        turning.cancel()
        site.redis.resume()


@contextmanager
def script_process(
    site: Site, script: str, *arguments: str, environment: dict[str, str] | None = None
) -> Iterator[LocalProcess]:
    """A host's script in a process of its own, killed at the end of the block when it still runs."""
    folder = site.redis.folder
    file = folder / f"script-{len(list(folder.glob('script-*')))}.py"
    file.write_text(textwrap.dedent(script))
    process = LocalProcess(
        [sys.executable, str(file), *arguments],
        output=Path(f"{file}.txt"),
        environment={**os.environ, "CELERY_BROKER_URL": site.redis.url(), **(environment or {})},
        folder=folder,
    )
    try:
        yield process
    finally:
        process.kill()
