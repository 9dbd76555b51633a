"""Which batches were sent, and up to where all is safe: saved when possible, and of use after a death."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_logger.journal.marks import NAME, Marks, SentMark, SettledMark
from execution_logger.journal.segment import line_of

SETTLED = line_of(b'{"mark":"settled","number":7}')[:-1]


@pytest.fixture
def marks(tmp_path: Path) -> Iterator[Marks]:
    """Those of an empty folder."""
    with ExitStack() as stack:
        marks = Marks(tmp_path)
        stack.callback(marks.close)
        yield marks


def mark(number: int, count: int = 10) -> SentMark:
    """That of the batch that begins with this entry."""
    return SentMark(f"batch-{number}", number, count, 1000.0 + number)


def test_what_was_added_is_read(marks: Marks, tmp_path: Path) -> None:
    """In the order of sending."""
    for number in (1, 11, 21):
        marks.add(mark(number))
    marks.add(SettledMark(10))
    read = Marks.read(tmp_path)
    assert list(read.sent.values()) == [mark(11), mark(21)]
    assert read.settled == 10


def test_a_person_can_read_them(marks: Marks, tmp_path: Path) -> None:
    """One line each, with its checksum; only this user."""
    marks.add(mark(1))
    marks.add(SettledMark(10))
    path = tmp_path / NAME
    assert path.read_text().splitlines() == [
        '{"mark":"sent","id":"batch-1","first":1,"count":10,"at":1001.0}\tcaee4d43',
        '{"mark":"settled","number":10}\t97bae0d1',
    ]
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    """And reading makes none."""
    read = Marks.read(tmp_path)
    assert (read.settled, read.sent) == (0, {})
    assert list(tmp_path.iterdir()) == []


def test_settled_never_goes_back(marks: Marks, tmp_path: Path) -> None:
    """An older mark that comes later changes nothing."""
    marks.add(SettledMark(10))
    marks.add(SettledMark(5))
    assert marks.settled == Marks.read(tmp_path).settled == 10


def test_the_file_does_not_grow_for_ever(marks: Marks, tmp_path: Path) -> None:
    """A process that sends for months has a file of what still matters."""
    for number in range(1, 50_000, 10):
        marks.add(mark(number))
        marks.add(SettledMark(number + 9))
    assert (tmp_path / NAME).stat().st_size < 200_000
    assert Marks.read(tmp_path).settled == 50_000 - 50_000 % 10
    assert Marks.read(tmp_path).sent == {}


def test_many_that_still_matter_are_not_written_again_and_again(marks: Marks, tmp_path: Path) -> None:
    """In an outage of the workers, each is written about twice at most, and none is lost."""
    for number in range(1, 50_000, 10):
        marks.add(mark(number))
    assert len(Marks.read(tmp_path).sent) == 5000


def test_a_disk_that_takes_nothing_is_no_error(tmp_path: Path) -> None:
    """It saves work, and no entry depends on it."""
    marks = Marks(tmp_path / "missing")
    marks.add(mark(1))
    marks.add(SettledMark(10))
    marks.rewrite()
    assert marks.settled == 10
    marks.close()


def test_a_deleted_file_is_written_anew(marks: Marks, tmp_path: Path) -> None:
    """With all that still matters."""
    marks.add(mark(1))
    marks.add(mark(11))
    marks.add(SettledMark(10))
    (tmp_path / NAME).unlink()
    marks.rewrite()
    marks.add(mark(21))
    read = Marks.read(tmp_path)
    assert (read.settled, list(read.sent)) == (10, ["batch-11", "batch-21"])


def test_removed_twice_is_removed(marks: Marks, tmp_path: Path) -> None:
    """Whoever deletes a journal need not know who was faster."""
    marks.add(mark(1))
    marks.remove()
    marks.remove()
    assert list(tmp_path.iterdir()) == []


@given(content=st.lists(st.binary(max_size=30) | st.just(SETTLED), max_size=10))
def test_any_bytes_are_read(tmp_path_factory: pytest.TempPathFactory, content: list[bytes]) -> None:
    """What makes no sense is passed over; what does counts, wherever it stands."""
    folder = tmp_path_factory.mktemp("marks")
    (folder / NAME).write_bytes(b"\n".join(content))
    read = Marks.read(folder)
    assert read.settled == (7 if SETTLED in content else 0)
    assert read.sent == {}
