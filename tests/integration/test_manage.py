"""`execution-logger manage` with real services: as an operator uses it, and after what machines do to it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from execution_logger import ExecutionLogger, LogCategory, Settings
from rows import count_rows
from server import free_port
from servers import RedisServer
from waiting import wait_until

COMMAND = (sys.executable, "-P", "-m", "execution_logger.cli", "manage")

IN_TIME = ("--timeout", "240")


class Machine:
    """A machine whose only services are those of one state directory; none is left at the end."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "EXECUTION_LOGGER_SERVICE_DIRECTORY": str(folder),
            "FLOWER_PORT": str(free_port()),
            **environment,
        }
        self._seen: dict[int, psutil.Process] = {}

    def run(self, *words: str, timeout_seconds: float = 600) -> "subprocess.CompletedProcess[str]":
        """Run `execution-logger manage` to its end, with time enough for a slow machine."""
        if words[0] in ("start", "stop", "restart") and "--timeout" not in words:
            words = (*words, *IN_TIME)
        try:
            return subprocess.run(
                [*COMMAND, *words], check=False, env=self.environment, capture_output=True, text=True,
                timeout=timeout_seconds,
            )  # fmt: skip
        finally:
            for process in self.processes():
                self._seen[process.pid] = process

    def status(self, service: str = "worker") -> dict[str, Any]:
        """What `status --json` says of one service."""
        (found,) = json.loads(self.run("status", service, "--json").stdout)
        assert isinstance(found, dict)
        return found

    def processes(self, service: str = "worker") -> list[psutil.Process]:
        """The runner, the command and what that has started, the runner first."""
        path = self.folder / service / "record.json"
        session = json.loads(path.read_bytes())["pid"] if path.exists() else None
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def log(self, service: str = "worker") -> str:
        """All that the service has printed."""
        path = self.folder / service / "log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        """End whatever still runs, and print the logs: pytest shows them when the test failed."""
        for service in ("worker", "beat", "flower"):
            for process in [*self.processes(service), *self._seen.values()]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            print(service, self.log(service), sep="\n")


@pytest.fixture
def machine(tmp_path: Path, redis_url: str, database_url: str) -> Iterator[Machine]:
    """A machine whose broker and database answer."""
    machine = Machine(tmp_path / "services", CELERY_BROKER_URL=redis_url, DATABASE_URL=database_url)
    yield machine
    machine.close()


def ended(processes: list[psutil.Process]) -> bool:
    """Whether all of them have ended; an orphan is a zombie until the machine's first process looks."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                return False
    return True


def test_a_day_of_services(machine: Machine) -> None:
    """Start, work, look, read the logs, restart, stop; and nothing is left."""
    done = machine.run("start")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["worker", "started:"], ["beat", "started:"], ["flower", "started:"],
    ]  # fmt: skip
    assert machine.run("status").returncode == 0
    assert "ready." in machine.run("logs", "worker").stdout
    assert "beat: Starting..." in machine.run("logs", "beat").stdout
    before = machine.status()["pid"]
    again = machine.run("start")
    assert again.returncode == 0
    assert again.stdout.count("runs already") == 3

    logger = ExecutionLogger(Settings(broker_url=machine.environment["CELERY_BROKER_URL"]))
    logger.sync.info("t", LogCategory.WORKFLOW, "by a managed worker")
    assert logger.sync.flush(20, until="stored").complete
    logger.sync.shutdown()
    assert count_rows(machine.environment["DATABASE_URL"]) == 1

    assert machine.run("restart", "worker").returncode == 0
    assert machine.status()["pid"] != before
    everything = [process for name in ("worker", "beat", "flower") for process in machine.processes(name)]
    assert len(everything) >= 8
    done = machine.run("stop")
    assert (done.returncode, done.stderr) == (0, "")
    assert ended(everything)
    assert machine.run("status").returncode == 3
    assert machine.log().count("Warm shutdown") == 2


