"""One file of a journal: whole lines or none, whatever happens while they are written."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_logger.journal.segment import Segment, line_of
from journals import entries, measured, replace_write

ENTRIES = entries(1, 5)
LINES = [line_of(each) for each in ENTRIES]


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Closes what a test opens."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def segment(tmp_path: Path, closing: ExitStack) -> Segment:
    """A new one, whose first line has number 7."""
    segment = Segment.create(tmp_path, 7)
    closing.callback(segment.close)
    return segment


def content_of(segment: Segment) -> bytes:
    """What is on the disk."""
    return segment.path.read_bytes()


class TestNew:
    """A segment that is written."""

    def test_its_name_is_the_number_of_its_first_line(self, segment: Segment) -> None:
        """Sorted by name, files are in the order of their entries; only this user can read them."""
        assert segment.path.name == "00000000000000000007.entries"
        assert segment.path.stat().st_mode & 0o777 == 0o600
        assert (segment.first, segment.next, segment.count, segment.size_bytes) == (7, 7, 0, 0)

    def test_lines_are_on_the_disk_at_once(self, segment: Segment) -> None:
        """As they are, each with its checksum: a person can read them."""
        for each in ENTRIES:
            segment.append(each)
        assert content_of(segment) == b"".join(LINES)
        assert (segment.next, segment.count, segment.size_bytes) == (12, 5, len(b"".join(LINES)))

    def test_one_that_is_there_is_not_overwritten(self, segment: Segment, tmp_path: Path) -> None:
        """It is somebody's entries."""
        with pytest.raises(FileExistsError):
            Segment.create(tmp_path, 7)

    def test_it_can_be_cleared(self, segment: Segment) -> None:
        """And written again from its first number on."""
        segment.append(ENTRIES[0])
        segment.clear()
        segment.append(ENTRIES[1])
        assert content_of(segment) == LINES[1]
        assert segment.next == 8

    def test_it_can_be_synced_and_removed(self, tmp_path: Path) -> None:
        """Removing what is gone already is no error."""
        for is_gone in (False, True):
            segment = Segment.create(tmp_path, 1)
            segment.append(ENTRIES[0])
            segment.sync()
            if is_gone:
                segment.path.unlink()
            segment.remove()
            assert not segment.path.exists()


