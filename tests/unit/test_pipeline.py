"""The pipeline: records, flushes that keep to the wall clock, drops that are reported, and forks."""

import asyncio
import gc
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from children import in_fork
from doubles import DEADLINE_SECONDS, BlockedDelivery, FileDelivery, delivered_to
from execution_logger import LogEntry, Report, Settings
from execution_logger.delivery import Delivery
from execution_logger.delivery.interface import Receipt
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError
from execution_logger.shipping.pipeline import OWN_TASK_ID, Pipeline
from execution_logger.shipping.thread import THREAD_NAME
from execution_logger.testing import MemoryDelivery
from journals import destination_in
from loops import LOOP_FACTORIES
from waiting import wait_until

DOWN = DeliveryError("the broker is away")
SHORT_SECONDS = 0.05
MUCH_LATER_SECONDS = 5.0
"""A wait that should have taken `SHORT_SECONDS` and was not cut short takes longer than this."""

MakePipeline = Callable[..., Pipeline]


@pytest.fixture
def make_pipeline() -> Iterator[MakePipeline]:
    """Makes pipelines, whose threads end after the test."""
    pipelines: list[Pipeline] = []

    def make(delivery: Delivery | None = None, **settings: Any) -> Pipeline:
        used = delivery or MemoryDelivery()
        pipelines.append(Pipeline(Settings(**settings), lambda: used))
        return pipelines[-1]

    yield make
    for pipeline in pipelines:
        pipeline.flush(DEADLINE_SECONDS, then_stop=True).wait()


@pytest.fixture
async def blocked(make_pipeline: MakePipeline) -> AsyncIterator[Pipeline]:
    """A pipeline whose delivery hangs with one entry, as long as the test lasts."""
    delivery = BlockedDelivery()
    pipeline = make_pipeline(delivery, batch_size=1)
    record(pipeline)
    delivery.wait_until_entered()
    yield pipeline
    delivery.open()


def record(pipeline: Pipeline, message: str = "hello", level: str = "info") -> LogEntry:
    """Record one entry."""
    entry, encoded = pipeline.make_entry("t", level, "agent", message)
    if not pipeline.accept(encoded):
        pipeline.drop(entry)
    return entry


def record_in_an_outage(pipeline: Pipeline) -> None:
    """Record one entry, and let the first attempt to deliver it fail."""
    record(pipeline)
    wait_until(lambda: pipeline.stats()["failed_attempts"])


def messages(delivery: MemoryDelivery) -> list[str]:
    """Those of the entries that were delivered."""
    return [entry["message"] for entry in delivery.entries]


class TestRecord:
    """What is recorded is what is delivered."""

    def test_the_entry_is_delivered_as_it_is_returned(self, make_pipeline: MakePipeline) -> None:
        """Its id is final: it is the row's."""
        delivery = MemoryDelivery()
        pipeline = make_pipeline(delivery)
        entry = record(pipeline)
        pipeline.flush(DEADLINE_SECONDS).wait()
        assert [delivered["id"] for delivered in delivery.entries] == [entry.id]

    def test_what_the_caller_changes_later_is_not_delivered(self, make_pipeline: MakePipeline) -> None:
        """An entry is encoded at the call."""
        delivery = MemoryDelivery()
        pipeline = make_pipeline(delivery)
        details = {"state": ["before"]}
        pipeline.accept(pipeline.make_entry("t", "info", "agent", "m", details=details)[1])
        details["state"].append("after")
        pipeline.flush(DEADLINE_SECONDS).wait()
        assert delivery.entries[0]["details"] == {"state": ["before"]}


