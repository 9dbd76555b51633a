"""The logger: calls from anywhere, flush and shutdown, the hook for applications, and its account."""

import asyncio
import logging
import math
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from children import run_script
from doubles import DEADLINE_SECONDS, BlockedDelivery, interrupted, lines_of
from execution_logger import ExecutionLogger, ExecutionLoggerError, LogLevel, Settings, SettingsError
from execution_logger.delivery.interface import Receipt
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError
from execution_logger.journal.journal import Journal
from execution_logger.shipping import pipeline
from execution_logger.shipping.accounts import Accounts
from execution_logger.shipping.buffer import Buffer
from execution_logger.shipping.pipeline import Pipeline
from execution_logger.shipping.thread import THREAD_NAME, Shipper
from execution_logger.testing import MemoryDelivery
from loops import LOOP_FACTORIES
from waiting import wait_until

MakeLogger = Callable[..., ExecutionLogger]

SHORT_SECONDS = 0.05
MUCH_LATER_SECONDS = 5.0
"""A wait that should have taken `SHORT_SECONDS` and was not cut short takes longer than this."""


def messages(delivery: MemoryDelivery) -> list[str]:
    """Those of the entries that were delivered."""
    return [entry["message"] for entry in delivery.entries]


def threads() -> list[threading.Thread]:
    """Those of all shippers."""
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """Start and stop an application as its server does, by the messages of ASGI's lifespan protocol."""
    incoming, outgoing = asyncio.Queue[dict[str, str]](), asyncio.Queue[dict[str, str]]()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task = asyncio.create_task(app(scope, incoming.get, outgoing.put))
    await incoming.put({"type": "lifespan.startup"})
    assert (await outgoing.get())["type"] == "lifespan.startup.complete"
    yield
    await incoming.put({"type": "lifespan.shutdown"})
    assert (await outgoing.get())["type"] == "lifespan.shutdown.complete"
    await task


