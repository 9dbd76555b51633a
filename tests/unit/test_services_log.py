"""Logs of services: bounded, complete, and readable while they grow."""

import errno
import io
from pathlib import Path

import pytest

from execution_logger.operate.services.log import Log
from execution_logger.operate.services.tail import Tail, last_lines

LINES = [f"line {number}" for number in range(1000)]


class FullDisk(io.TextIOWrapper):
    """A file that has no room."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO())

    def write(self, text: str) -> int:
        """Fail as the disk does."""
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "log"


def write(path: Path, lines: list[str], file_bytes: int = 5_000) -> None:
    """Append to the log, which is then closed."""
    log = Log(path, file_bytes=file_bytes, older_files=3)
    for line in lines:
        log.write(line)
    log.close()


def test_no_line_is_lost_when_a_file_is_full(path: Path) -> None:
    """The older file has what came before, and no line is in two parts."""
    write(path, LINES)
    older = path.with_name("log.1").read_text().splitlines()
    assert older + path.read_text().splitlines() == LINES


def test_the_size_is_bounded(path: Path) -> None:
    """The oldest lines go, the newest stay."""
    write(path, LINES * 20)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["log", "log.1", "log.2", "log.3"]
    assert all(file.stat().st_size <= 5_000 for file in files)
    assert path.read_text().endswith("line 999\n")


def test_what_is_no_text_of_ours_is_written_as_it_is(path: Path) -> None:
    """Percent signs and braces are no format."""
    write(path, ["100 % {x} %s", "", "日本"])
    assert path.read_text(encoding="utf-8") == "100 % {x} %s\n\n日本\n"


def test_a_full_disk_stops_nothing_and_is_told_later(path: Path) -> None:
    """The line that finds room says that some are missing, and why."""
    log = Log(path)
    log.write("before")
    stream, log.stream = log.stream, FullDisk()
    log.write("lost")
    log.write("lost")
    log.stream = stream
    log.write("after")
    log.close()
    before, missing, after = path.read_text().splitlines()
    assert (before, after) == ("before", "after")
    assert missing.startswith("[lines are missing here: ")
    assert "No space left on device" in missing


def test_the_last_lines_are_also_those_of_the_older_file(path: Path) -> None:
    """A file that has just been begun shows nothing of what came before."""
    write(path, LINES)
    assert len(path.read_text().splitlines()) < 600
    assert last_lines(path, 600) == LINES[-600:]
    assert last_lines(path, 2) == LINES[-2:]
    assert last_lines(path, 0) == []
    assert last_lines(path.with_name("nothing"), 5) == []


def test_a_tail_goes_on_with_what_is_added(path: Path) -> None:
    """First the last lines, then the new ones, each once."""
    write(path, LINES[:10])
    with Tail(path, 3) as tail:
        assert tail.read() == LINES[7:10]
        assert tail.read() == []
        write(path, LINES[10:12])
        assert tail.read() == LINES[10:12]


def test_a_tail_goes_on_in_the_next_file(path: Path) -> None:
    """What came before the change is read to its end."""
    write(path, LINES[:800])
    with Tail(path, 0) as tail:
        assert tail.read() == []
        write(path, LINES[800:])
        assert tail.read() == LINES[800:]
        assert path.with_name("log.1").exists()


def test_a_line_is_shown_when_it_is_whole(path: Path) -> None:
    """And a log when there is one."""
    with Tail(path, 5) as tail:
        assert tail.read() == []
        path.write_text("half of")
        assert tail.read() == []
        with path.open("a") as file:
            file.write(" a line\n")
        assert tail.read() == ["half of a line"]


def test_a_tail_of_nothing_shows_only_what_is_new(path: Path) -> None:
    """Zero lines of those that there are."""
    write(path, LINES[:10])
    with Tail(path, 0) as tail:
        assert tail.read() == []
