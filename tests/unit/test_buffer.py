"""The bounded queue: nothing is lost, doubled or out of order; its deadline is that of its first entry."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles import DEADLINE_SECONDS, ManualClock, interrupted, lines_of, signals
from execution_logger import Settings
from execution_logger.entry.batch import Batch
from execution_logger.journal import Destination, Journal, NoJournal
from execution_logger.shipping.buffer import Buffer

ENTRY = b'"0123456789"'


def make_buffer(clock: Callable[[], float] | None = None, **settings: Any) -> Buffer:
    """A buffer with these settings."""
    return Buffer(Settings(max_entry_bytes=1024, **settings), "p", monotonic=clock or ManualClock())


class BottomlessJournal(Journal):
    """It takes everything."""

    def __init__(self, guard: AbstractContextManager[object]) -> None:
        super().__init__(Destination(Path(), ""), "p", Settings(), guard)
        self.lines: dict[int, bytes] = {}

    def append(self, number: int, encoded: bytes) -> bool:
        """Remember it."""
        self.lines[number] = encoded
        return True

    def read_batch(self, number: int, max_entries: int, max_bytes: int) -> Batch:
        """What it was given."""
        found = tuple(self.lines[each] for each in range(number, number + max_entries))
        return Batch(found, process="p", first=number)


def make_full_buffer() -> Buffer:
    """A buffer with a journal that takes nothing."""
    buffer = Buffer(Settings(max_entry_bytes=1024), "p", NoJournal, ManualClock())
    buffer._has_journal = True
    return buffer


def make_spilling_buffer() -> Buffer:
    """A buffer that leaves everything in the journal."""
    buffer = Buffer(Settings(max_entry_bytes=1024), "p", BottomlessJournal, ManualClock())
    buffer._window_entries = 0
    return buffer


def numbered(count: int, size: int = 0) -> list[bytes]:
    """Entries that can be told apart, of at least `size` bytes."""
    return [json.dumps(str(number).zfill(max(1, size - 2))).encode() for number in range(count)]


def drain(buffer: Buffer) -> Iterator[Batch]:
    """Take, send and settle until nothing waits."""
    while batch := buffer.take():
        yield batch
        buffer.sent(batch)
        buffer.settle(batch.first, batch.count)


class TestDeadline:
    """When a batch is due."""

    def test_an_empty_buffer_has_none(self) -> None:
        """Idle costs nothing: the thread waits without a limit."""
        assert make_buffer().seconds_until_due() == math.inf

    def test_the_first_entry_arms_it(self) -> None:
        """Two seconds by default, and later entries do not put it off."""
        clock = ManualClock()
        buffer = make_buffer(clock)
        buffer.put(ENTRY)
        assert buffer.seconds_until_due() == 2.0
        clock.advance(1.5)
        buffer.put(ENTRY)
        assert buffer.seconds_until_due() == 0.5
        clock.advance(0.5)
        assert buffer.seconds_until_due() == 0.0
        clock.advance(100.0)
        assert buffer.seconds_until_due() == 0.0

    def test_fifty_entries_are_due_at_once(self) -> None:
        """Forty-nine are not."""
        buffer = make_buffer()
        for entry in numbered(49):
            buffer.put(entry)
        assert buffer.seconds_until_due() == 2.0
        buffer.put(ENTRY)
        assert buffer.seconds_until_due() == 0.0

    def test_as_many_bytes_as_a_message_carries_are_due_at_once(self) -> None:
        """However few entries they are."""
        buffer = make_buffer(max_batch_bytes=3000)
        buffer.put(bytes(1000))
        buffer.put(bytes(1000))
        assert buffer.seconds_until_due() == 2.0
        buffer.put(bytes(1000))
        assert buffer.seconds_until_due() == 0.0

    def test_a_batch_that_was_taken_is_due(self) -> None:
        """Until it is sent; when to try again is the shipper's business."""
        buffer = make_buffer()
        buffer.put(ENTRY)
        batch = buffer.take()
        assert batch is not None
        assert buffer.seconds_until_due() == 0.0
        buffer.sent(batch)
        assert buffer.seconds_until_due() == math.inf

    def test_it_is_armed_anew_after_the_buffer_was_empty(self) -> None:
        """The two seconds are those of the entries that wait, not of those that are gone."""
        clock = ManualClock()
        buffer = make_buffer(clock)
        buffer.put(ENTRY)
        clock.advance(5.0)
        list(drain(buffer))
        clock.advance(5.0)
        buffer.put(ENTRY)
        assert buffer.seconds_until_due() == 2.0


