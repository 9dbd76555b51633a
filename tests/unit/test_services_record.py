"""Records: they speak of living processes only as long as these live."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from children import in_fork
from execution_logger.operate.services.record import Claim, Record, note_end, read_record, send_signal

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the record is."""
    return tmp_path / "record.json"


def leave_behind(path: Path, pid: int) -> Record:
    """A record whose process has ended without a word, and whose number another one has now."""
    record = Record(pid=pid, about="a queue", started_at=LONG_AGO)
    path.write_bytes(msgspec.json.encode(record))
    return record


def take(path: Path) -> Claim:
    """A claim of this process."""
    claim = Claim.take(path, "a queue")
    assert claim is not None
    return claim


def test_a_record_is_alive_until_it_is_finished(path: Path) -> None:
    """Then it tells how the process has ended."""
    claim = take(path)
    record, is_alive = read_record(path)
    assert (record, is_alive) == (claim.record, True)
    assert claim.record.pid == os.getpid()
    claim.finish(exit_code=3, was_stopped=True)
    record, is_alive = read_record(path)
    assert record is not None
    assert not is_alive
    assert (record.exit_code, record.was_stopped) == (3, True)
    assert record.ended_at is not None
    assert record.ended_at >= record.started_at


def test_a_living_process_keeps_its_place(path: Path) -> None:
    """Whoever comes second is told, and the record stays what it was."""
    claim = take(path)
    assert Claim.take(path, "another queue") is None
    assert read_record(path) == (claim.record, True)
    claim.finish(exit_code=0, was_stopped=False)
    take(path).finish(exit_code=0, was_stopped=False)


def test_a_process_that_was_killed_is_not_alive(path: Path) -> None:
    """The lock ends with it, however it ends."""

    def die() -> None:
        take(path)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises((AssertionError, EOFError)):
        in_fork(die)
    record, is_alive = read_record(path)
    assert record is not None
    assert not is_alive
    assert record.ended_at is None


def test_a_child_of_the_process_does_not_keep_its_record_alive(path: Path) -> None:
    """What a service leaves behind when it is killed is not the service."""
    claim = take(path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        claim.finish(exit_code=0, was_stopped=False)
        assert read_record(path)[1] is False
        assert child.poll() is None


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"pid": "x"}', b"\xff"])
def test_without_a_record_that_can_be_read_nothing_is_alive(path: Path, content: bytes | None) -> None:
    """A disk that was full, say, leaves an empty file, and the next process starts all the same."""
    if content is not None:
        path.write_bytes(content)
    assert read_record(path) == (None, False)
    assert not send_signal(path, signal.SIGTERM)
    take(path).finish(exit_code=0, was_stopped=False)


def test_a_number_that_another_process_has_now_is_never_signalled(path: Path) -> None:
    """As after a reboot."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as innocent:
        leave_behind(path, innocent.pid)
        assert not send_signal(path, signal.SIGKILL)
        assert innocent.poll() is None


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_a_living_process_is_signalled(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, has_pidfd: bool
) -> None:
    """Also where the system has no descriptors of processes (macOS)."""
    if not has_pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    received: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: received.append(number))
    try:
        claim = take(path)
        assert send_signal(path, signal.SIGUSR1)
        claim.finish(exit_code=0, was_stopped=False)
        assert not send_signal(path, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received == [signal.SIGUSR1]


def test_the_end_of_a_killed_process_is_noted_for_it(path: Path) -> None:
    """Unless another one has come meanwhile."""
    record = leave_behind(path, 1)
    note_end(path, record, exit_code=-9, was_stopped=True)
    noted, is_alive = read_record(path)
    assert noted is not None
    assert (noted.exit_code, noted.was_stopped, is_alive) == (-9, True, False)
    claim = take(path)
    note_end(path, noted, exit_code=-9, was_stopped=True)
    assert read_record(path) == (claim.record, True)
    claim.finish(exit_code=0, was_stopped=False)


def test_only_its_user_can_read_a_record(path: Path) -> None:
    """It names what runs on this machine."""
    take(path).finish(exit_code=0, was_stopped=False)
    assert path.stat().st_mode & 0o077 == 0