class TestReport:
    """What flush tells."""

    def test_all_delivered(self, make_pipeline: MakePipeline) -> None:
        """Only what this flush saw delivered counts."""
        pipeline = make_pipeline()
        for count in (3, 2):
            for _ in range(count):
                record(pipeline)
            report = pipeline.flush(DEADLINE_SECONDS).wait()
            assert report == Report(
                complete=True, delivered=count, waiting=0, elapsed_seconds=report.elapsed_seconds
            )

    def test_an_outage(self, make_pipeline: MakePipeline) -> None:
        """What waits, and why."""
        delivery = MemoryDelivery()
        delivery.failures = [DOWN] * 100
        pipeline = make_pipeline(delivery, batch_size=1)
        record_in_an_outage(pipeline)
        report = pipeline.flush(SHORT_SECONDS).wait()
        assert (report.complete, report.delivered, report.waiting) == (False, 0, 1)
        assert report.last_error == "the broker is away"
        assert report.elapsed_seconds >= SHORT_SECONDS
        delivery.failures.clear()

    def test_nothing_to_do(self, make_pipeline: MakePipeline) -> None:
        """It takes no time, and no thread."""
        report = make_pipeline().flush(DEADLINE_SECONDS, then_stop=True).wait()
        assert report.complete
        assert not _threads()


class TestWallClock:
    """Waiting ends in time, whatever hangs."""

    @pytest.mark.parametrize("then_stop", [False, True])
    async def test_in_a_thread(self, blocked: Pipeline, then_stop: bool) -> None:  # noqa: FBT001
        """A delivery that never returns costs the timeout and nothing more."""
        report = await asyncio.to_thread(blocked.flush(SHORT_SECONDS, then_stop=then_stop).wait)
        assert SHORT_SECONDS <= report.elapsed_seconds < MUCH_LATER_SECONDS
        assert (report.complete, report.waiting) == (False, 1)

    @pytest.mark.parametrize("then_stop", [False, True])
    async def test_in_a_loop(self, blocked: Pipeline, then_stop: bool) -> None:  # noqa: FBT001
        """And the loop turns meanwhile."""
        turns = asyncio.create_task(_count_turns())
        report = await blocked.flush(SHORT_SECONDS, then_stop=then_stop).wait_in_loop()
        turns.cancel()
        assert SHORT_SECONDS <= report.elapsed_seconds < MUCH_LATER_SECONDS
        assert not report.complete
        assert _turns > 0

    @pytest.mark.parametrize("seconds", [0.0, -1.0, float("-inf"), float("nan")])
    async def test_no_time_at_all(self, blocked: Pipeline, seconds: float) -> None:
        """Then it is a question, not a wait."""
        assert not blocked.flush(seconds).wait().complete
        report = await blocked.flush(seconds).wait_in_loop()
        assert not report.complete
        assert report.elapsed_seconds < MUCH_LATER_SECONDS

    @pytest.mark.parametrize("seconds", [float("inf"), 1e300])
    async def test_all_the_time_in_the_world(self, make_pipeline: MakePipeline, seconds: float) -> None:
        """Also more of it than the platform can count."""
        pipeline = make_pipeline()
        record(pipeline)
        assert pipeline.flush(seconds).wait().complete
        record(pipeline)
        assert (await pipeline.flush(seconds).wait_in_loop()).complete

    async def test_many_at_once(self, blocked: Pipeline) -> None:
        """Each keeps to its own time, in threads and in the loop."""
        timeouts = [SHORT_SECONDS * number for number in range(1, 5)]
        waits = [asyncio.to_thread(blocked.flush(timeout).wait) for timeout in timeouts]
        waits += [blocked.flush(timeout, then_stop=True).wait_in_loop() for timeout in timeouts]
        for report, timeout in zip(await asyncio.gather(*waits), timeouts * 2, strict=True):
            assert timeout <= report.elapsed_seconds < MUCH_LATER_SECONDS

    def test_an_answer_ends_a_wait_before_its_time(self, make_pipeline: MakePipeline) -> None:
        """The timeout is a limit, not a pause."""
        delivery = BlockedDelivery()
        pipeline = make_pipeline(delivery)
        record(pipeline)
        with ThreadPoolExecutor(1) as pool:
            report = pool.submit(pipeline.flush(DEADLINE_SECONDS).wait)
            delivery.wait_until_entered()
            assert not report.done()
            delivery.open()
            assert report.result(DEADLINE_SECONDS).complete


