"""Faults as a host sees them: what calls cost, what flush() tells, and whether the accounts agree."""

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from execution_logger import Settings
from integration.faults.in_process import InProcessSite
from integration.faults.test_redis import SLOWEST_CALL_SECONDS
from processes import LocalProcess
from rows import messages_in_order
from servers import PostgresServer, RedisServer
from waiting import wait_until


@pytest.fixture
def site(own_redis_server: RedisServer, own_postgres_server: PostgresServer) -> Iterator[InProcessSite]:
    """Everything that can be harmed."""
    with closing(InProcessSite(own_redis_server, own_postgres_server)) as site:
        yield site


class TestWorker:
    """A worker of each pool is stopped."""

    @pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
    def test_stopped_while_the_database_is_away(self, site: InProcessSite, pool: str) -> None:
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


class TestDatabase:
    """PostgreSQL refuses rows."""

    def test_no_table_yet(self, site: InProcessSite) -> None:
        """A worker that was started before the migration says what to do, and loses nothing."""
        site.postgres.execute("ALTER TABLE execution_logs RENAME TO away")
        with site.worker() as worker:
            site.log(100)
            site.logger.sync.flush(10)
            wait_until(lambda: "execution-logger db upgrade" in worker.output, 30)
            site.postgres.execute("ALTER TABLE away RENAME TO execution_logs")
            site.check()

    def test_one_bad_entry_harms_no_other(self, site: InProcessSite) -> None:
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
    """Redis goes away, or takes no more."""

    @pytest.mark.parametrize("harm", [pytest.param("stop", marks=pytest.mark.long), "kill", "pause"])
    def test_away_and_back(self, site: InProcessSite, harm: str) -> None:
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
            assert slowest < SLOWEST_CALL_SECONDS
            report = site.logger.sync.flush(1.5)
            assert not report.complete
            assert report.elapsed_seconds < 2.5
            assert report.last_error is not None
            (site.redis.resume if harm == "pause" else site.redis.start)()
            site.check()

    def test_restarted_again_and_again_while_logging(self, site: InProcessSite) -> None:
        """Ten kills of a Redis with AOF during a stream of calls, most of them while batches are sent."""
        for _ in range(10):
            site.log(300)
            site.redis.kill()
            site.log(300)
            site.redis.start()
        with site.supervised_worker():
            site.check()

    def test_over_the_queues_limit(
        self, own_redis_server: RedisServer, own_postgres_server: PostgresServer
    ) -> None:
        """Five batches are the limit: the sixth waits in the host, and the error names the queue."""
        settings = Settings(
            broker_url=own_redis_server.url(), queue_max_messages=5, retry_pause_max_seconds=0.5
        )
        with closing(InProcessSite(own_redis_server, own_postgres_server, settings)) as site:
            for _ in range(40):
                site.log(50)
                site.logger.sync.flush(0.1)
            assert "queue 'logs' holds" in site.logger.stats()["last_error"]
            assert site.logger.stats()["waiting"] > 0
            with site.supervised_worker():
                site.check()


class TestHost:
    """The host process ends, stops and forks."""

    def test_its_end_is_not_held_up_by_a_broker_that_hangs(self, site: InProcessSite) -> None:
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

    def test_it_was_stopped_and_continued(self, site: InProcessSite) -> None:
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

    def test_it_forks_while_its_threads_log(self, site: InProcessSite) -> None:
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

    async def test_flush_in_a_loop_keeps_the_loop_turning(self, site: InProcessSite) -> None:
        """While a flush waits for a Redis that hangs, other coroutines run as ever, and it ends in time."""
        site.redis.pause()  # before anything can be sent
        site.log(100)
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        turning = asyncio.create_task(turn())
        await asyncio.sleep(1.0)
        as_ever, turns = turns, 0
        began = time.monotonic()
        report = await site.logger.flush(1.0)
        assert time.monotonic() - began < 1.5
        assert turns > as_ever / 2
        assert report.waiting == 100
        turning.cancel()
        site.redis.resume()


@contextmanager
def script_process(
    site: InProcessSite, script: str, *arguments: str, environment: dict[str, str] | None = None
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
