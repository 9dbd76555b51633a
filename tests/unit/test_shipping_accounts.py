"""What is dropped is counted, and reported once."""

import threading
from datetime import UTC, datetime, timedelta

import msgspec

from execution_logger import Settings
from execution_logger.entry.entry import LogEntry
from execution_logger.shipping.accounts import Accounts, DropSummary
from execution_logger.shipping.buffer import Buffer

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ENTRY = LogEntry("id", NOON, "task", "info", "agent", "message")


def entry(level: str = "info", seconds: int = 0) -> LogEntry:
    """An entry of this level, so many seconds after noon."""
    return msgspec.structs.replace(ENTRY, level=level, created_at=NOON + timedelta(seconds=seconds))


def test_nothing_was_dropped() -> None:
    """Then there is nothing to say."""
    accounts = Accounts(Buffer(Settings()))
    assert accounts.dropped == {}
    assert accounts.drop_summary() is None


def test_drops_are_counted_by_reason_and_level_and_time() -> None:
    """That is what somebody who misses entries wants to know."""
    accounts = Accounts(Buffer(Settings()))
    accounts.drop(entry("info", 1), "buffer_full")
    accounts.drop(entry("error", 2), "buffer_full")
    accounts.drop(entry("info", 3), "refused")
    summary = accounts.drop_summary()
    assert summary == DropSummary(
        {"buffer_full": 2, "refused": 1},
        {"info": 2, "error": 1},
        NOON + timedelta(seconds=1),
        NOON + timedelta(seconds=3),
    )
    assert summary.count == 3
    assert accounts.dropped == {"buffer_full": 2, "refused": 1}


def test_a_summary_is_a_sentence() -> None:
    """It is the message of the marker entry."""
    summary = DropSummary({"buffer_full": 3}, {"info": 2, "error": 1}, NOON, NOON + timedelta(seconds=1))
    assert str(summary) == (
        "3 log entries dropped (2 info, 1 error), "
        "2026-11-22 12:00:00+00:00 to 2026-11-22 12:00:01+00:00: buffer_full"
    )


def test_what_was_reported_is_not_reported_again() -> None:
    """The totals stay."""
    accounts = Accounts(Buffer(Settings()))
    accounts.drop(entry(), "buffer_full")
    summary = accounts.drop_summary()
    assert summary is not None
    accounts.reported(summary)
    assert accounts.drop_summary() is None
    assert accounts.dropped == {"buffer_full": 1}


def test_what_was_dropped_meanwhile_is_reported_next() -> None:
    """Between a summary and its report."""
    accounts = Accounts(Buffer(Settings()))
    accounts.drop(entry("info", 1), "buffer_full")
    summary = accounts.drop_summary()
    assert summary is not None
    accounts.drop(entry("error", 5), "buffer_full")
    accounts.reported(summary)
    rest = accounts.drop_summary()
    assert rest is not None
    assert (rest.reasons, rest.levels) == ({"buffer_full": 1}, {"error": 1})
    assert summary.last_at <= rest.first_at <= rest.last_at == NOON + timedelta(seconds=5)


def test_a_summary_does_not_change() -> None:
    """It is reported as it was taken."""
    accounts = Accounts(Buffer(Settings()))
    accounts.drop(entry(), "buffer_full")
    summary = accounts.drop_summary()
    accounts.drop(entry(), "buffer_full")
    assert summary is not None
    assert summary.count == 1


def test_threads_lose_no_count() -> None:
    """The account must be right however many of them log."""
    accounts = Accounts(Buffer(Settings()))
    together = threading.Barrier(4)

    def drop() -> None:
        together.wait()
        for _ in range(500):
            accounts.drop(entry(), "buffer_full")

    threads = [threading.Thread(target=drop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert accounts.dropped == {"buffer_full": 2000}