class TestLoops:
    """Any event loop, several of them, and those that are gone."""

    def test_several_loops_at_once(self, make_pipeline: MakePipeline) -> None:
        """Each in a thread of its own; half of them uvloop's."""
        pipeline, barrier = make_pipeline(), threading.Barrier(6)

        async def log_and_flush() -> Report:
            barrier.wait(DEADLINE_SECONDS)
            reports = []
            for _ in range(20):
                record(pipeline)
                reports.append(await pipeline.flush(DEADLINE_SECONDS).wait_in_loop())
            assert all(report.complete for report in reports)
            return reports[-1]

        def run(factory: Callable[[], asyncio.AbstractEventLoop]) -> Report:
            with asyncio.Runner(loop_factory=factory) as runner:
                return runner.run(log_and_flush())

        with ThreadPoolExecutor(6) as pool:
            assert all(report.complete for report in pool.map(run, LOOP_FACTORIES * 3))
        assert pipeline.buffer.settled == 120

    async def test_a_flush_that_is_cancelled(self, blocked: Pipeline) -> None:
        """It ends at once; nothing else does, and the next one works."""
        flush = asyncio.create_task(blocked.flush(DEADLINE_SECONDS).wait_in_loop())
        await _until(lambda: blocked.shipper._flushes)
        flush.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flush
        assert not (await blocked.flush(SHORT_SECONDS).wait_in_loop()).complete

    @pytest.mark.parametrize("factory", LOOP_FACTORIES)
    def test_a_loop_that_is_closed_before_the_answer(
        self,
        make_pipeline: MakePipeline,
        caplog: pytest.LogCaptureFixture,
        factory: Callable[[], asyncio.AbstractEventLoop],
    ) -> None:
        """As after Ctrl-C during a flush: the answer must not be called into it."""
        delivery = BlockedDelivery()
        pipeline = make_pipeline(delivery)
        record(pipeline)

        async def begin() -> asyncio.Task[Report]:
            task = asyncio.create_task(pipeline.flush(DEADLINE_SECONDS).wait_in_loop())
            await _until(lambda: pipeline.shipper._flushes)
            return task

        with asyncio.Runner(loop_factory=factory) as runner:
            task = runner.run(begin())
        assert task.cancelled()
        delivery.open()
        assert pipeline.flush(DEADLINE_SECONDS).wait().complete
        assert caplog.records == []