class TestCalls:
    """A call works anywhere, and never waits."""

    def test_without_a_loop(self, make_logger: MakeLogger) -> None:
        """The coroutine never suspends: one step makes the entry."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery)
        with pytest.raises(StopIteration) as result:
            logger.info("t", "agent", "hello").send(None)
        logger.sync.flush()
        assert delivery.entries[0]["id"] == result.value.value.id

    @pytest.mark.parametrize("factory", LOOP_FACTORIES)
    def test_in_eight_threads_each_with_its_loops(
        self, make_logger: MakeLogger, factory: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        """A loop per task, as in Celery's children: each thread's entries come once and in order."""
        delivery, barrier = MemoryDelivery(), threading.Barrier(8)
        logger = make_logger(delivery)

        async def log(thread: int, task: int) -> None:
            for number in range(10):
                await logger.info(str(thread), "agent", f"{task * 10 + number:04}")
            await logger.flush(DEADLINE_SECONDS)

        def run(thread: int) -> None:
            barrier.wait(DEADLINE_SECONDS)
            for task in range(5):
                with asyncio.Runner(loop_factory=factory) as runner:
                    runner.run(log(thread, task))

        with ThreadPoolExecutor(8) as pool:
            for each in [pool.submit(run, thread) for thread in range(8)]:
                each.result(DEADLINE_SECONDS)
        for thread in range(8):
            own = [entry["message"] for entry in delivery.entries if entry["task_id"] == str(thread)]
            assert own == [f"{number:04}" for number in range(50)]

    def test_while_the_delivery_hangs(self, make_logger: MakeLogger) -> None:
        """Nothing is waited for: thousands of calls return, and the buffer takes what they record."""
        delivery = BlockedDelivery()
        logger = make_logger(delivery, batch_size=1)
        for _ in range(5000):
            logger.sync.info("t", "agent", "hello")
        delivery.wait_until_entered()
        assert logger.stats()["waiting"] == 5000
        delivery.open()

    def test_within_the_delivery(self, make_logger: MakeLogger) -> None:
        """And flush() there, which would wait for itself."""

        class Logging(MemoryDelivery):
            def deliver(self, batch: Batch) -> Receipt:
                if not self.batches:
                    logger.sync.info("t", "agent", "from within")
                    assert not logger.sync.flush().complete
                    asyncio.run(logger.shutdown())
                return super().deliver(batch)

        delivery = Logging()
        logger = make_logger(delivery)
        logger.sync.info("t", "agent", "hello")
        logger.sync.flush(DEADLINE_SECONDS)
        logger.sync.flush(DEADLINE_SECONDS)
        assert messages(delivery) == ["hello", "from within"]

    def test_within_a_handler_of_the_standard_library(self, make_logger: MakeLogger) -> None:
        """Which passes on what the library says about itself, and flushes: no deadlock, no endless loop."""

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                logger.sync.warning("t", "agent", record.getMessage())
                logger.sync.flush(SHORT_SECONDS)

        delivery = MemoryDelivery()
        delivery.failures = [DeliveryError("the broker is away")]
        logger = make_logger(delivery)
        handler = Handler()
        logging.getLogger("execution_logger").addHandler(handler)
        try:
            logger.sync.info("t", "agent", "hello")
            logger.sync.flush(DEADLINE_SECONDS)
            logger.sync.flush(DEADLINE_SECONDS)
        finally:
            logging.getLogger("execution_logger").removeHandler(handler)
        said = "delivery failed, entries are kept and sent again: the broker is away"
        assert messages(delivery)[:2] == ["hello", said]

    def test_within_a_destructor(self, make_logger: MakeLogger) -> None:
        """The garbage collector calls it in the middle of anything."""

        class Talkative:
            def __del__(self) -> None:
                logger.sync.info("t", "agent", "goodbye")

        delivery = MemoryDelivery()
        logger = make_logger(delivery, batch_size=1)
        for _ in range(100):
            logger.sync.info("t", "agent", "hello", details={"object": Talkative()})
        logger.sync.flush(DEADLINE_SECONDS)
        assert Counter(messages(delivery)) == {"hello": 100, "goodbye": 100}


class TestFirstCall:
    """The pipeline is made when it is needed, once."""

    def test_by_eight_threads_at_once(self) -> None:
        """All of them get the same one: a flush would miss what the others have recorded."""
        switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(20):
                self._log_from_eight_threads()
        finally:
            sys.setswitchinterval(switch_interval)

    def _log_from_eight_threads(self) -> None:
        made: list[MemoryDelivery] = []

        def make() -> MemoryDelivery:
            made.append(MemoryDelivery())
            return made[-1]

        logger, barrier = ExecutionLogger(make_delivery=make), threading.Barrier(8)

        def log() -> None:
            barrier.wait(DEADLINE_SECONDS)
            logger.sync.info("t", "agent", "hello")

        with ThreadPoolExecutor(8) as pool:
            for each in [pool.submit(log) for _ in range(8)]:
                each.result(DEADLINE_SECONDS)
        assert logger.sync.shutdown(DEADLINE_SECONDS).delivered <= 8
        assert logger.stats()["accepted"] == 8
        assert [len(delivery.entries) for delivery in made] == [8]

    def test_interrupted_by_another_first_call(self) -> None:
        """A signal handler that logs before the logger is ready."""
        for line in lines_of(Pipeline.__init__):
            delivery = MemoryDelivery()
            logger = ExecutionLogger(Settings(), make_delivery=lambda: delivery)  # noqa: B023
            by = lambda: logger.sync.info("t", "agent", "first")  # noqa: B023, E731
            with interrupted(Pipeline.__init__, line, by):
                logger.sync.info("t", "agent", "second")
            logger.sync.shutdown(DEADLINE_SECONDS)
            assert messages(delivery) == ["first", "second"], f"line {line}"

    def test_settings_are_read_then(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not at the import: hosts load their environment first."""
        logger = ExecutionLogger(make_delivery=MemoryDelivery)
        monkeypatch.setenv("EXECUTION_LOGGER_BATCH_SIZE", "7")
        assert logger.settings.batch_size == 7
        monkeypatch.setenv("EXECUTION_LOGGER_BATCH_SIZE", "8")
        assert logger.settings.batch_size == 7

    def test_a_wrong_setting_is_an_error_then(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And when the variable is put right, the logger works."""
        monkeypatch.setenv("EXECUTION_LOGGER_BATCH_SIZE", "many")
        logger = ExecutionLogger(make_delivery=MemoryDelivery)
        with pytest.raises(SettingsError, match=r"EXECUTION_LOGGER_BATCH_SIZE='many'"):
            logger.sync.info("t", "agent", "hello")
        monkeypatch.setenv("EXECUTION_LOGGER_BATCH_SIZE", "50")
        logger.sync.info("t", "agent", "hello")
        assert logger.sync.shutdown(DEADLINE_SECONDS).complete

    def test_it_may_be_configured_before(self) -> None:
        """Later is too late, and an error that says so."""
        delivery = MemoryDelivery()
        logger = ExecutionLogger()
        logger.configure(Settings(batch_size=7), make_delivery=lambda: delivery)
        logger.sync.info("t", "agent", "hello")
        with pytest.raises(ExecutionLoggerError, match="before the first call"):
            logger.configure(Settings())
        logger.sync.shutdown(DEADLINE_SECONDS)
        assert (logger.settings.batch_size, messages(delivery)) == (7, ["hello"])


class TestBind:
    """Loggers with fields that are filled in."""

    def test_columns_and_details(self, make_logger: MakeLogger) -> None:
        """What is no column goes into the details; what a call passes itself wins."""
        bound = make_logger().bind(task_id="t", step="s", tenant=1, self="me").bind(agent_name="a", tenant=2)
        entry = bound.sync.info(None, "agent", "hello", agent_name="b", details={"x": 1})
        assert (entry.task_id, entry.step, entry.agent_name) == ("t", "s", "b")
        assert entry.details == {"x": 1, "tenant": 2, "self": "me"}

    def test_the_logger_itself_stays_as_it_is(self, make_logger: MakeLogger) -> None:
        """And both have the same pipeline."""
        logger = make_logger()
        bound = logger.bind(step="s")
        bound.sync.info("t", "agent", "hello")
        assert logger.sync.info("t", "agent", "hello").step is None
        assert logger.stats()["accepted"] == bound.stats()["accepted"] == 2

    def test_one_that_is_bound_before_the_first_call(self, make_logger: MakeLogger) -> None:
        """Whichever of them makes it, it is the first call of both."""
        logger = make_logger()
        logger.bind(step="s").sync.info("t", "agent", "hello")
        assert logger.stats()["accepted"] == 1

    async def test_a_bound_field_wins_over_the_context(self, make_logger: MakeLogger) -> None:
        """The context reaches tasks that are started within it."""
        logger = make_logger()
        with logger.context(step="context", roadmap_id="r"):
            entry = await asyncio.create_task(_log(logger.bind(step="bound")))
        assert (entry.step, entry.roadmap_id) == ("bound", "r")
        assert (await _log(logger)).step is None


class TestFlush:
    """Deliver what was recorded so far, and wait for it."""

    async def test_it_delivers(self, make_logger: MakeLogger) -> None:
        """Long before the timer."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery, flush_interval_seconds=1000.0)
        await logger.info("t", "agent", "hello")
        report = await logger.flush()
        assert (report.complete, report.delivered, messages(delivery)) == (True, 1, ["hello"])

    async def test_the_timeouts_are_settings(self, make_logger: MakeLogger) -> None:
        """Those of the call win; a delivery that hangs costs no more."""
        delivery = BlockedDelivery()
        logger = make_logger(
            delivery,
            batch_size=1,
            flush_timeout_seconds=SHORT_SECONDS,
            shutdown_timeout_seconds=SHORT_SECONDS,
        )
        await logger.info("t", "agent", "hello")
        delivery.wait_until_entered()
        reports = [
            await logger.flush(),
            await logger.shutdown(),
            logger.sync.flush(),
            logger.sync.shutdown(),
            await logger.flush(2 * SHORT_SECONDS),
            logger.sync.shutdown(timeout=2 * SHORT_SECONDS),
        ]
        delivery.open()
        for report, factor in zip(reports, (1, 1, 1, 1, 2, 2), strict=True):
            assert factor * SHORT_SECONDS <= report.elapsed_seconds < MUCH_LATER_SECONDS
            assert (report.complete, report.waiting) == (False, 1)

    async def test_a_shutdown_ends_the_thread_and_a_call_starts_it_again(
        self, make_logger: MakeLogger
    ) -> None:
        """Twice is once."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery)
        for number in (1, 2):
            await logger.info("t", "agent", str(number))
            assert (await logger.shutdown()).complete
            wait_until(lambda: not threads())
            assert (await logger.shutdown()).delivered == 0
        assert messages(delivery) == ["1", "2"]

    async def test_shutdowns_and_calls_at_once(self, make_logger: MakeLogger) -> None:
        """From the loop and from threads: nothing is lost, whoever comes first."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery)

        async def log_and_shut_down(number: int) -> None:
            await logger.info("t", "agent", str(number))
            if number % 2:
                await logger.shutdown(DEADLINE_SECONDS)
            else:
                await asyncio.to_thread(logger.sync.shutdown, DEADLINE_SECONDS)

        await asyncio.gather(*(log_and_shut_down(number) for number in range(40)))
        await logger.shutdown(DEADLINE_SECONDS)
        assert sorted(map(int, messages(delivery))) == list(range(40))
        assert logger.stats()["waiting"] == 0

    @pytest.mark.parametrize("how", ["flush", "shutdown"])
    @pytest.mark.parametrize(
        "function",
        [
            Buffer.put,
            Buffer._put,
            Journal.append,
            Shipper.wake,
            Shipper._start,
            threading.Thread.start,
        ],
        ids=lambda function: function.__qualname__,
    )
    def test_in_a_signal_handler_that_interrupts_a_call(
        self, make_logger: MakeLogger, tmp_path: Path, function: Callable[..., Any], how: str
    ) -> None:
        """At any line: the handler does not wait for what nobody can deliver before it has returned."""
        for line in lines_of(function):
            delivery = MemoryDelivery()
            directory = None if function is Buffer.put else str(tmp_path / str(line))
            logger = make_logger(delivery, batch_size=1, journal_directory=directory)
            reports = []

            def log_and_flush() -> None:
                logger.sync.info("t", "agent", "handler")  # noqa: B023
                reports.append(getattr(logger.sync, how)(MUCH_LATER_SECONDS))  # noqa: B023

            with interrupted(function, line, by=log_and_flush):
                logger.sync.info("t", "agent", "call")
            assert logger.sync.shutdown(DEADLINE_SECONDS).complete
            for report in reports:
                assert report.elapsed_seconds < MUCH_LATER_SECONDS
            assert sorted(messages(delivery)) == ["call", "handler"][: 1 + len(reports)]

    def test_in_a_signal_handler_that_interrupts_the_count_of_drops(self, make_logger: MakeLogger) -> None:
        """The thread tells of drops when it has delivered, and would wait for the call that counts one."""
        for line in lines_of(Accounts.drop):
            delivery = MemoryDelivery()
            logger = make_logger(delivery, buffer_max_entries=1, journal=False)
            logger.sync.info("t", "agent", "taken")
            reports = []

            def flush() -> None:
                reports.append(logger.sync.flush(MUCH_LATER_SECONDS))  # noqa: B023

            with interrupted(Accounts.drop, line, by=flush):
                logger.sync.info("t", "agent", "dropped")
            assert all("interrupted" in str(report.last_error) for report in reports if not report.complete)
            assert all(report.elapsed_seconds < MUCH_LATER_SECONDS for report in reports)
            assert logger.sync.flush(DEADLINE_SECONDS).complete
            assert logger.stats()["dropped"] == {"buffer_full": 1}

    def test_drops_in_a_signal_handler_are_counted(
        self, make_logger: MakeLogger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each of them, and not the call that was interrupted, which was taken."""
        logger = make_logger(
            buffer_max_entries=1,
            journal_directory=str(tmp_path),
            flush_interval_seconds=MUCH_LATER_SECONDS,
        )
        append = Journal.append

        def interrupt(journal: Journal, number: int, encoded: bytes) -> bool:
            monkeypatch.setattr(Journal, "append", lambda *_: False)
            logger.sync.error("t", "agent", "handler")
            logger.sync.critical("t", "agent", "handler")
            return append(journal, number, encoded)

        monkeypatch.setattr(Journal, "append", interrupt)
        logger.sync.info("t", "agent", "call")
        stats = logger.stats()
        assert (stats["accepted"], stats["waiting"]) == (3, 1)
        assert sum(stats["dropped"].values()) == 2
        summary = logger._host.start().accounts.drop_summary()
        assert summary is not None
        assert summary.levels == {"error": 1, "critical": 1}

    def test_a_process_that_goes_on_after_two_shutdowns_adopts_what_others_leave(
        self, make_logger: MakeLogger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While it ends it looks for what its own children have left, and for nothing else."""
        monkeypatch.setattr(pipeline, "may_have_children", lambda: True)
        logger = make_logger(journal_directory=str(tmp_path))
        logger.sync.info("t", "agent", "one")
        for _ in range(2):
            assert logger.sync.shutdown(DEADLINE_SECONDS).complete
        assert not logger._host.start()._sender._adoption._only_children

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RecursionError])
    def test_a_first_call_that_is_broken_off_leaves_no_journal_off(
        self,
        make_logger: MakeLogger,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        error: type[BaseException],
    ) -> None:
        """Where it makes its folder; what comes a moment later is on the disk."""
        logger = make_logger(journal_directory=str(tmp_path), flush_interval_seconds=MUCH_LATER_SECONDS)

        def break_off(*_: object) -> None:
            monkeypatch.undo()
            raise error

        monkeypatch.setattr("execution_logger.journal.journal.make_process_folder", break_off)
        with pytest.raises(error):
            logger.sync.info("t", "agent", "broken off")
        buffer = logger._host.start().buffer
        logger.sync.info("t", "agent", "in memory")
        assert buffer.seconds_until_look_after() < math.inf
        wait_until(lambda: not buffer.journal.is_suspended)
        logger.sync.info("t", "agent", "on the disk")
        assert logger.stats()["journal_bytes"] > 0

    async def test_in_a_signal_handler_while_the_loop_waits_in_flush(self, make_logger: MakeLogger) -> None:
        """As SIGTERM during a shutdown."""
        delivery = BlockedDelivery()
        logger = make_logger(delivery, batch_size=1)
        before = signal.signal(signal.SIGUSR1, lambda *_: reports.append(logger.sync.shutdown(SHORT_SECONDS)))
        reports: list[Any] = []
        try:
            await logger.info("t", "agent", "hello")
            waiting = asyncio.create_task(logger.flush(DEADLINE_SECONDS))
            await asyncio.to_thread(delivery.wait_until_entered)
            signal.raise_signal(signal.SIGUSR1)
            delivery.open()
            assert (await waiting).complete
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert [report.complete for report in reports] == [False]


