"""Forks: a child starts clean, whoever has forked it, and the parent's entries are the parent's."""

import gc
import json
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from children import FORKS, in_fork, run_script
from doubles import DEADLINE_SECONDS, BlockedDelivery
from execution_logger import ExecutionLogger, LogEntry, Settings
from execution_logger.delivery.interface import Receipt
from execution_logger.entry.batch import Batch
from execution_logger.journal.files import JournalFiles
from execution_logger.shipping import forks
from execution_logger.shipping.pipeline import Pipeline
from execution_logger.testing import MemoryDelivery, capture_entries
from journals import entries_in
from waiting import wait_until

SHORT_SECONDS = 0.05
MUCH_LATER_SECONDS = 5.0

Fork = Callable[[], int]
MakeLogger = Callable[..., ExecutionLogger]

pytestmark = [
    pytest.mark.skipif(not FORKS, reason="no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    pytest.mark.usefixtures("impatient_forks"),
]
each_fork = pytest.mark.parametrize("fork", FORKS)


@pytest.fixture
def impatient_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork waits for 2 s otherwise, when a test has a delivery hang."""
    monkeypatch.setattr(forks, "_FORK_TIMEOUT_SECONDS", SHORT_SECONDS)


def record(logger: ExecutionLogger, message: str = "hello") -> LogEntry:
    """Record one entry."""
    return logger.sync.info("t", "agent", message)


def pipeline_of(logger: ExecutionLogger) -> Pipeline:
    """Its pipeline in this process."""
    return logger._host.start()


def messages(delivery: MemoryDelivery) -> list[str]:
    """Those of the entries that were delivered."""
    return [entry["message"] for entry in delivery.entries]


@each_fork
class TestChild:
    """It has a shipper, a journal and accounts of its own."""

    def test_the_child_does_not_deliver_the_parents_entries(
        self, make_logger: MakeLogger, fork: Fork
    ) -> None:
        """Each is delivered once, by the process that recorded it."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery, flush_interval_seconds=1000.0)
        record(logger, "of the parent")

        def log() -> tuple[list[str], dict[str, int]]:
            record(logger, "of the child")
            report = logger.sync.shutdown(DEADLINE_SECONDS)
            assert report.complete
            return messages(delivery), report.dropped

        assert in_fork(log, fork) == (["of the child"], {})
        logger.sync.flush(DEADLINE_SECONDS)
        assert messages(delivery) == ["of the parent"]

    @pytest.mark.parametrize(
        "use",
        [
            lambda logger: logger.stats(),
            lambda logger: logger.sync.flush(DEADLINE_SECONDS),
            lambda logger: logger.sync.shutdown(DEADLINE_SECONDS),
            lambda logger: logger.sync.timed_operation("t", "agent", "x"),
            lambda logger: logger.bind(step="s").settings,
            lambda logger: pipeline_of(logger).at_exit(),
        ],
        ids=["stats", "flush", "shutdown", "timed_operation", "settings", "exit"],
    )
    def test_whatever_is_used_first(
        self, make_logger: MakeLogger, fork: Fork, use: Callable[[ExecutionLogger], object]
    ) -> None:
        """No use of a logger touches what is the parent's: its entries, name and numbers."""
        delivery = BlockedDelivery()
        logger = make_logger(delivery, batch_size=1)
        record(logger)
        delivery.wait_until_entered()
        of_parent = logger.stats()

        def numbers() -> tuple[Any, ...]:
            use(logger)
            stats = logger.stats()
            return stats["pid"] == os.getpid(), stats["process"], stats["accepted"], stats["waiting"]

        is_own, name, accepted, waiting = in_fork(numbers, fork)
        assert (is_own, accepted, waiting) == (True, 0, 0)
        assert name != of_parent["process"]
        delivery.open()

    def test_what_the_parent_has_left_out_is_the_parents(self, make_logger: MakeLogger, fork: Fork) -> None:
        """The child counts its own, by the settings that were in force."""
        logger = make_logger(MemoryDelivery(), run_max_entries=2)
        logger.set_volume(level="info")
        for _ in range(4):
            record(logger)
        assert logger.stats()["left_out"] == 2

        def counts() -> tuple[int, int, bool]:
            before = logger.stats()["left_out"]
            ids = [record(logger).id for _ in range(3)]
            wanted = logger.sync.debug("t", "agent", "less than info").id
            return before, logger.stats()["left_out"], bool(all(ids[:2]) and not ids[2] and not wanted)

        assert in_fork(counts, fork) == (0, 2, True)
        assert logger.stats()["left_out"] == 2

    def test_the_parents_exit_hooks_deliver_nothing_in_the_child(
        self, make_logger: MakeLogger, fork: Fork
    ) -> None:
        """They are inherited; what they would deliver is the parent's."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery, flush_interval_seconds=1000.0)
        record(logger, "of the parent")
        hook = logger._host.pipeline
        assert hook is not None

        def end() -> list[str]:
            hook.at_exit()
            hook.retire()
            return messages(delivery)

        assert in_fork(end, fork) == []

    def test_children_and_parent_never_use_the_same_ids(self, make_logger: MakeLogger, fork: Fork) -> None:
        """They share the state of the random numbers, and a second entry with an id would be lost."""
        logger = make_logger()

        def ids() -> list[str]:
            return [record(logger).id for _ in range(200)]

        ids()
        found = [identity for _ in range(4) for identity in in_fork(ids, fork)] + ids()
        assert len(set(found)) == 1000

    def test_the_grandchild_too(self, make_logger: MakeLogger, fork: Fork) -> None:
        """A child that forks is a parent."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery)

        def grandchild() -> list[str]:
            record(logger, "of the grandchild")
            logger.sync.flush(DEADLINE_SECONDS)
            return messages(delivery)

        def child() -> tuple[list[str], list[str]]:
            record(logger, "of the child")
            of_grandchild = in_fork(grandchild, fork)
            logger.sync.flush(DEADLINE_SECONDS)
            return of_grandchild, messages(delivery)

        assert in_fork(child, fork) == (["of the grandchild"], ["of the child"])

    def test_a_child_in_the_middle_that_logs_nothing(self, make_logger: MakeLogger, fork: Fork) -> None:
        """Its child starts clean, too: what it inherits is its grandparent's."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery, flush_interval_seconds=1000.0)
        record(logger, "of the grandparent")

        def grandchild() -> list[str]:
            record(logger, "of the grandchild")
            logger.sync.flush(DEADLINE_SECONDS)
            return messages(delivery)

        assert in_fork(lambda: in_fork(grandchild, fork), fork) == ["of the grandchild"]

    def test_it_keeps_a_journal_of_its_own(self, make_logger: MakeLogger, fork: Fork, tmp_path: Path) -> None:
        """Under its own name, which is locked as long as it lives, and not by the parent's lock."""
        blocked = BlockedDelivery()
        logger = make_logger(blocked, journal_directory=str(tmp_path))
        record(logger, "parent")

        def log() -> tuple[int, str, int, int]:
            inherited = pipeline_of_parent.buffer.journal
            record(logger, "child")
            stats = logger.stats()
            return stats["accepted"], stats["process"], stats["journal_bytes"], inherited.size_bytes

        pipeline_of_parent = pipeline_of(logger)
        accepted, name, size_bytes, inherited_bytes = in_fork(log, fork)
        assert (accepted, inherited_bytes) == (1, 0)
        of_parent = pipeline_of_parent.buffer.process
        assert size_bytes > 0
        assert {path.parent.name for path in tmp_path.glob("*/*/lock")} == {name, of_parent}
        lines = {path.parent.name: entries_in(path) for path in tmp_path.glob("*/*/0*.entries")}
        assert [json.loads(*lines[each])["message"] for each in (of_parent, name)] == ["parent", "child"]
        blocked.open()
        logger.sync.flush(DEADLINE_SECONDS, until="stored")

    def test_threads_that_are_first_at_once(self, make_logger: MakeLogger, fork: Fork) -> None:
        """They are one process: one name, and no entry is left with another."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery)
        record(logger)

        def log() -> tuple[int, int]:
            barrier = threading.Barrier(4)

            def run(_: int) -> str:
                barrier.wait(DEADLINE_SECONDS)
                record(logger, "of the child")
                return str(logger.stats()["process"])

            with ThreadPoolExecutor(4) as pool:
                names = set(pool.map(run, range(4)))
            logger.sync.flush(DEADLINE_SECONDS)
            return len(names), messages(delivery).count("of the child")

        for _ in range(5):
            assert in_fork(log, fork) == (1, 4)

    def test_what_is_captured_is_captured_in_the_child_too(self, make_logger: MakeLogger, fork: Fork) -> None:
        """A test of a host's that forks delivers nothing either."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery)
        with capture_entries(logger) as entries:

            def log() -> tuple[list[str], list[str]]:
                record(logger, "of the child")
                logger.sync.flush(DEADLINE_SECONDS)
                return [entry.message for entry in entries], messages(delivery)

            assert in_fork(log, fork) == (["of the child"], [])

    def test_locks_that_other_threads_hold_at_the_fork(self, make_logger: MakeLogger, fork: Fork) -> None:
        """The threads are gone in the child, and their locks stay locked: it must not meet them."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery, buffer_max_entries=5)
        record(logger)
        pipeline = pipeline_of(logger)
        shipper = pipeline.shipper
        locks: list[Any] = [
            pipeline.buffer.guard,
            pipeline._sender.delivering,
            pipeline.accounts._guard,
            shipper._start_lock,
            threading._active_limbo_lock,  # type: ignore[attr-defined]
        ]
        held, forked = threading.Event(), threading.Event()

        def hold() -> None:
            for lock in locks:
                lock.acquire()
            held.set()
            forked.wait(DEADLINE_SECONDS)
            for lock in reversed(locks):
                lock.release()

        def log() -> list[str]:
            for number in range(7):
                record(logger, str(number))
            assert logger.sync.shutdown(DEADLINE_SECONDS).complete
            return messages(delivery)

        with ThreadPoolExecutor(1) as pool:
            holding = pool.submit(hold)
            assert held.wait(DEADLINE_SECONDS)
            try:
                logged = in_fork(log, fork)
            finally:
                forked.set()
            holding.result(DEADLINE_SECONDS)
        assert logged[:5] == ["0", "1", "2", "3", "4"]
        assert logged[5].startswith("2 log entries dropped")

    @pytest.mark.parametrize("module", ["half_a_module", "half_a_package", "half_a_package.part"])
    def test_a_module_that_the_thread_was_importing(
        self,
        make_logger: MakeLogger,
        fork: Fork,
        module: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Nobody finishes that import in the child: its own thread imports it anew, and waits for nobody."""
        monkeypatch.syspath_prepend(tmp_path)
        for name in ("half_a_module", "half_a_package", "half_a_package.part", "half_a_package.whole"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        importing, finished = threading.Event(), threading.Event()
        monkeypatch.setattr(forks, "importing", (importing, finished), raising=False)
        half = (
            "from execution_logger.shipping import forks\n"
            "forks.importing[0].set()\n"
            "assert forks.importing[1].wait(20)\n"
            "complete = True\n"
        )
        package = tmp_path / "half_a_package"
        package.mkdir()
        whole = "import half_a_package.whole\nassert half_a_package.whole.here\n"
        (package / "whole.py").write_text("here = True\n")
        (package / "__init__.py").write_text(whole + (half if module == "half_a_package" else ""))
        (package / "part.py").write_text(half)
        (tmp_path / "half_a_module.py").write_text(half)

        class Importing(MemoryDelivery):
            def deliver(self, batch: Batch) -> Receipt:
                assert __import__(module, fromlist=["complete"]).complete
                return super().deliver(batch)

        delivery = Importing()
        logger = make_logger(delivery, batch_size=1)
        record(logger, "of the parent")
        assert importing.wait(DEADLINE_SECONDS)

        def log() -> list[str]:
            finished.set()
            record(logger, "of the child")
            logger.sync.flush(DEADLINE_SECONDS / 2)
            return messages(delivery)

        try:
            assert in_fork(log, fork) == ["of the child"]
        finally:
            finished.set()
        logger.sync.flush(DEADLINE_SECONDS)
        assert messages(delivery) == ["of the parent"]


class TestHooks:
    """A fork that runs Python's hooks waits for what is under way."""

    def test_a_fork_waits_for_the_attempt_that_is_under_way(
        self, make_logger: MakeLogger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a delivery has locked in the middle of one would be locked in the child for ever."""
        monkeypatch.setattr(forks, "_FORK_TIMEOUT_SECONDS", DEADLINE_SECONDS)
        lock = threading.Lock()

        class Locking(BlockedDelivery):
            def deliver(self, batch: Batch) -> Receipt:
                with lock:
                    return super().deliver(batch)

        delivery = Locking()
        logger = make_logger(delivery, batch_size=1)
        record(logger)
        delivery.wait_until_entered()
        opening = threading.Timer(SHORT_SECONDS, delivery.open)
        opening.start()

        def log() -> bool:
            record(logger)
            return bool(logger.sync.flush(MUCH_LATER_SECONDS).complete)

        assert in_fork(log)
        opening.join()

    def test_a_fork_does_not_wait_for_attempts_that_hang(
        self, make_logger: MakeLogger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor once for each logger. Their batches in flight, waiting flushes and drops stay behind."""
        monkeypatch.setattr(forks, "_FORK_TIMEOUT_SECONDS", 0.5)
        deliveries = [BlockedDelivery() for _ in range(8)]
        loggers = [make_logger(each, batch_size=1, buffer_max_entries=1) for each in deliveries]
        for logger, delivery in zip(loggers, deliveries, strict=True):
            record(logger)
            record(logger, "dropped")
            delivery.wait_until_entered()
        flushes = [logger.begin_flush(DEADLINE_SECONDS) for logger in loggers]

        def log() -> tuple[float, int, int, dict[str, int]]:
            seconds = time.monotonic() - began_at
            deliveries[0].open()
            record(loggers[0], "of the child")
            loggers[0].sync.flush(DEADLINE_SECONDS)
            stats = loggers[0].stats()
            return seconds, stats["accepted"], stats["delivered"], stats["dropped"]

        began_at = time.monotonic()
        seconds, *counts = in_fork(log)
        assert counts == [1, 1, {}]
        assert seconds < 8 * 0.5
        for delivery, flush in zip(deliveries, flushes, strict=True):
            delivery.open()
            assert flush.wait().complete

    def test_forks_while_threads_log(self, make_logger: MakeLogger) -> None:
        """At any moment of their calls; every child works, and the parent loses nothing."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery, batch_size=5, flush_interval_seconds=0.001)
        stop, counts = threading.Event(), [0] * 4

        def log_all_the_time(thread: int) -> None:
            while not stop.is_set():
                record(logger, f"{thread}:{counts[thread]}")
                counts[thread] += 1

        def log() -> bool:
            record(logger, "of the child")
            return bool(logger.sync.flush(DEADLINE_SECONDS).complete)

        with ThreadPoolExecutor(4) as pool:
            for thread in range(4):
                pool.submit(log_all_the_time, thread)
            try:
                assert all(in_fork(log) for _ in range(10))
            finally:
                stop.set()
        logger.sync.flush(DEADLINE_SECONDS)
        found = messages(delivery)
        for thread, count in enumerate(counts):
            own = [message for message in found if message.startswith(f"{thread}:")]
            assert own == [f"{thread}:{number}" for number in range(count)]

    def test_another_thread_is_making_the_first_call(self, tmp_path: Path) -> None:
        """At whatever step of it the fork comes: the child logs, delivers and ends."""
        run_script(
            """
            import sys, threading, time
            from children import in_fork
            from doubles import DEADLINE_SECONDS
            from execution_logger import Settings, execution_logger as logger
            from execution_logger.testing import MemoryDelivery

            delivery = MemoryDelivery()

            def log():
                logger.sync.info("t", "agent", "of the child")
                assert logger.sync.shutdown(DEADLINE_SECONDS).complete
                return [entry["message"] for entry in delivery.entries]

            def host(number):
                settings = Settings(journal_directory=f"{sys.argv[1]}/{number}")
                logger.configure(settings, make_delivery=lambda: delivery)
                gate = threading.Barrier(2)

                def first():
                    gate.wait()
                    logger.sync.info("t", "agent", "first")

                threading.Thread(target=first, daemon=True).start()
                gate.wait()
                until = time.perf_counter() + number / 5000
                while time.perf_counter() < until:
                    pass
                return in_fork(log)

            for number in range(10):
                messages = in_fork(lambda: host(number))
                assert messages == ["of the child"], messages
            """,
            tmp_path,
        )

    def test_the_parents_locks_are_given_back(self, make_logger: MakeLogger) -> None:
        """By the thread that forked, each as often as it took it."""
        logger = make_logger()
        record(logger)
        assert in_fork(lambda: True)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(record, logger).result(DEADLINE_SECONDS)

    def test_loggers_that_are_gone_cost_a_fork_nothing(self) -> None:
        """Neither those that were used, nor captures: hooks can never be taken back, so there is one."""
        run_script(
            """
            import gc, os
            hooks = []
            os.register_at_fork = lambda **named: hooks.append(named)
            from execution_logger import ExecutionLogger, execution_logger
            from execution_logger.shipping import forks
            from execution_logger.testing import MemoryDelivery, capture_entries
            count = len(hooks)
            for _ in range(300):
                with capture_entries():
                    execution_logger.sync.info("t", "agent", "captured")
                ExecutionLogger(make_delivery=MemoryDelivery).stats()
            gc.collect()
            assert len(hooks) == count, len(hooks)
            assert len(forks._survivors) == 1, len(forks._survivors)
            """
        )


class TestMark:
    """How a process notices that it is a child."""

    @each_fork
    @pytest.mark.parametrize("make", [forks.make_mark, forks.ProcessIdMark])
    def test_it_is_gone_in_a_child_only(self, fork: Fork, make: Callable[[], forks.ProcessIdMark]) -> None:
        """Until it is set there, and then in that child's children."""
        mark = make()
        assert not mark[0]
        mark[0] = 1

        def of_child() -> tuple[bool, bool, bool]:
            before = bool(mark[0])
            mark[0] = 1
            return before, bool(mark[0]), in_fork(lambda: bool(mark[0]), fork)

        assert in_fork(of_child, fork) == (False, True, False)
        assert mark[0]

    def test_a_kernel_that_wipes_no_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Linux before 4.14, and other systems: the process's id tells."""
        monkeypatch.setattr(forks, "_MADV_WIPEONFORK", 9999)
        assert isinstance(forks.make_mark(), forks.ProcessIdMark)
        monkeypatch.setattr("sys.platform", "darwin")
        assert isinstance(forks.make_mark(), forks.ProcessIdMark)

    @each_fork
    def test_loggers_with_such_a_mark(
        self, make_logger: MakeLogger, monkeypatch: pytest.MonkeyPatch, fork: Fork
    ) -> None:
        """They notice as well."""
        mark = forks.ProcessIdMark()
        mark[0] = 1
        for module in ("shipping.forks", "api.logger"):
            monkeypatch.setattr(f"execution_logger.{module}.undivided", mark)
        delivery = MemoryDelivery()
        logger = make_logger(delivery, flush_interval_seconds=1000.0)
        record(logger, "of the parent")

        def log() -> list[str]:
            record(logger, "of the child")
            logger.sync.flush(DEADLINE_SECONDS)
            return messages(delivery)

        assert in_fork(log, fork) == ["of the child"]


class TestDropped:
    """A logger that nobody has any more."""

    def test_it_delivers_what_it_has_and_ends_its_thread(self) -> None:
        """Without a shutdown, which nobody can call any more; then all of it is collected."""
        delivery = MemoryDelivery()
        logger = ExecutionLogger(Settings(flush_interval_seconds=0.01), make_delivery=lambda: delivery)
        record(logger)
        reference = weakref.ref(pipeline_of(logger))
        del logger
        wait_until(lambda: messages(delivery) == ["hello"])
        wait_until(lambda: gc.collect() >= 0 and reference() is None)

    def test_one_that_has_nothing_left_to_deliver(self) -> None:
        """Its thread sleeps by then, and ends all the same."""
        logger = ExecutionLogger(Settings(), make_delivery=MemoryDelivery)
        record(logger)
        logger.sync.flush(DEADLINE_SECONDS)
        shipper = pipeline_of(logger).shipper
        assert shipper.is_alive
        del logger
        wait_until(lambda: not shipper.is_alive)

    def test_one_in_an_outage_goes_on_until_it_is_over(self) -> None:
        """What was accepted is delivered, and its thread has the time for it."""
        delivery = BlockedDelivery()
        logger = ExecutionLogger(Settings(batch_size=1), make_delivery=lambda: delivery)
        record(logger)
        delivery.wait_until_entered()
        shipper = pipeline_of(logger).shipper
        del logger
        gc.collect()
        assert shipper.is_alive
        delivery.open()
        wait_until(lambda: not shipper.is_alive)
        assert messages(delivery) == ["hello"]

    def test_a_logger_that_is_shut_down_and_used_again(self, make_logger: MakeLogger, tmp_path: Path) -> None:
        """Nothing of an earlier life stays in memory, neither files nor what would close them."""
        logger = make_logger(journal_directory=str(tmp_path))

        def kept() -> tuple[int, int]:
            record(logger)
            logger.sync.shutdown(DEADLINE_SECONDS)
            gc.collect()
            files = sum(type(each) is JournalFiles for each in gc.get_objects())
            return files, len(weakref.finalize._registry)  # type: ignore[attr-defined]

        assert kept() == [kept() for _ in range(5)][-1]

    def test_bound_ones_and_sync_ones_keep_it(self, make_logger: MakeLogger) -> None:
        """They log the same way; so does a block that is still open."""
        logger = ExecutionLogger(Settings(flush_interval_seconds=0.01), make_delivery=MemoryDelivery)
        record(logger)
        shipper = pipeline_of(logger).shipper
        kept: list[Any] = [logger.bind(step="s").sync]
        del logger
        gc.collect()
        assert kept[0].flush(DEADLINE_SECONDS).complete
        kept.append(kept[0].timed_operation("t", "agent", "x"))
        del kept[0]
        gc.collect()
        with kept[0]:
            assert shipper.is_alive
        kept.clear()
        wait_until(lambda: not shipper.is_alive)
