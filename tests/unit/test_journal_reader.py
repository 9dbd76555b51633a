"""Reading a journal: every line that is there, in its order, whatever the files look like."""

import os
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_logger.journal import segment as module
from execution_logger.journal.segment import Reader, Segment
from journals import measured

MANY = 1_000_000


def write(folder: Path, first: int, lines: list[bytes], tail: bytes = b"") -> Path:
    """A segment's file."""
    path = folder / f"{first:020}.entries"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + tail)
    return path


def read_all(reader: Reader, max_lines: int, max_bytes: int, number: int = 1) -> list[tuple[int, bytes]]:
    """Every line with its number, in reads of at most so much."""
    found: list[tuple[int, bytes]] = []
    while (lines := reader.read(number, max_lines, max_bytes)) is not None:
        assert 1 <= len(lines.lines) <= max_lines
        assert sum(map(len, lines.lines)) <= max_bytes or len(lines.lines) == 1
        assert lines.first >= number
        found += enumerate(lines.lines, lines.first)
        number = lines.next
    return found


@given(
    sizes=st.lists(st.integers(0, 40), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    tails=st.lists(st.binary(max_size=30).filter(lambda tail: b"\n" not in tail), min_size=7, max_size=7),
    gaps=st.lists(st.integers(0, 3), min_size=7, max_size=7),
    ghosts=st.lists(st.integers(0, 2), min_size=7, max_size=7),
    max_lines=st.integers(1, 50),
    max_bytes=st.integers(1, 300),
    chunk_bytes=st.integers(1, 200),
)
def test_any_segments_are_read_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    cuts: list[int],
    tails: list[bytes],
    gaps: list[int],
    ghosts: list[int],
    max_lines: int,
    max_bytes: int,
    chunk_bytes: int,
) -> None:
    """However they are spread, with torn ends, gaps, and lines whose calls never returned."""
    folder = tmp_path_factory.mktemp("journal")
    lines = [b"%d:" % index + b"x" * size for index, size in enumerate(sizes)]
    bounds = [0, *sorted(min(cut, len(lines)) for cut in cuts), len(lines)]
    expected: list[tuple[int, bytes]] = []
    number = 1
    paths: list[Path] = []
    for place, (start, end) in enumerate(pairwise(bounds)):
        own = lines[start:end]
        is_followed = bounds[place + 2 : place + 3] > [end]
        # A segment that was begun after such a line has another one of its number.
        ghost = [b"ghost"] * ghosts[place] if own and is_followed and not gaps[place] else []
        paths.append(write(folder, number, own + ghost, tails[place]))
        expected += enumerate(own, number)
        number += len(own) + gaps[place] + (not own)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_LEAST_CHUNK_BYTES", chunk_bytes)
        segments = [stack.enter_context(closing(measured(path))) for path in paths]
        reader = Reader(segments)
        assert read_all(reader, max_lines, max_bytes) == expected
        for number, line in reversed(expected):
            found = reader.read(number, 1, 1)
            assert found is not None
            assert (found.first, found.lines) == (number, (line,)), "in any order"


def test_it_follows_a_segment_that_is_written(tmp_path: Path) -> None:
    """Behind the last line there is nothing, until there is."""
    with closing(Segment.create(tmp_path, 1)) as segment:
        reader = Reader([segment])
        assert reader.read(1, 10, MANY) is None
        for number in range(1, 100):
            segment.append(b"%d" % number)
            found = reader.read(number, 10, MANY)
            assert found is not None
            assert found.split() == ([b"%d" % number], [])
            assert reader.read(number + 1, 10, MANY) is None


def test_a_line_larger_than_what_is_asked_for(tmp_path: Path) -> None:
    """It comes alone: at least one line, whatever its size."""
    path = write(tmp_path, 1, [b"a", b"x" * 3_000_000, b"b"])
    with closing(measured(path)) as segment:
        assert [len(line) for _, line in read_all(Reader([segment]), 10, 1000)] == [1, 3_000_000, 1]


def test_segments_may_go_while_it_reads(tmp_path: Path) -> None:
    """Those that are settled are closed and gone; the next one is read."""
    segments = [measured(write(tmp_path, first, [b"%d" % first, b"x"])) for first in (1, 3)]
    reader = Reader(segments)
    reader.read(1, 1, MANY)
    segments.pop(0).remove()
    found = reader.read(3, 2, MANY)
    assert found is not None
    assert found.lines == (b"3", b"x")
    segments.pop().close()


def test_lines_that_cannot_be_read_any_more(tmp_path: Path) -> None:
    """Somebody has cut the file: an error, and it tells how many there should be."""
    path = write(tmp_path, 1, [b"a" * 1000] * 5)
    with closing(measured(path)) as segment:
        reader = Reader([segment])
        os.truncate(path, 2500)
        found = reader.read(1, 2, MANY)
        assert found is not None
        assert found.next == 3
        with pytest.raises(OSError, match="cannot be read any more"):
            reader.read(4, 1, MANY)
        assert reader.rest_of_segment(4) == 2
        assert reader.rest_of_segment(6) == 0
