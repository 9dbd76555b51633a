"""What a worker counts, over all its processes."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from children import in_fork
from execution_logger.store import WriteResult
from execution_logger.worker.counters import WorkerCounters


def test_what_is_written_is_counted() -> None:
    """Rows that are new, those that were there, and those that the database refuses."""
    counters = WorkerCounters()
    counters.written(WriteResult(stored=48, duplicates=1, dead_lettered=1), 0.02)
    counters.written(WriteResult(stored=2), 3)
    figures = counters.figures()
    assert figures.numbers == {
        "batches_written": 2,
        "rows_stored": 50,
        "rows_duplicate": 1,
        "entries_dead_lettered": 1,
        "batches_requeued": 0,
        "write_failures": 0,
        "batches_in_hand": 0,
    }
    assert figures.database_down_seconds == 0
    assert figures.batch_entries["sum"] == 52
    assert figures.batch_entries["buckets"]["50"] == 2
    assert figures.write_seconds["buckets"]["0.025"] == 1
    assert figures.write_seconds["sum"] == 3.02


def test_a_batch_is_in_hand_until_it_is_done() -> None:
    """And goes back to the queue when it ends in an error."""
    counters = WorkerCounters()
    with counters.in_hand(), counters.in_hand():
        assert counters.figures().numbers["batches_in_hand"] == 2
    with pytest.raises(ZeroDivisionError), counters.in_hand():
        raise ZeroDivisionError
    numbers = counters.figures().numbers
    assert (numbers["batches_in_hand"], numbers["batches_requeued"]) == (0, 1)


def test_an_outage_lasts_from_the_first_failure_to_the_next_batch() -> None:
    """However many attempts fail meanwhile."""
    counters = WorkerCounters()
    counters.failed()
    first = counters.figures().database_down_seconds
    counters.failed()
    second = counters.figures()
    assert 0 < first < second.database_down_seconds
    assert second.numbers["write_failures"] == 2
    counters.written(WriteResult(stored=1), 0.1)
    assert counters.figures().database_down_seconds == 0


def test_whoever_writes_a_batch_ends_the_outage_for_all() -> None:
    """The child that has met it may be given no other batch for days; a later outage is another one."""
    counters = WorkerCounters()

    def fail(place: int) -> None:
        counters.enter(place)
        counters.failed()

    def write(place: int) -> None:
        counters.enter(place)
        counters.written(WriteResult(stored=1), 0.1)

    in_fork(partial(fail, 1))
    first = counters.figures().database_down_seconds
    in_fork(partial(fail, 2))
    assert counters.figures().database_down_seconds > first > 0, "it began with the first one"
    in_fork(partial(write, 2))
    assert counters.figures().database_down_seconds == 0
    written_at = time.monotonic()
    in_fork(partial(fail, 1))
    assert 0 < counters.figures().database_down_seconds < time.monotonic() - written_at


def test_forked_children_count_for_their_parent() -> None:
    """Each in its own row; also what they have counted by the time they are killed, as these are."""
    counters = WorkerCounters()

    def write(place: int) -> None:
        counters.enter(place)
        counters.written(WriteResult(stored=place), 0.1)

    for place in (1, 2, 2):
        in_fork(partial(write, place))
    assert counters.figures().numbers["rows_stored"] == 5
    assert counters.figures().batch_entries["count"] == 3


def test_who_takes_a_dead_childs_place_has_nothing_in_hand() -> None:
    """What the dead one had comes again by itself; that the database is away is true all the same."""
    counters, held = WorkerCounters(), []

    def die() -> None:
        counters.enter(1)
        held.append(counters.in_hand())
        held[0].__enter__()
        counters.failed()

    in_fork(die)
    figures = counters.figures()
    assert figures.numbers["batches_in_hand"] == 1
    assert figures.database_down_seconds > 0
    in_fork(lambda: counters.enter(1))
    figures = counters.figures()
    assert (figures.numbers["batches_in_hand"], figures.numbers["write_failures"]) == (0, 1)
    assert figures.database_down_seconds > 0


def test_a_fork_in_the_middle_of_counting_does_not_hang() -> None:
    """The lock of the parent's thread is not the child's."""
    counters = WorkerCounters()

    def count() -> None:
        counters.enter(1)
        counters.failed()

    with counters._lock:
        in_fork(count)
    assert counters.figures().numbers["write_failures"] == 1


def test_threads_lose_no_count() -> None:
    """All threads of a pool count in one row."""
    counters = WorkerCounters()
    together = threading.Barrier(4)

    def write() -> None:
        together.wait()
        for _ in range(500):
            with counters.in_hand():
                counters.written(WriteResult(stored=3), 0.001)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(write) for _ in range(4)]:
            future.result()
    numbers = counters.figures().numbers
    assert (numbers["rows_stored"], numbers["batches_written"], numbers["batches_in_hand"]) == (6000, 2000, 0)


def test_more_children_than_rows_share_them() -> None:
    """None is turned away."""
    counters = WorkerCounters()
    counters.enter(100_000)
    counters.failed()
    assert counters.figures().numbers["write_failures"] == 1
