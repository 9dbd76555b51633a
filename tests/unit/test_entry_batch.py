"""What one message carries."""

import pytest

from execution_logger.entry.batch import Batch, recorded_at

ENTRY = b'"0123456789"'


def test_its_json_is_an_array_of_the_entries() -> None:
    """They are joined, and not encoded again."""
    batch = Batch((b'{"a":1}', '{"b":"学"}'.encode()))
    assert batch.to_json() == '[{"a":1},{"b":"学"}]'
    assert len(batch) == 2
    assert batch.size_bytes == 7 + len('{"b":"学"}'.encode())


def test_each_has_an_id_of_its_own() -> None:
    """The id is the message's: two batches with the same entries are two messages."""
    assert len({Batch((ENTRY,)).id for _ in range(100)}) == 100


def test_ids_come_in_their_order() -> None:
    """Rows of the ledger that are written together are near each other in its index."""
    ids = [Batch((ENTRY,)).id for _ in range(100)]
    assert ids == sorted(ids)


def test_missing_entries_count() -> None:
    """The numbers that it covers are those of the process, whether they can be read or not."""
    batch = Batch((ENTRY, ENTRY), process="p", first=5, missing=3)
    assert (len(batch), batch.count) == (2, 5)
    assert Batch((), missing=3).count == 3
    assert Batch(()).to_json() == "[]"


@pytest.mark.parametrize(
    "time",
    [
        '"0001-01-01T00:00:00"', '"9999-12-31T23:59:59"', '"2026-11-28T19:00:00"', '"yesterday"',
        '"2026-13-45T19:00:00Z"', "12", "null", "[" * 100_000,
    ],
)  # fmt: skip
def test_a_time_that_cannot_be_read_is_none(time: str) -> None:
    """It stands in somebody's file, and nothing may fail because of it."""
    assert recorded_at(b'{"created_at":' + time.encode() + b"}") is None


def test_the_time_of_an_entry_is_read() -> None:
    """Whatever its zone, also before 1970."""
    assert recorded_at(b'{"created_at":"1970-01-01T01:00:00+01:00"}') == 0.0
    assert (recorded_at(b'{"created_at":"0001-01-01T00:00:00Z"}') or 0) < 0