class TestLifespan:
    """The hook for an application: it checks at the start, and delivers at the end."""

    @pytest.mark.parametrize("framework", [FastAPI, Starlette])
    @pytest.mark.parametrize("factory", LOOP_FACTORIES)
    def test_alone_and_twice(
        self,
        make_logger: MakeLogger,
        framework: Any,
        factory: Callable[[], asyncio.AbstractEventLoop],
    ) -> None:
        """Test suites start and stop an application many times, each time in another loop."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery, flush_interval_seconds=1000.0)
        app = framework(lifespan=logger.lifespan)

        async def run(number: int) -> None:
            async with running(app):
                await logger.info("t", "agent", str(number))
                assert len(threads()) == 1

        for number in (1, 2):
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(run(number))
            assert messages(delivery) == ["1", "2"][:number]
            wait_until(lambda: not threads())

    async def test_inside_the_hosts_own(self, make_logger: MakeLogger) -> None:
        """What the application logs in a request and in its own lifespan is delivered at the end."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery, flush_interval_seconds=1000.0)

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            async with logger.lifespan():
                await logger.info("t", "api", "started")
                yield
                await logger.info("t", "api", "stopped")

        app = FastAPI(lifespan=lifespan)

        @app.get("/")
        async def read() -> str:
            return (await logger.info("t", "api", "requested")).message

        transport = httpx.ASGITransport(app)
        async with running(app), httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            assert (await client.get("/")).json() == "requested"
        assert messages(delivery) == ["started", "requested", "stopped"]
        wait_until(lambda: not threads())

    async def test_an_application_that_fails(self, make_logger: MakeLogger) -> None:
        """The entries that explain it are delivered, and the error goes on."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery, flush_interval_seconds=1000.0)

        async def fail() -> None:
            async with logger.lifespan():
                await logger.error("t", "api", "last words")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert messages(delivery) == ["last words"]

    async def test_the_delivery_is_made_at_the_start(self, make_logger: MakeLogger) -> None:
        """What it imports is no work for the time of the first request."""
        made: list[MemoryDelivery] = []

        def make() -> MemoryDelivery:
            made.append(MemoryDelivery())
            return made[-1]

        async with ExecutionLogger(Settings(), make_delivery=make).lifespan():
            assert len(made) == 1
            assert len(threads()) == 1
        wait_until(lambda: not threads())

    async def test_a_delivery_that_cannot_be_made_stops_nothing(self) -> None:
        """It is said at the start, and tried again with the first batch."""
        failures = [DeliveryError("not yet")]
        delivery = MemoryDelivery()

        def make() -> MemoryDelivery:
            if failures:
                raise failures.pop()
            return delivery

        logger = ExecutionLogger(Settings(), make_delivery=make)
        async with logger.lifespan():
            assert logger.stats()["last_error"] == "not yet"
            await logger.info("t", "agent", "hello")
        assert messages(delivery) == ["hello"]

    async def test_a_wrong_setting_stops_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Before the first request, not with it."""
        monkeypatch.setenv("CELERY_ENABLED", "perhaps")
        with pytest.raises(SettingsError, match="CELERY_ENABLED='perhaps'"):
            async with ExecutionLogger().lifespan():
                pytest.fail("the application has started")


