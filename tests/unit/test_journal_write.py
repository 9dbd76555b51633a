"""Writing without letting go of the interpreter: what `os.write` does, and nothing else."""

import errno
import os
from pathlib import Path

import pytest

from execution_logger.journal import segment as module
from execution_logger.journal.segment import write


@pytest.fixture(params=["the C library", "os"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to write; the second one is that of systems which lack the first."""
    if request.param == "os":
        monkeypatch.setattr(module, "_c_write", None)
    return str(request.param)


@pytest.mark.parametrize("data", [b"", b"line\n", b"a\0b\xff\n", b"x" * 3_000_000])
def test_all_bytes_are_written(way: str, data: bytes, tmp_path: Path) -> None:
    """Whatever they are, those after a NUL too; at the end of the file, if it is opened for that."""
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        assert write(fd, b"first\n") == 6
        assert write(fd, data) == len(data)
    finally:
        os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"first\n" + data


def test_errors_are_those_of_the_system(way: str, tmp_path: Path) -> None:
    """With their number, as of any other call."""
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor") as failed:
            write(fd, b"x")
    finally:
        os.close(fd)
    assert failed.value.errno == errno.EBADF


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk(way: str) -> None:
    """It says so."""
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space left"):
            write(fd, b"x")
    finally:
        os.close(fd)