class TestInterruptedWrites:
    """A line is written whole, or not at all."""

    def test_without_room_for_all_of_it(self, segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was written of it is taken back, so that the next line is a line."""
        segment.append(ENTRIES[0])
        write = os.write
        with monkeypatch.context() as patched:
            replace_write(patched, lambda fd, line: write(fd, line[:5]))
            with pytest.raises(OSError, match="No space left") as failed:
                segment.append(ENTRIES[1])
        assert failed.value.errno == errno.ENOSPC
        segment.append(ENTRIES[2])
        assert content_of(segment) == LINES[0] + LINES[2]
        assert segment.next == 9

    @pytest.mark.parametrize("written", [0, 5, None])
    def test_by_a_handler_that_raises(
        self, segment: Segment, monkeypatch: pytest.MonkeyPatch, written: int | None
    ) -> None:
        """Ctrl-C comes before, within or after the write: the numbers of the following lines are right."""
        segment.append(ENTRIES[0])
        write = os.write

        def interrupted(fd: int, line: bytes) -> int:
            write(fd, line[:written])
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            replace_write(patched, interrupted)
            with pytest.raises(KeyboardInterrupt):
                segment.append(ENTRIES[1])
        segment.append(ENTRIES[2])
        assert content_of(segment) == LINES[0] + LINES[2]
        assert (segment.count, segment.size_bytes) == (2, len(LINES[0] + LINES[2]))


class TestLeft:
    """What another process has left."""

    @given(cut=st.integers(0, 200), sizes=st.lists(st.integers(0, 50), max_size=8))
    def test_a_torn_end_does_not_count(
        self, tmp_path_factory: pytest.TempPathFactory, cut: int, sizes: list[int]
    ) -> None:
        """Wherever it is cut, the complete lines are those before the cut."""
        content = b"".join(b"x" * size + b"\n" for size in sizes)[:cut]
        path = tmp_path_factory.mktemp("left") / "00000000000000000003.ndjson"
        path.write_bytes(content)
        segment = measured(path)
        try:
            assert segment.first == 3
            assert segment.count == content.count(b"\n")
            assert segment.size_bytes == content.rfind(b"\n") + 1
        finally:
            segment.close()

    @pytest.mark.parametrize("size", [1_048_575, 1_048_576, 1_048_577, 3_000_000])
    def test_lines_of_any_size(self, tmp_path: Path, closing: ExitStack, size: int) -> None:
        """It is read in pieces, and a line may be in several of them."""
        path = tmp_path / "00000000000000000001.ndjson"
        path.write_bytes(b"a\n" + b"x" * size + b"\nb\nc")
        segment = measured(path)
        closing.callback(segment.close)
        assert (segment.count, segment.size_bytes) == (3, size + 5)

    @pytest.mark.parametrize("size", [1_048_576, 3_000_000])
    def test_a_long_end_without_a_line_break(self, tmp_path: Path, closing: ExitStack, size: int) -> None:
        """It is no line, and the lines before it count."""
        path = tmp_path / "00000000000000000001.ndjson"
        path.write_bytes(b"a\nb\n" + b"\0" * size)
        segment = measured(path)
        closing.callback(segment.close)
        assert segment.count == 2


class TestDeleted:
    """A file that somebody deletes while it is used."""

    def test_it_is_written_anew(self, segment: Segment, tmp_path: Path) -> None:
        """With all that was in it, and what comes afterwards."""
        segment.append(ENTRIES[0])
        assert segment.is_in(tmp_path)
        segment.path.unlink()
        assert not segment.is_in(tmp_path)
        segment.append(ENTRIES[1])
        segment.restore(tmp_path)
        segment.append(ENTRIES[2])
        assert segment.is_in(tmp_path)
        assert content_of(segment) == b"".join(LINES[:3])
        assert segment.path.stat().st_mode & 0o777 == 0o600

    def test_one_that_is_there_stays(self, segment: Segment, tmp_path: Path) -> None:
        """As the same file."""
        segment.append(ENTRIES[0])
        before = segment.path.stat().st_ino
        segment.restore(tmp_path)
        assert segment.path.stat().st_ino == before

    def test_another_file_of_its_name_is_not_it(self, segment: Segment, tmp_path: Path) -> None:
        """Nor is it overwritten."""
        segment.path.unlink()
        segment.path.write_bytes(b"?")
        assert not segment.is_in(tmp_path)
        with pytest.raises(FileExistsError):
            segment.restore(tmp_path)
        assert segment.path.read_bytes() == b"?"

    def test_a_disk_without_room_for_it(
        self, segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Half a file is none: the open one is kept, and it is tried again."""
        for each in ENTRIES:
            segment.append(each)
        segment.path.unlink()
        write = os.write
        with monkeypatch.context() as patched:
            replace_write(patched, lambda fd, data: write(fd, data[:20]))
            with pytest.raises(OSError, match="No space left"):
                segment.restore(tmp_path)
        assert list(tmp_path.iterdir()) == []
        assert segment.read(0, 1000) == b"".join(LINES)
        segment.restore(tmp_path)
        assert content_of(segment) == b"".join(LINES)

    def test_a_disk_that_lets_nothing_be_deleted(
        self, segment: Segment, monkeypatch: pytest.MonkeyPatch, closing: ExitStack
    ) -> None:
        """As one that was mounted read-only: the file is closed, once, and stays."""
        closing.pop_all()

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", refuse)
            segment.remove()
        assert segment.path.exists()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(segment.fd)