class TestStats:
    """Where the entries are."""

    def test_at_rest(self, make_logger: MakeLogger) -> None:
        """Every number, after a delivery, a failure and a drop."""
        delivery = BlockedDelivery()
        logger = make_logger(delivery, batch_size=1, buffer_max_entries=2)
        for _ in range(3):
            logger.sync.info("t", "agent", "hello")
        delivery.wait_until_entered()
        stats = logger.stats()
        assert (stats["accepted"], stats["delivered"], stats["waiting"]) == (3, 0, 2)
        assert stats["dropped"] == {"buffer_full": 1}
        assert stats["waiting_bytes"] > 2 * len("hello")
        delivery.failures = [DeliveryError("the broker is away")]
        delivery.open()
        logger.sync.flush(DEADLINE_SECONDS)
        stats = logger.stats()
        assert (stats["accepted"], stats["delivered"], stats["waiting"]) == (4, 3, 0), "and the marker"
        assert (stats["failed_attempts"], stats["internal_errors"]) == (1, 0)
        assert (stats["waiting_bytes"], stats["last_error"]) == (0, None)

    def test_while_entries_are_delivered(self, make_logger: MakeLogger) -> None:
        """The account is right in every single answer, and never goes back."""
        logger = make_logger(batch_size=1, max_batch_entries=1, buffer_max_entries=100)
        stop, calls = threading.Event(), 0

        def watch() -> int:
            answers = accepted = 0
            while not stop.is_set():
                stats = logger.stats()
                whole = stats["delivered"] + stats["waiting"] + sum(stats["dropped"].values())
                assert accepted <= stats["accepted"] == whole
                assert stats["waiting"] >= 0
                accepted = stats["accepted"]
                answers += 1
            return answers

        switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(1) as pool:
                watching = pool.submit(watch)
                while calls < 2000 and not watching.done():
                    logger.sync.info("t", "agent", "hello")
                    calls += 1
                stop.set()
                assert watching.result(DEADLINE_SECONDS) > 0
        finally:
            sys.setswitchinterval(switch_interval)
        logger.sync.flush(DEADLINE_SECONDS)
        markers = logger.stats()["accepted"] - calls
        assert 0 <= markers <= logger.stats()["batches"]


def test_the_ready_logger_reads_the_environment_at_its_first_call() -> None:
    """`from execution_logger import execution_logger` is all that a host needs."""
    output = run_script(
        """
        import os
        from execution_logger import execution_logger, LogCategory
        os.environ["EXECUTION_LOGGER_QUEUE"] = "mine"
        os.environ["CELERY_BROKER_URL"] = "redis://:kTi7w2@localhost:1/0"
        os.environ["EXECUTION_LOGGER_SHUTDOWN_TIMEOUT_SECONDS"] = "0"
        print(execution_logger.sync.info("t", LogCategory.WORKFLOW, "started").level)
        print(execution_logger.settings.queue)
        print(execution_logger.settings.broker_url == os.environ["CELERY_BROKER_URL"])
        print(execution_logger.stats(), execution_logger.settings)
        """
    )
    assert output.splitlines()[:3] == ["info", "mine", "True"]
    assert "kTi7w2" not in output


def _log(logger: ExecutionLogger) -> Coroutine[Any, Any, Any]:
    return logger.log("t", LogLevel.INFO, "agent", "hello")
