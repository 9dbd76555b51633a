"""The process behind a service, with small commands in the place of worker and Beat."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from doubles import DEADLINE_SECONDS
from execution_logger.operate.services.record import Record, read_record
from execution_logger.operate.services.runner import LOG_NAME, RECORD_NAME, RUNS_ALREADY, since_start
from waiting import wait_until

RUN = (
    "import sys; from pathlib import Path; from execution_logger.operate.services.runner import Runner;"
    "sys.exit(Runner(Path(sys.argv[1]), 'a queue', sys.argv[3:], file_bytes=int(sys.argv[2])).run())"
)

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a runner of a Python script in a folder; it and its child are gone afterwards."""
    runners: list[subprocess.Popen[bytes]] = []

    def start(script: str, file_bytes: int = 100_000) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-u", "-c", textwrap.dedent(script)]
        runners.append(
            subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path), str(file_bytes), *command])
        )
        return runners[-1]

    yield start
    for runner in runners:
        runner.kill()
        runner.wait()


def lines(folder: Path) -> list[str]:
    """What the service has printed, without what the runner says about it."""
    text = (folder / LOG_NAME).read_text() if (folder / LOG_NAME).exists() else ""
    return [line for line in text.splitlines() if "manage]" not in line]


def ended(folder: Path) -> Record:
    """The record of the process that has ended."""
    record, is_alive = read_record(folder / RECORD_NAME)
    assert record is not None
    assert not is_alive
    return record


def test_what_a_service_prints_is_in_its_log(start: Start, tmp_path: Path) -> None:
    """Both of its outputs in their order, and bytes that are no text as well."""
    runner = start("""
        import os, sys
        print("out"); sys.stderr.write("err\\n"); os.write(1, b"\\xff\\n"); print("no end of line", end="")
    """)
    assert runner.wait(DEADLINE_SECONDS) == 0
    assert lines(tmp_path) == ["out", "err", "\\xff", "no end of line"]


def test_the_log_says_when_a_service_began_and_how_it_ended(start: Start, tmp_path: Path) -> None:
    """So does the record; the exit code is passed on."""
    assert start("import sys; sys.exit(7)").wait(DEADLINE_SECONDS) == 7
    first, last = (tmp_path / LOG_NAME).read_text().splitlines()
    assert first.endswith("UTC: manage] starts a queue")
    assert last.endswith("UTC: manage] ended with exit code 7")
    assert (ended(tmp_path).exit_code, ended(tmp_path).was_stopped) == (7, False)


def test_a_service_that_a_signal_ended_is_told_from_one_that_failed(start: Start, tmp_path: Path) -> None:
    """The kernel's memory killer, say."""
    start("import os; os.kill(os.getpid(), 9)").wait(DEADLINE_SECONDS)
    assert ended(tmp_path).exit_code == -9
    assert "was killed by signal 9" in (tmp_path / LOG_NAME).read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_service_end_in_order(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    """It is told by SIGTERM, and what it says at its end is in the log."""
    runner = start("""
        import signal, sys, time
        def end(*_):
            print("in order")
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        print("ready")
        time.sleep(600)
    """)
    wait_until(lambda: lines(tmp_path) == ["ready"], DEADLINE_SECONDS)
    runner.send_signal(number)
    assert runner.wait(DEADLINE_SECONDS) == 0
    assert lines(tmp_path) == ["ready", "in order"]
    assert ended(tmp_path).was_stopped


def test_a_second_runner_leaves_the_first_alone(start: Start, tmp_path: Path) -> None:
    """Two that start at once are one service."""
    first = start("print('first'); input()")
    wait_until(lambda: lines(tmp_path) == ["first"], DEADLINE_SECONDS)
    assert start("print('second')").wait(DEADLINE_SECONDS) == RUNS_ALREADY
    assert lines(tmp_path) == ["first"]
    record, is_alive = read_record(tmp_path / RECORD_NAME)
    assert is_alive
    assert record is not None
    assert record.pid == first.pid


def test_the_input_of_a_service_ends_with_its_runner(start: Start, tmp_path: Path) -> None:
    """By which the commands of ours know that they are to end, also after a kill -9."""
    runner = start("""
        import os, sys
        print(os.getpid())
        sys.stdin.read()
    """)
    wait_until(lambda: lines(tmp_path), DEADLINE_SECONDS)
    service = psutil.Process(int(lines(tmp_path)[0]))
    runner.kill()
    wait_until(lambda: not service.is_running() or service.status() == psutil.STATUS_ZOMBIE, DEADLINE_SECONDS)
    assert ended(tmp_path).ended_at is None


def test_a_chatty_service_neither_fills_the_disk_nor_loses_a_line(start: Start, tmp_path: Path) -> None:
    """Its log is a few files of bounded size; the newest lines are all there."""
    runner = start("for number in range(40_000): print('line', number)", file_bytes=50_000)
    assert runner.wait(DEADLINE_SECONDS) == 0
    files = sorted(tmp_path.glob("log*"), reverse=True)
    assert [file.name for file in files] == ["log.5", "log.4", "log.3", "log.2", "log.1", "log"]
    assert all(file.stat().st_size <= 50_000 for file in files)
    found = [line for file in files for line in file.read_text().splitlines() if line.startswith("line")]
    assert found == [f"line {number}" for number in range(40_000 - len(found), 40_000)]
    assert len(found) > 20_000


def test_a_line_without_end_is_written_in_parts(start: Start, tmp_path: Path) -> None:
    """The runner's memory does not grow with it."""
    assert start("print('x' * 200_000)", file_bytes=1_000_000).wait(DEADLINE_SECONDS) == 0
    assert "".join(lines(tmp_path)) == "x" * 200_000
    assert max(map(len, lines(tmp_path))) <= 65_536


def test_a_command_that_is_not_there_is_said(start: Start, tmp_path: Path) -> None:
    """The record does not stay alive."""
    runner = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), "1000", str(tmp_path / "nothing")],
        check=False, capture_output=True, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert runner.returncode == 1
    assert "No such file or directory" in runner.stderr
    assert ended(tmp_path).ended_at is None


def test_what_an_earlier_run_has_said_is_no_reason_of_this_one() -> None:
    """Of the last lines those since the last start count."""
    start = "[2026-11-22 12:00:00 UTC: manage] starts a queue"
    assert since_start(["old", start, "older", start, "new"]) == [start, "new"]
    assert since_start(["a", "b"]) == ["a", "b"]
