"""What a worker process holds: it writes, waits while the database is away, and gives up in time."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from batches import batch, encoded
from children import in_fork
from doubles import DEADLINE_SECONDS
from execution_logger import Settings, SettingsError
from execution_logger.errors import BatchHeldError, StoreUnavailableError
from execution_logger.store import WriteResult, create_engine, upgrade
from execution_logger.worker import runtime as module
from execution_logger.worker.batch import ReceivedBatch
from execution_logger.worker.jobs import run_tick
from execution_logger.worker.runtime import Runtime
from execution_logger.worker.schedule import RETENTION, STATISTICS
from sqlite_site import SqliteSite, make_tables
from waiting import wait_until

AWAY = StoreUnavailableError("the database is away")
STORED = WriteResult(stored=1)


class FakeWriter:
    """Does what it was told, attempt by attempt; then it stores."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.written: list[tuple[str, str]] = []
        self.spans: list[tuple[object, object]] = []
        self.one_by_one: bool | None = None
        self.refused: list[tuple[str, str, str]] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self.before_writing: Callable[[], Any] | None = None

    async def write(
        self, batch_id: str, entries: str, *, process: object, first: object, one_by_one: bool
    ) -> WriteResult:
        """Store, or raise the next of `failures`."""
        await self._attempt()
        self.written.append((batch_id, entries))
        self.one_by_one = one_by_one
        self.spans.append((process, first))
        return STORED

    async def refuse(
        self, batch_id: str, entries: str, reason: str, *, process: object, first: object
    ) -> WriteResult:
        """Note it, or raise the next of `failures`."""
        await self._attempt()
        self.refused.append((batch_id, entries, reason))
        return WriteResult(dead_lettered=1)

    async def _attempt(self) -> None:
        self.loops.add(asyncio.get_running_loop())
        if self.before_writing is not None:
            await self.before_writing()
        if self.failures:
            raise self.failures.pop(0)


class FakeWord:
    """Notes what was said, and counts deaths."""

    def __init__(self) -> None:
        self.said: list[tuple[str, object]] = []
        self.deaths: dict[str, int] = {}
        self.closed = 0

    def stored(self, batch: ReceivedBatch, result: WriteResult) -> None:
        """Note."""
        self.said.append((batch.id, result))

    def held(self, batch: ReceivedBatch, reason: str) -> None:
        """Note."""
        self.said.append((batch.id, reason))

    def add_deaths(self, batch: ReceivedBatch, number: int) -> int:
        """Count."""
        self.deaths[batch.id] = self.deaths.get(batch.id, 0) + number
        return self.deaths[batch.id]

    def forget_deaths(self, batch: ReceivedBatch) -> None:
        """Count no more."""
        self.deaths.pop(batch.id, None)

    def close(self) -> None:
        """Count."""
        self.closed += 1