class TestDrops:
    """What had to be dropped is counted, and said in the log itself."""

    def test_a_marker_says_what_is_missing(self, make_pipeline: MakePipeline) -> None:
        """How many, of which levels, between which times: before the flush is over."""
        delivery = MemoryDelivery()
        pipeline = make_pipeline(delivery, buffer_max_entries=10, batch_size=500)
        for _ in range(10):
            record(pipeline)
        dropped = [record(pipeline, level=level) for level in ("error", "info", "error")]
        report = pipeline.flush(DEADLINE_SECONDS, then_stop=True).wait()
        marker = delivery.entries[-1]
        assert (len(delivery.entries), report.waiting) == (11, 0)
        assert (marker["task_id"], marker["level"], marker["category"]) == (
            OWN_TASK_ID,
            "warning",
            "workflow",
        )
        assert marker["message"].startswith("3 log entries dropped (2 error, 1 info), ")
        assert marker["details"]["reasons"] == {"buffer_full": 3}
        assert marker["details"]["levels"] == {"error": 2, "info": 1}
        times = [datetime.fromisoformat(marker["details"][name]) for name in ("from", "to")]
        assert times == [dropped[0].created_at, dropped[-1].created_at]
        assert report.dropped == {"buffer_full": 3}
        assert not _threads(), "no thread may go on for the marker's sake"

    def test_each_is_reported_once(self, make_pipeline: MakePipeline) -> None:
        """The second marker tells of the second jam only; the totals tell of both."""
        delivery = MemoryDelivery()
        pipeline = make_pipeline(delivery, buffer_max_entries=3, batch_size=500)
        for extra in (1, 2):
            for _ in range(3 + extra):
                record(pipeline)
            pipeline.flush(DEADLINE_SECONDS).wait()
        pipeline.flush(DEADLINE_SECONDS).wait()
        record(pipeline)
        pipeline.flush(DEADLINE_SECONDS).wait()
        markers = [e["details"]["reasons"] for e in delivery.entries if e["task_id"] == OWN_TASK_ID]
        assert markers == [{"buffer_full": 1}, {"buffer_full": 2}]
        assert pipeline.accounts.dropped == {"buffer_full": 3}

    def test_a_marker_for_which_there_is_no_room_comes_later(self, make_pipeline: MakePipeline) -> None:
        """With all that was dropped by then."""

        class Refilling(MemoryDelivery):
            def deliver(self, batch: Batch) -> Receipt:
                receipt = super().deliver(batch)
                if len(self.batches) == 1:
                    record(pipeline)  # as the batch is not settled yet, this is dropped
                return receipt

        delivery = Refilling()
        pipeline = make_pipeline(delivery, buffer_max_entries=1, max_entry_bytes=1024, buffer_max_bytes=1024)
        record(pipeline)
        record(pipeline)
        pipeline.flush(DEADLINE_SECONDS).wait()
        assert delivery.entries[-1]["details"]["reasons"] == {"buffer_full": 2}

    def test_a_flush_waits_for_the_marker_too(self, make_pipeline: MakePipeline) -> None:
        """What is missing from the log is said there before all is said to be complete."""

        class Once(MemoryDelivery):
            is_away = False

            def deliver(self, batch: Batch) -> Receipt:
                if self.is_away:
                    raise DeliveryError("away")
                self.is_away = True
                return super().deliver(batch)

        delivery = Once()
        pipeline = make_pipeline(delivery, buffer_max_entries=1)
        record(pipeline)
        record(pipeline)
        patient = pipeline.flush(DEADLINE_SECONDS)
        wait_until(lambda: pipeline.stats()["failed_attempts"])
        report = pipeline.flush(SHORT_SECONDS).wait()
        assert (report.complete, report.waiting, report.dropped) == (False, 1, {"buffer_full": 1})
        delivery.is_away = False
        assert patient.wait().complete

    def test_what_is_dropped_for_its_size_lets_smaller_ones_pass(self, make_pipeline: MakePipeline) -> None:
        """The bound is one of bytes, too; and the marker comes after what was recorded before it."""
        delivery = MemoryDelivery()
        pipeline = make_pipeline(delivery, max_entry_bytes=2000, buffer_max_bytes=2000, batch_size=500)
        for message in ("first", "x" * 1800, "second"):
            record(pipeline, message)
        pipeline.flush(DEADLINE_SECONDS).wait()
        *delivered, marker = messages(delivery)
        assert delivered == ["first", "second"]
        assert marker.startswith("1 log entries dropped (1 info), ")

    def test_what_the_disk_has_lost_is_dropped_too(self, tmp_path: Path) -> None:
        """Somebody has cut the file of entries that were on the disk only: the accounts say so."""
        delivery = BlockedDelivery()
        pipeline = Pipeline(Settings(batch_size=1), lambda: delivery, destination_in(tmp_path))
        pipeline.buffer.__dict__["_window_entries"] = 1
        record(pipeline)
        delivery.wait_until_entered()
        for _ in range(10):
            record(pipeline)
        (segment,) = tmp_path.rglob("0*.entries")
        os.truncate(segment, 0)
        delivery.open()
        report = pipeline.flush(DEADLINE_SECONDS, then_stop=True).wait()
        stats = pipeline.stats()
        assert report.dropped == stats["dropped"] == {"journal_unreadable": 10}
        assert [stats[name] for name in ("accepted", "delivered", "waiting", "unconfirmed")] == [11, 1, 0, 0]