class TestTake:
    """How much is taken at a time."""

    def test_nothing_from_an_empty_buffer(self) -> None:
        """There are no empty batches."""
        assert make_buffer().take() is None

    @pytest.mark.parametrize(
        ("waiting", "sizes"),
        [(1, [1]), (50, [50]), (51, [51]), (1000, [1000]), (1001, [1000, 1]), (2049, [1000, 1000, 49])],
    )
    def test_fifty_or_up_to_a_thousand_when_more_wait(self, waiting: int, sizes: list[int]) -> None:
        """After a jam, large batches are twice as cheap for the worker."""
        buffer = make_buffer()
        for entry in numbered(waiting):
            buffer.put(entry)
        assert [len(batch) for batch in drain(buffer)] == sizes

    def test_the_first_batch_has_fifty_although_more_come_later(self) -> None:
        """What is taken is what waits at that moment."""
        buffer = make_buffer()
        for entry in numbered(50):
            buffer.put(entry)
        batch = buffer.take()
        buffer.put(ENTRY)
        assert batch is not None
        assert len(batch) == 50

    def test_a_batch_is_not_larger_than_a_message(self) -> None:
        """The next entry would exceed the limit, so it is in the next batch; exactly full is full."""
        buffer = make_buffer(max_batch_bytes=3000)
        for _ in range(7):
            buffer.put(bytes(1000))
        assert [batch.size_bytes for batch in drain(buffer)] == [3000, 3000, 1000]
        buffer.put(bytes(1000))
        assert buffer.seconds_until_due() == 2.0, "what is gone does not count"

    @pytest.mark.parametrize("size", [262_144, 262_145])
    def test_an_entry_as_large_as_a_message_is_alone_in_it(self, size: int) -> None:
        """It must not block what comes after it."""
        buffer = Buffer(Settings(max_batch_bytes=262_144))
        for each in (10, size, 10):
            buffer.put(bytes(each))
        assert [batch.size_bytes for batch in drain(buffer)] == [10, size, 10]

    def test_the_same_batch_until_it_is_sent(self) -> None:
        """With the same id, whatever comes meanwhile: a retry is a repetition."""
        buffer = make_buffer()
        buffer.put(ENTRY)
        batch = buffer.take()
        buffer.put(ENTRY)
        assert batch is not None
        assert buffer.take() is batch
        buffer.sent(batch)
        following = buffer.take()
        assert following is not None
        assert following.id != batch.id
        assert following.entries == (ENTRY,)

    def test_memory_that_runs_out_costs_no_entry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What could not be taken is still there, in its order."""
        buffer = make_buffer()
        entries = numbered(60)
        for entry in entries:
            buffer.put(entry)

        def no_memory(*_: object, **__: object) -> Batch:
            raise MemoryError

        with monkeypatch.context() as patched:
            patched.setattr("execution_logger.shipping.buffer.Batch", no_memory)
            with pytest.raises(MemoryError):
                buffer.take()
        assert buffer.held == 60
        assert [entry for batch in drain(buffer) for entry in batch.entries] == entries
        assert (buffer.held, buffer.held_bytes) == (0, 0)


class TestBounds:
    """Memory is bounded, by entries and by bytes."""

    def test_by_entries(self) -> None:
        """What does not fit is refused, and costs nothing."""
        buffer = make_buffer(buffer_max_entries=3)
        assert [buffer.put(ENTRY) for _ in range(5)] == [1, 2, 3, 0, 0]
        assert buffer.held == buffer.queued == 3

    def test_by_bytes(self) -> None:
        """A smaller entry may still fit where a larger one does not."""
        buffer = make_buffer(buffer_max_bytes=2500)
        assert [buffer.put(bytes(size)) for size in (1000, 1000, 1000, 500, 1)] == [1, 2, 0, 3, 0]
        assert buffer.held_bytes == 2500

    def test_what_was_taken_and_is_not_sent_counts(self) -> None:
        """A batch in flight is in memory as well."""
        buffer = make_buffer(buffer_max_entries=3, buffer_max_bytes=3000)
        for _ in range(3):
            buffer.put(bytes(1000))
        batch = buffer.take()
        assert batch is not None
        assert buffer.put(b"1") == 0
        assert (buffer.held, buffer.held_bytes) == (3, 3000)
        buffer.sent(batch)
        assert buffer.put(b"1") == 1
        assert (buffer.held, buffer.held_bytes) == (1, 1)

    def test_sending_twice_counts_once(self) -> None:
        """An answer that comes twice must not make room that is not there."""
        buffer = make_buffer()
        buffer.put(ENTRY)
        buffer.put(ENTRY)
        batch = buffer.take()
        assert batch is not None
        buffer.sent(batch)
        buffer.sent(batch)
        assert (buffer.queued, buffer.delivered, buffer.held, buffer.held_bytes) == (2, 2, 0, 0)
        assert (buffer.memory_entries, buffer.memory_bytes) == (0, 0)


class TestInterruptions:
    """Calls that interrupt each other, in one thread and in many."""

    def test_threads_lose_and_double_nothing(self) -> None:
        """Each thread's entries keep their order, while another thread takes."""
        buffer, barrier, entries = make_buffer(batch_size=7, max_batch_entries=13), threading.Barrier(9), 500
        found: list[str] = []

        def put_all(thread: int) -> None:
            barrier.wait(DEADLINE_SECONDS)
            for number in range(entries):
                assert buffer.put(json.dumps(f"{thread}:{number}").encode())

        def take_all() -> None:
            barrier.wait(DEADLINE_SECONDS)
            while len(found) < 8 * entries:
                for batch in drain(buffer):
                    found.extend(json.loads(batch.to_json()))

        with ThreadPoolExecutor(9) as pool:
            for each in [pool.submit(take_all), *(pool.submit(put_all, thread) for thread in range(8))]:
                each.result(DEADLINE_SECONDS)
        for thread in range(8):
            own = [number for number in found if number.startswith(f"{thread}:")]
            assert own == [f"{thread}:{number}" for number in range(entries)]
        assert (buffer.queued, buffer.held, buffer.held_bytes) == (8 * entries, 0, 0)

    def test_a_signal_handler_may_put_while_an_entry_is_put(self) -> None:
        """No deadlock, no entry lost; and the thread hears of each, by its own number or by a 1."""
        buffer = make_buffer(buffer_max_entries=10**9, buffer_max_bytes=10**12)
        numbers: list[int] = []
        with signals(1000, lambda: numbers.append(buffer.put(ENTRY))) as over:
            while not over.is_set():
                numbers.append(buffer.put(ENTRY))
        assert_heard_of(numbers)
        assert sum(map(len, drain(buffer))) == buffer.queued == len(numbers)

    @pytest.mark.parametrize(
        ("make", "function"),
        [
            (make_full_buffer, Buffer.put),
            (make_buffer, Buffer._put),
            (make_full_buffer, Buffer._put),
            (make_spilling_buffer, Buffer._spill),
        ],
        ids=lambda each: each.__qualname__,
    )
    def test_an_interruption_at_any_line_loses_no_entry(
        self, make: Callable[[], Buffer], function: Callable[..., int]
    ) -> None:
        """Another entry is put before each line in turn, as by a signal handler or a destructor."""
        interruptions = 0
        for line in lines_of(function):
            buffer, numbers = make(), list[int]()
            with interrupted(function, line, lambda: numbers.append(buffer.put(ENTRY))):  # noqa: B023
                numbers.append(buffer.put(ENTRY))
            interruptions += len(numbers) - 1
            numbers.append(buffer.put(ENTRY))
            assert_heard_of(numbers)
            assert buffer.held_bytes == len(numbers) * len(ENTRY), f"line {line}"
            assert sum(map(len, drain(buffer))) == len(numbers)
        assert interruptions > 5, "it has more lines than that, and all but one of them run"

    @pytest.mark.parametrize(
        ("make", "name"),
        [(make_buffer, "_monotonic"), (make_full_buffer, "_monotonic"), (make_full_buffer, "_put")],
    )
    def test_the_entry_of_a_handler_that_logs_and_raises_is_kept(
        self, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Buffer], name: str
    ) -> None:
        """Handlers of SIGTERM do that: the call they have interrupted is no reason to lose theirs."""
        buffer = make()

        def handle(*_: object, **__: object) -> bool:
            monkeypatch.undo()
            assert buffer.put(b'"handler"')
            raise KeyboardInterrupt

        monkeypatch.setattr(buffer, name, handle)
        with pytest.raises(KeyboardInterrupt):
            buffer.put(b'"interrupted"')
        assert buffer.queued == 1, "without waiting for another call"
        assert buffer.put(b'"next"')
        assert [each for batch in drain(buffer) for each in batch.entries] == [b'"handler"', b'"next"']
        assert (buffer.held, buffer.held_bytes, buffer.memory_bytes) == (0, 0, 0)

    def test_an_entry_of_a_handlers_without_room_counts_as_one_that_was_not_taken(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Calls are as many as entries that wait and calls that were told that theirs does not."""
        buffer = make_buffer(buffer_max_entries=1)
        answers: list[int] = []

        def handle() -> float:
            monkeypatch.undo()
            answers.append(buffer.put(b'"handler"'))
            return 0.0

        monkeypatch.setattr(buffer, "_monotonic", handle)
        answers.append(buffer.put(b'"interrupted"'))
        assert buffer.queued == 1
        assert answers.count(0) == 1


def assert_heard_of(numbers: list[int]) -> None:
    """None was refused, and no number but 1, which always wakes the thread, was returned twice."""
    others = [number for number in numbers if number != 1]
    assert all(numbers)
    assert len(set(others)) == len(others)
    assert numbers.count(1)


class TestNumbers:
    """Entries are numbered from 1, as they come."""

    def test_a_batch_tells_its_process_and_its_first_number(self) -> None:
        """With which the worker keeps its ledger."""
        buffer = make_buffer(batch_size=2, max_batch_entries=2)
        assert buffer.next_number() == 1
        for entry in numbered(5):
            buffer.put(entry)
        batches = list(drain(buffer))
        assert [(batch.process, batch.first, len(batch)) for batch in batches] == [
            ("p", 1, 2), ("p", 3, 2), ("p", 5, 1),
        ]  # fmt: skip
        assert buffer.next_number() == 6

    def test_an_entry_that_was_refused_has_no_number(self) -> None:
        """Or an audit would look for it."""
        buffer = make_buffer(buffer_max_entries=1)
        assert [buffer.put(ENTRY), buffer.put(ENTRY)] == [1, 0]
        assert [batch.first for batch in drain(buffer)] == [1]
        buffer.put(ENTRY)
        assert [batch.first for batch in drain(buffer)] == [2]

    def test_settled_is_up_to_where_all_are_safe(self) -> None:
        """In whatever order they are confirmed."""
        buffer = make_buffer(batch_size=1, max_batch_entries=1)
        for entry in numbered(3):
            buffer.put(entry)
        while batch := buffer.take():
            buffer.sent(batch, awaited_since=0.0)
        assert (buffer.delivered, buffer.settled) == (3, 0)
        buffer.settle(2, 2)
        assert buffer.settled == 0
        buffer.settle(1, 1)
        assert buffer.settled == 3

    def test_without_a_journal_it_keeps_nothing_that_was_sent(self) -> None:
        """Whoever waits for a confirmation keeps the entries."""
        buffer = make_buffer()
        buffer.put(ENTRY)
        assert not buffer.keeps(1, 1)
        assert buffer.read_again(1, 1) == ()
        assert not buffer.keeps_all


@given(
    sizes=st.lists(st.integers(1, 400), max_size=60),
    batch_size=st.integers(1, 8),
    more=st.integers(0, 8),
    max_batch_bytes=st.integers(1024, 2000),
)
def test_any_entries_come_out_as_they_went_in(
    sizes: list[int], batch_size: int, more: int, max_batch_bytes: int
) -> None:
    """In their order, each once, in batches within every limit, and none is smaller than it need be."""
    max_batch_entries = batch_size + more
    buffer = make_buffer(
        batch_size=batch_size, max_batch_entries=max_batch_entries, max_batch_bytes=max_batch_bytes
    )
    entries = [number.to_bytes(2) + bytes(size) for number, size in enumerate(sizes)]
    for entry in entries:
        buffer.put(entry)
    batches = list(drain(buffer))
    assert [entry for batch in batches for entry in batch.entries] == entries
    for batch in batches:
        assert len(batch) <= max_batch_entries
        assert batch.size_bytes <= max_batch_bytes
    for batch, following in pairwise(batches):
        too_large = batch.size_bytes + len(following.entries[0]) > max_batch_bytes
        assert len(batch) >= batch_size or too_large
