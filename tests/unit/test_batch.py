"""What one message carries."""

from execution_logger.batch import Batch

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