class TestExit:
    """The last attempt of a process."""

    def test_it_delivers_what_is_left(self, make_pipeline: MakePipeline) -> None:
        """And ends the thread."""
        delivery = MemoryDelivery()
        pipeline = make_pipeline(delivery)
        record(pipeline)
        pipeline.at_exit()
        assert messages(delivery) == ["hello"]
        assert not _threads()

    def test_it_says_what_it_could_not_deliver(
        self, make_pipeline: MakePipeline, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is the last chance to say so."""
        delivery = MemoryDelivery()
        delivery.failures = [DOWN] * 100
        pipeline = make_pipeline(delivery, batch_size=1, shutdown_timeout_seconds=SHORT_SECONDS)
        record_in_an_outage(pipeline)
        pipeline.at_exit()
        (error,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
        assert "1 waiting" in error
        assert "the broker is away" in error
        delivery.failures.clear()

    @pytest.mark.parametrize("is_down", [True, False])
    def test_after_a_shutdown_in_vain_one_more_attempt_is_enough(
        self,
        make_pipeline: MakePipeline,
        monkeypatch: pytest.MonkeyPatch,
        is_down: bool,  # noqa: FBT001
    ) -> None:
        """But what was recorded after a shutdown that did its work has all the time."""
        delivery = MemoryDelivery()
        delivery.failures += [DOWN] * 100 * is_down
        pipeline = make_pipeline(delivery)
        record(pipeline)
        pipeline.flush(SHORT_SECONDS if is_down else DEADLINE_SECONDS, then_stop=True).wait()
        record(pipeline)
        timeouts: list[float] = []
        flush = pipeline.flush

        def note(timeout_seconds: float, **options: Any) -> Any:
            timeouts.append(timeout_seconds)
            return flush(SHORT_SECONDS, **options)

        with monkeypatch.context() as patched:
            patched.setattr(pipeline, "flush", note)
            pipeline.at_exit()
        assert timeouts == [1.0 if is_down else 10.0]
        delivery.failures.clear()


class TestGarbage:
    """A pipeline that nobody needs any more."""

    def test_one_that_was_shut_down_is_collected(self) -> None:
        """The registries of the process do not keep it; a fork after its end does no harm."""
        pipeline = Pipeline(Settings(), MemoryDelivery)
        record(pipeline)
        pipeline.flush(DEADLINE_SECONDS, then_stop=True).wait()
        reference = weakref.ref(pipeline)
        del pipeline
        wait_until(lambda: gc.collect() >= 0 and reference() is None)
        assert in_fork(lambda: True)

    def test_one_that_was_never_used_is_collected(self) -> None:
        """It has no thread."""
        reference = weakref.ref(Pipeline(Settings(), MemoryDelivery))
        gc.collect()
        assert reference() is None

    def test_one_that_was_not_shut_down_delivers_first(self) -> None:
        """Its thread keeps it: what was accepted is delivered, although its owner is gone."""
        delivery = MemoryDelivery()
        pipeline = Pipeline(Settings(flush_interval_seconds=0.01), lambda: delivery)
        record(pipeline)
        shipper = pipeline.shipper
        del pipeline
        gc.collect()
        wait_until(lambda: messages(delivery) == ["hello"])
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)


_turns = 0


async def _count_turns() -> None:
    global _turns  # noqa: PLW0603 - the simplest counter there is
    while True:
        _turns += 1
        await asyncio.sleep(0)


async def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


class TestJournal:
    """With a journal: what a process leaves, and what its account says."""

    @pytest.fixture
    def make_kept(self, tmp_path: Path) -> Iterator[MakePipeline]:
        """Makes pipelines with journals in one folder; ends them, and lets go of what they keep."""
        pipelines: list[Pipeline] = []

        def make(delivery: Delivery, **settings: Any) -> Pipeline:
            pipelines.append(Pipeline(Settings(**settings), lambda: delivery, destination_in(tmp_path)))
            return pipelines[-1]

        yield make
        for pipeline in pipelines:
            pipeline.flush(DEADLINE_SECONDS, then_stop=True).wait()
            let_go(pipeline)

    def test_the_account_of_a_process_that_keeps_a_journal(
        self, make_kept: MakePipeline, tmp_path: Path
    ) -> None:
        """Every number adds up, and after a shutdown nothing is left on the disk."""
        delivery = MemoryDelivery()
        pipeline = make_kept(delivery)
        for _ in range(70):
            record(pipeline)
        stats = pipeline.stats()
        assert stats["journal_bytes"] > 0
        assert stats["accepted"] == stats["delivered"] + stats["waiting"] == 70
        assert pipeline.flush(DEADLINE_SECONDS, until_stored=True).wait().complete
        stats = pipeline.stats()
        assert (stats["stored"], stats["unconfirmed"], stats["handed_over"]) == (70, 0, 0)
        assert (stats["guarantee"], stats["journal_error"]) == ("stored", None)
        pipeline.flush(DEADLINE_SECONDS, then_stop=True).wait()
        assert not (destination_in(tmp_path).folder / stats["process"]).exists()

    def test_what_is_not_delivered_is_said_to_be_on_the_disk(
        self, make_kept: MakePipeline, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        """It is not lost: the next process sends it, under this one's name."""
        down = MemoryDelivery()
        down.failures = [DOWN] * 1000
        pipeline = make_kept(down, shutdown_timeout_seconds=SHORT_SECONDS)
        record(pipeline, "left")
        pipeline.at_exit()
        (text,) = [each.getMessage() for each in caplog.records if "the process ends" in each.getMessage()]
        assert "stay on disk" in text
        let_go(pipeline)
        delivery = MemoryDelivery()
        following = make_kept(delivery)
        following.begin()
        wait_until(lambda: delivery.batches)
        assert messages(delivery) == ["left"]
        assert delivery.batches[0].process == pipeline.buffer.process
        wait_until(lambda: following.stats()["adopted"] == 1)
        down.failures.clear()

    @pytest.mark.parametrize("is_shut_down", [False, True])
    @pytest.mark.parametrize("children", [1, 9])
    def test_the_end_of_a_process_ships_what_its_children_have_left(
        self,
        make_kept: MakePipeline,
        tmp_path: Path,
        children: int,
        is_shut_down: bool,  # noqa: FBT001
    ) -> None:
        """They were killed, and the next look for dead processes would be a minute later: too late."""
        sent = tmp_path / "sent"
        pipeline = make_kept(FileDelivery(sent), flush_interval_seconds=1000.0)
        pipeline.begin().result(DEADLINE_SECONDS)
        record(pipeline, "parent")
        for number in range(children):  # of which each may send what those before it have left
            in_fork(lambda: record(pipeline.in_this_process(), f"child {number}").id)  # noqa: B023
        if is_shut_down:
            pipeline.flush(DEADLINE_SECONDS, then_stop=True).wait()
        pipeline.at_exit()
        found = {entry["message"] for entry in delivered_to(sent)}  # twice, when a sender was killed
        assert sorted(found) == [*(f"child {number}" for number in range(children)), "parent"]
        assert pipeline.stats()["adopted"] > 0
        assert not _threads()

    def test_what_others_have_left_is_not_for_the_end_of_a_process(
        self, make_kept: MakePipeline, tmp_path: Path
    ) -> None:
        """It may be gigabytes, and they have parents of their own."""
        delivery = MemoryDelivery()
        pipeline = make_kept(delivery, flush_interval_seconds=1000.0)
        pipeline.begin().result(DEADLINE_SECONDS)
        left = in_fork(lambda: in_fork(lambda: record(pipeline.in_this_process(), "grandchild").message))
        record(pipeline, "parent")
        pipeline.at_exit()
        assert (left, messages(delivery)) == ("grandchild", ["parent"])

    def test_a_child_that_cannot_be_sent_for_stays_on_the_disk(
        self, make_kept: MakePipeline, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The end of the process comes in its time."""
        down = MemoryDelivery()
        pipeline = make_kept(down, flush_interval_seconds=1000.0, shutdown_timeout_seconds=SHORT_SECONDS)
        pipeline.begin().result(DEADLINE_SECONDS)
        down.failures = [DOWN] * 1000
        in_fork(lambda: record(pipeline.in_this_process(), "child").id)
        pipeline.at_exit()
        assert (messages(down), down.failures != []) == ([], True)
        down.failures.clear()


def let_go(pipeline: Pipeline) -> None:
    """Close the files that it keeps, once its thread has ended, as the end of its process would."""
    wait_until(lambda: not pipeline.shipper.is_alive)
    with pipeline.shipper._dispatching:
        pipeline._sender.abandon()