def test_a_service_whose_command_is_killed_has_died(machine: Machine) -> None:
    """Status tells, with exit code 1; Celery itself ends as well, and a start is all that is needed."""
    machine.run("start", "worker")
    runner, supervisor, celery = machine.processes()[:3]
    supervisor.kill()
    wait_until(lambda: ended([runner, supervisor, celery]), 20)
    done = machine.run("status", "worker")
    assert done.returncode == 1
    assert "was killed by signal 9" in done.stdout
    assert machine.status()["pid"] is None
    assert "Warm shutdown" in machine.log(), "what Celery said at its end is not lost"
    assert machine.run("start", "worker").returncode == 0


def test_nothing_outlives_a_runner_that_is_killed(machine: Machine) -> None:
    """As after the kernel's memory killer; the next start works at once."""
    machine.run("start", "beat")
    processes = machine.processes("beat")
    assert len(processes) == 3
    processes[0].kill()
    wait_until(lambda: ended(processes), 20)
    done = machine.run("status", "beat")
    assert done.returncode == 1
    assert "it was killed, or the machine was restarted" in done.stdout
    assert machine.run("start", "beat").returncode == 0


def test_two_starts_at_once_are_one_service(machine: Machine) -> None:
    """Both wait until it works, and succeed."""
    starts = [
        subprocess.Popen(
            [*COMMAND, "start", "beat", *IN_TIME], env=machine.environment, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    outputs = [start.communicate(timeout=300)[0] for start in starts]
    assert [start.returncode for start in starts] == [0, 0]
    assert outputs[0].partition(b":")[2] == outputs[1].partition(b":")[2], "the same process"
    assert machine.log("beat").count("beat: Starting...") == 1
    assert machine.run("stop", "beat").returncode == 0


def test_files_of_an_earlier_life_of_the_machine_do_no_harm(machine: Machine) -> None:
    """The number that was written down is somebody else's now: nobody is signalled, and a start works."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as innocent:
        for name in ("worker", "beat"):
            (machine.folder / name).mkdir(parents=True)
            stale = {"pid": innocent.pid, "about": "x", "started_at": datetime(2026, 1, 1, tzinfo=UTC)}
            (machine.folder / name / "record.json").write_bytes(msgspec.json.encode(stale))
        (machine.folder / "beat" / "beat.pid").write_text(str(innocent.pid))
        (machine.folder / "beat" / "beat.lock").touch()
        assert machine.run("stop").returncode == 0
        assert machine.run("status").returncode == 1
        assert machine.run("start", "beat").returncode == 0
        assert machine.status("beat")["pid"] != innocent.pid
        assert machine.run("stop").returncode == 0
        assert innocent.poll() is None


def test_a_start_while_the_broker_is_away_says_so(tmp_path: Path, database_url: str) -> None:
    """The worker goes on trying, and needs nobody when the broker is there."""
    redis = RedisServer()
    machine = Machine(tmp_path, CELERY_BROKER_URL=redis.url(), DATABASE_URL=database_url)
    try:
        done = machine.run("start", "worker", "--timeout", "3")
        assert done.returncode == 1
        assert "worker runs, but not as it should" in done.stderr
        assert "Connection refused" in done.stderr
        assert machine.status()["condition"] == "running"
        redis.start()
        wait_until(lambda: machine.status()["problem"] is None, 30)
        assert machine.run("stop", "worker").returncode == 0
    finally:
        machine.close()
        redis.close()


def test_a_wrong_setting_is_in_the_error_of_the_start(machine: Machine) -> None:
    """Nobody has to look for a log."""
    del machine.environment["DATABASE_URL"]
    done = machine.run("start", "worker")
    assert done.returncode == 1
    assert "worker ended with exit code 2" in done.stderr
    assert "DATABASE_URL is not set: the worker needs it" in done.stderr
    assert machine.run("status", "worker").returncode == 1


def test_a_log_is_followed_until_ctrl_c(machine: Machine) -> None:
    """From its last lines on."""
    machine.run("start", "beat")
    following = subprocess.Popen(
        [*COMMAND, "logs", "beat", "-f", "-n", "1"], env=machine.environment, stdout=subprocess.PIPE
    )
    try:
        assert following.stdout is not None
        assert b"beat: Starting..." in following.stdout.readline()
        machine.run("stop", "beat")
        assert b"ended with exit code 0" in following.stdout.readline()
    finally:
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=60)
    assert following.returncode == 130