class FakeTime:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.longest_sleep = 0.0
        self.while_sleeping: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Go on at once, later."""
        self.now += seconds
        self.longest_sleep = max(self.longest_sleep, seconds)
        self.while_sleeping()


class FakeEngine:
    """Says whether it was disposed of."""

    def __init__(self) -> None:
        self.disposed = 0

    async def dispose(self) -> None:
        """Count."""
        self.disposed += 1


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> FakeWriter:
    """The writer of all runtimes."""
    writer = FakeWriter()
    monkeypatch.setattr(module, "Writer", lambda *_: writer)
    return writer


@pytest.fixture(autouse=True)
def word(monkeypatch: pytest.MonkeyPatch) -> FakeWord:
    """What all runtimes say: there is no result backend."""
    word = FakeWord()
    monkeypatch.setattr(module, "Confirmer", lambda _: word)
    return word


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[FakeEngine, int]]:
    """Every engine that is made, with the size of its pool."""
    engines: list[tuple[FakeEngine, int]] = []

    def make(_: Settings, *, pool_size: int) -> FakeEngine:
        engines.append((FakeEngine(), pool_size))
        return engines[-1][0]

    monkeypatch.setattr(module, "create_engine", make)
    return engines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """The time of the runtime."""
    clock = FakeTime()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def runtime(writer: FakeWriter, engines: list[Any], clock: FakeTime) -> Iterator[Runtime]:
    """A runtime with nothing real in it but its loop and its thread."""
    runtime = Runtime(Settings(visibility_timeout_seconds=60, worker_concurrency=3))
    yield runtime
    runtime.close()


async def upgrade_tables(settings: Settings) -> None:
    """Make the tables."""
    engine = create_engine(settings, pool_size=1)
    await upgrade(engine, settings)
    await engine.dispose()


def threads() -> list[threading.Thread]:
    """Those of all runtimes."""
    return [thread for thread in threading.enumerate() if thread.name == "execution-logger-store"]


class TestWriting:
    """One loop and one engine per process."""

    def test_batches_are_written_in_the_same_loop(
        self, runtime: Runtime, writer: FakeWriter, engines: list[tuple[FakeEngine, int]]
    ) -> None:
        """A new one for each could not use the connections of the one before."""
        assert not threads(), "nothing is made before it is needed"
        for number in range(3):
            assert runtime.write(ReceivedBatch(f"b{number}", "[]")) is STORED
        assert writer.written == [("b0", "[]"), ("b1", "[]"), ("b2", "[]")]
        assert len(writer.loops) == len(engines) == len(threads()) == 1
        assert engines[0][1] == 3, "as many connections as batches at once"

    def test_several_at_once(self, runtime: Runtime, writer: FakeWriter, engines: list[Any]) -> None:
        """The pool's threads do not wait for each other."""
        writer.before_writing = asyncio.Barrier(4).wait
        with ThreadPoolExecutor(4) as pool:
            writing = [pool.submit(runtime.write, ReceivedBatch(str(number), "[]")) for number in range(4)]
            assert [each.result(DEADLINE_SECONDS) for each in writing] == [STORED] * 4
        assert len(engines) == 1

    def test_an_unexpected_error_goes_on(self, runtime: Runtime, writer: FakeWriter) -> None:
        """The task knows what to do with it; waiting would not help."""
        writer.failures = [ZeroDivisionError()]
        with pytest.raises(ZeroDivisionError):
            runtime.write(ReceivedBatch("b", "[]"))
        assert runtime.write(ReceivedBatch("b", "[]")) is STORED

    def test_a_setting_that_is_wrong_leaves_no_thread(
        self, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each batch would leave one more."""

        def refuse(*_: object, **__: object) -> None:
            raise SettingsError("DATABASE_URL: cannot be read")

        with monkeypatch.context() as patched:
            patched.setattr(module, "create_engine", refuse)
            with pytest.raises(SettingsError):
                runtime.write(ReceivedBatch("b", "[]"))
        assert not threads()

    def test_an_attempt_without_end_is_not_waited_for(
        self, runtime: Runtime, writer: FakeWriter, clock: FakeTime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The batch goes back to the queue; what was under way is given up."""
        monkeypatch.setattr(module, "_GRACE_SECONDS", 0.05)
        monkeypatch.setattr(runtime, "_settings", Settings(database_timeout_seconds=0.1))
        given_up = threading.Event()

        async def hang() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()

        writer.before_writing = hang
        runtime.stopping = True
        with pytest.raises(StoreUnavailableError, match=r"no answer within 0.15 s"):
            runtime.write(ReceivedBatch("b", "[]"))
        assert given_up.wait(DEADLINE_SECONDS)
        assert writer.written == []

    async def test_into_a_real_database(self, tmp_path: Path) -> None:
        """Written once, however often it is delivered."""
        async with SqliteSite(tmp_path / "logs.db") as site:
            make_tables(site.path)
        runtime = Runtime(site.settings)
        entries = batch(encoded(message="1"), encoded(message="2"))
        results = [await asyncio.to_thread(runtime.write, ReceivedBatch("b", entries)) for _ in range(2)]
        await asyncio.to_thread(runtime.close)
        assert results == [WriteResult(stored=2), WriteResult(duplicates=2)]
        assert [row["message"] for row in site.rows()] == ["1", "2"]


class TestOutage:
    """The database is away: wait here, so that batches stay in the broker's queue."""

    def test_it_is_waited_for(
        self, runtime: Runtime, writer: FakeWriter, clock: FakeTime, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A second between attempts, in slices; said when it begins and when it ends."""
        writer.failures = [AWAY] * 5
        assert runtime.write(ReceivedBatch("b", "[]")) is STORED
        assert clock.now == pytest.approx(5.0, abs=0.2)
        assert clock.longest_sleep <= 0.1
        assert runtime.write(ReceivedBatch("c", "[]")) is STORED
        assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
            (logging.ERROR, "the database takes no rows, batches wait in the queue: the database is away"),
            (logging.WARNING, "the database takes rows again"),
        ]

    @pytest.mark.parametrize(
        ("settings", "patience_seconds"),
        [
            ({"visibility_timeout_seconds": 60}, 30),
            ({"visibility_timeout_seconds": 600}, 300),
            ({"task_soft_time_limit": 20}, 10),
            ({"task_time_limit": 30, "task_soft_time_limit": 40}, 15),
        ],
    )
    def test_it_gives_up_in_time(
        self,
        writer: FakeWriter,
        engines: list[Any],
        clock: FakeTime,
        settings: dict[str, Any],
        patience_seconds: int,
    ) -> None:
        """Before the queue gives the batch to another worker, or Celery ends the task."""
        runtime = Runtime(Settings(**settings))
        writer.failures = [AWAY] * 1000
        with pytest.raises(StoreUnavailableError, match="away"):
            runtime.write(ReceivedBatch("b", "[]"))
        runtime.close()
        assert patience_seconds <= clock.now < patience_seconds + 1.2
        assert writer.written == []

    def test_a_shutdown_ends_the_waiting(self, runtime: Runtime, writer: FakeWriter, clock: FakeTime) -> None:
        """At once, in the middle of a pause: the worker must not be killed for it."""

        def stop() -> None:
            runtime.stopping = clock.now > 2.25

        clock.while_sleeping = stop
        writer.failures = [AWAY] * 1000
        with pytest.raises(StoreUnavailableError, match="away"):
            runtime.write(ReceivedBatch("b", "[]"))
        assert clock.now == pytest.approx(2.3, abs=0.05)

    def test_a_batch_that_can_be_written_is_written_while_the_worker_ends(
        self, runtime: Runtime, clock: FakeTime
    ) -> None:
        """It is in hand; to give it back would only be more work."""
        runtime.stopping = True
        assert runtime.write(ReceivedBatch("b", "[]")) is STORED
        runtime.pause()
        assert clock.now == 0.0

    def test_a_batch_that_the_database_wants_later_is_no_outage(
        self, runtime: Runtime, writer: FakeWriter, clock: FakeTime, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It goes back after a moment, for others to be written; log and metrics know of no outage."""
        writer.failures = [BatchHeldError("later")]
        with pytest.raises(BatchHeldError, match="later"):
            runtime.write(ReceivedBatch("b", "[]"))
        assert clock.now == pytest.approx(1.0, abs=0.2)
        assert runtime.write(ReceivedBatch("c", "[]")) is STORED
        assert caplog.records == []
        figures = runtime.counters.figures()
        assert (figures.database_down_seconds, figures.numbers["write_failures"]) == (0.0, 1)


class TestWord:
    """What the producer is told."""

    def test_that_a_batch_is_stored(self, runtime: Runtime, writer: FakeWriter, word: FakeWord) -> None:
        """Once it is; what the message says of its entries goes to the writer as it is."""
        runtime.write(ReceivedBatch("b", "[]", process="host-1", first=51))
        assert word.said == [("b", STORED)]
        assert writer.spans == [("host-1", 51)]

    def test_that_it_waits(
        self, runtime: Runtime, writer: FakeWriter, word: FakeWord, clock: FakeTime
    ) -> None:
        """When the outage begins, and when the batch goes back: few words for a long outage."""
        writer.failures = [AWAY] * 1000
        with pytest.raises(StoreUnavailableError):
            runtime.write(ReceivedBatch("b", "[]"))
        assert word.said == [("b", "the database is away")] * 2

    def test_a_batch_that_goes_back_at_once_is_told_once(
        self, runtime: Runtime, writer: FakeWriter, word: FakeWord, clock: FakeTime
    ) -> None:
        """The worker ends: there are many to be given back."""
        runtime.stopping = True
        writer.failures = [AWAY]
        with pytest.raises(StoreUnavailableError):
            runtime.write(ReceivedBatch("b", "[]"))
        assert word.said == [("b", "the database is away")]


class TestDeaths:
    """A batch that workers die of is given up."""

    def test_one_that_has_killed_eight_becomes_dead_letters(
        self, runtime: Runtime, writer: FakeWriter, word: FakeWord, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whole, said once, and its producer is told as of any other."""
        word.deaths["b"] = 7  # with the one that the message tells of, eight
        runtime.write(ReceivedBatch("b", "[]", is_redelivered=True))
        assert writer.refused == [("b", "[]", "8 workers have died over its batch")]
        assert writer.written == []
        assert word.said == [("b", WriteResult(dead_lettered=1))]
        assert word.deaths == {}
        assert caplog.messages == [
            "batch b is in the dead letters, whole: 8 workers have died over its batch"
        ]

    def test_it_is_given_up_although_the_database_is_away_at_first(
        self, runtime: Runtime, writer: FakeWriter, word: FakeWord, clock: FakeTime
    ) -> None:
        """The verdict stands."""
        word.deaths["b"] = 7
        writer.failures = [AWAY] * 3
        runtime.write(ReceivedBatch("b", "[]", is_redelivered=True))
        assert len(writer.refused) == 1

    @pytest.mark.parametrize(("deaths", "one_by_one"), [(1, False), (2, True), (6, True)])
    def test_fewer_deaths_are_a_reason_for_care(
        self, runtime: Runtime, writer: FakeWriter, word: FakeWord, deaths: int, *, one_by_one: bool
    ) -> None:
        """It is written, entry by entry from the third death on, and forgotten."""
        word.deaths["b"] = deaths
        runtime.write(ReceivedBatch("b", "[]", is_redelivered=True))
        assert (writer.written, writer.one_by_one) == ([("b", "[]")], one_by_one)
        assert word.deaths == {}

    @pytest.mark.parametrize(
        ("batch", "deaths"),
        [(ReceivedBatch("b", "[]"), -1), (ReceivedBatch("b", "[]", is_redelivered=True), 0)],
    )
    def test_what_is_handed_back_counts_for_nothing(
        self,
        runtime: Runtime,
        writer: FakeWriter,
        word: FakeWord,
        clock: FakeTime,
        batch: ReceivedBatch,
        deaths: int,
    ) -> None:
        """Its next delivery will say that a worker had it before, which is then no death."""
        writer.failures = [AWAY] * 1000
        with pytest.raises(StoreUnavailableError):
            runtime.write(batch)
        assert word.deaths == {"b": deaths}

    def test_who_waits_for_the_database_kills_nobody(
        self, runtime: Runtime, writer: FakeWriter, word: FakeWord, clock: FakeTime
    ) -> None:
        """A worker that is killed in an outage, again and again, is not the batch's fault."""
        seen: list[int] = []
        clock.while_sleeping = lambda: seen.append(word.deaths["b"])
        writer.failures = [AWAY] * 2
        runtime.write(ReceivedBatch("b", "[]", is_redelivered=True))
        assert set(seen) == {0}

    def test_an_unexpected_error_is_no_death(
        self, runtime: Runtime, writer: FakeWriter, word: FakeWord
    ) -> None:
        """The task hands the batch back."""
        writer.failures = [ZeroDivisionError()]
        with pytest.raises(ZeroDivisionError):
            runtime.write(ReceivedBatch("b", "[]", is_redelivered=True))
        assert word.deaths == {"b": 0}

    def test_suspects_are_tried_one_at_a_time(
        self, runtime: Runtime, writer: FakeWriter, word: FakeWord
    ) -> None:
        """Or one that kills would take along those that came with it; the others are not held up."""
        writer.before_writing = (entered := asyncio.Event()).wait
        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(runtime.write, ReceivedBatch("1", "[]", is_redelivered=True))
            wait_until(lambda: word.deaths == {"1": 1})
            second = pool.submit(runtime.write, ReceivedBatch("2", "[]", is_redelivered=True))
            other = pool.submit(runtime.write, ReceivedBatch("3", "[]"))
            wait_until(lambda: runtime._process is not None)
            assert word.deaths == {"1": 1}
            assert runtime._process is not None
            runtime._process._loop.call_soon_threadsafe(entered.set)
            assert [each.result(DEADLINE_SECONDS) for each in (first, second, other)] == [STORED] * 3
        assert word.deaths == {}

    def test_a_suspect_that_comes_too_late_goes_back(
        self, runtime: Runtime, writer: FakeWriter, word: FakeWord
    ) -> None:
        """A worker that ends does not wait for the others."""
        runtime.stopping = True
        assert runtime._one_at_a_time.acquire(blocking=False)
        with pytest.raises(StoreUnavailableError, match="take too long"):
            runtime.write(ReceivedBatch("b", "[]", is_redelivered=True))
        assert word.deaths == {}


class TestJobs:
    """Over the same loop."""

    def test_a_tick_is_done_and_noted(self, tmp_path: Path) -> None:
        """The jobs of a process end with it."""
        settings = Settings(database_url=f"sqlite:///{tmp_path / 'logs.db'}")
        asyncio.run(upgrade_tables(settings))
        runtime = Runtime(settings)
        try:
            result = runtime.run(run_tick(settings, STATISTICS, lambda: False), DEADLINE_SECONDS)
        finally:
            runtime.close()
        assert result.outcome == "succeeded"
        assert threads() == []

    def test_a_worker_that_ends_ends_the_tick(self, tmp_path: Path) -> None:
        """After the piece that it has in hand; the next tick goes on."""
        settings = Settings(database_url=f"sqlite:///{tmp_path / 'logs.db'}")
        asyncio.run(upgrade_tables(settings))
        old = encoded(created_at="2020-01-01T00:00:00Z")
        runtime = Runtime(settings)
        try:
            runtime.write(ReceivedBatch("b", batch(old)))
            runtime.stopping = True
            result = runtime.run(run_tick(settings, RETENTION, lambda: runtime.stopping), DEADLINE_SECONDS)
        finally:
            runtime.close()
        assert result.outcome == "unfinished"

    def test_a_database_that_is_away_is_an_error_of_ours(self, tmp_path: Path) -> None:
        """The task says so, and the job is due again another time."""
        settings = Settings(database_url=f"sqlite:///{tmp_path / 'missing' / 'logs.db'}")
        runtime = Runtime(settings)
        try:
            with pytest.raises(StoreUnavailableError, match="cannot be used now"):
                runtime.run(run_tick(settings, STATISTICS, lambda: False), DEADLINE_SECONDS)
        finally:
            runtime.close()


class TestEnd:
    """What is closed, and where."""

    def test_it_ends_the_thread_and_the_connections(
        self, runtime: Runtime, engines: list[tuple[FakeEngine, int]]
    ) -> None:
        """Twice is once; a runtime that never wrote has nothing to close."""
        runtime.close()
        runtime.write(ReceivedBatch("b", "[]"))
        (loop_thread,) = threads()
        runtime.close()
        runtime.close()
        assert not loop_thread.is_alive()
        assert [engine.disposed for engine, _ in engines] == [1]

    def test_a_batch_after_the_end_begins_anew(
        self, runtime: Runtime, engines: list[tuple[FakeEngine, int]]
    ) -> None:
        """A worker that ends may have one more in hand."""
        runtime.write(ReceivedBatch("b", "[]"))
        runtime.close()
        assert runtime.write(ReceivedBatch("c", "[]")) is STORED
        assert len(engines) == 2

    def test_connections_that_cannot_be_closed_end_the_thread_all_the_same(
        self, runtime: Runtime, engines: list[tuple[FakeEngine, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The error goes on: Celery logs it."""
        runtime.write(ReceivedBatch("b", "[]"))

        async def fail() -> None:
            raise ConnectionResetError

        monkeypatch.setattr(engines[0][0], "dispose", fail)
        with pytest.raises(ConnectionResetError):
            runtime.close()
        assert not threads()

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_forked_child_has_its_own(
        self, runtime: Runtime, engines: list[tuple[FakeEngine, int]]
    ) -> None:
        """A connection that two processes use is corrupt; and the child must not close the parent's."""
        runtime.write(ReceivedBatch("b", "[]"))

        def write() -> tuple[list[int], int]:
            runtime.close()
            disposed = [engine.disposed for engine, _ in engines]
            runtime.write(ReceivedBatch("c", "[]"))
            return disposed, len(engines)

        assert in_fork(write) == ([0], 2)
        assert runtime.write(ReceivedBatch("d", "[]")) is STORED
        assert len(engines) == 1
