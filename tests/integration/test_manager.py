"""scripts/celery_manager.py with a real supervisord: as an operator uses it, and after what machines do."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from doubles import DEADLINE_SECONDS
from execution_logger import ExecutionLogger, LogCategory, Settings
from rows import count_rows
from server import free_port
from waiting import wait_until

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "celery_manager.py"
START_SECONDS = 60.0


class Machine:
    """A machine whose only services are those of one folder; none is left at the end."""

    def __init__(self, folder: Path, broker_url: str, database_url: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.environment = {
            **os.environ,
            "VIRTUAL_ENV": sys.prefix,
            "EXECUTION_LOGGER_SERVICE_DIRECTORY": str(folder),
            "FLOWER_PORT": str(free_port()),
            "CELERY_BROKER_URL": broker_url,
            "DATABASE_URL": database_url,
        }
        self.logger = ExecutionLogger(Settings(broker_url=broker_url, batch_size=10, max_batch_entries=10))
        self.calls = 0
        self._seen: set[psutil.Process] = set()

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run the script to its end."""
        try:
            return subprocess.run(
                [sys.executable, SCRIPT, *words], check=False, env=self.environment,
                capture_output=True, text=True, timeout=600,
            )  # fmt: skip
        finally:
            self._seen.update(self.processes())

    def processes(self, name: str = "") -> list[psutil.Process]:
        """A program and what it has started; without a name, supervisord and all."""
        supervisord = self.folder / "supervisord.pid"
        with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
            root = psutil.Process(int(supervisord.read_text()))
            for each in root.children():
                if name in each.cmdline():
                    return [each, *each.children(recursive=True)]
            return [] if name else [root, *root.children(recursive=True)]
        return []

    def log(self, name: str = "worker") -> str:
        """All that a program has printed."""
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def send(self, entries: int) -> None:
        """Log, and wait until all of it is in the queue."""
        for _ in range(entries):
            self.logger.sync.info("t", LogCategory.WORKFLOW, "by a managed worker")
        self.calls += entries
        assert self.logger.sync.flush(DEADLINE_SECONDS).complete

    def wait_until_ready(self, times: int) -> None:
        """Wait until the worker has said so that often."""
        wait_until(lambda: self.log().count("ready.") == times, START_SECONDS, message=self.log)

    def wait_until_stored(self) -> None:
        """Wait until each call is a row."""
        wait_until(lambda: count_rows(self.database_url) == self.calls, START_SECONDS, message=self.log)

    def close(self) -> None:
        """End whatever still runs, and print the logs: pytest shows them when the test failed."""
        self.logger.sync.shutdown()
        for process in self._seen | set(self.processes()):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for name in ("supervisord", "worker", "beat", "flower"):
            print(name, self.log(name), sep="\n")


@pytest.fixture
def machine(tmp_path: Path, redis_url: str, database_url: str) -> Iterator[Machine]:
    """A machine whose broker and database answer."""
    machine = Machine(tmp_path / "s", redis_url, database_url)
    yield machine
    machine.close()


def have_ended(processes: list[psutil.Process]) -> bool:
    """Whether all of them have; an orphan is a zombie until the machine's first process looks."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                return False
    return True


def test_a_day_of_services(machine: Machine) -> None:
    """Start, work, look, read a log, restart, stop; and nothing is left."""
    assert machine.run("status").returncode == 4, "there is no supervisord"
    done = machine.run("start")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["worker: started", "beat: started", "flower: started"]
    done = machine.run("status")
    assert done.returncode == 0
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["worker", "RUNNING"], ["beat", "RUNNING"], ["flower", "RUNNING"],
    ]  # fmt: skip
    machine.send(20)
    machine.wait_until_stored()
    done = machine.run("stats")
    assert done.returncode == 0
    assert re.fullmatch(r"logs@\S+: process \d+, up \d+ s, done: [1-9]\d* \S*write\S*\n", done.stdout)
    wait_until(lambda: "Visit me at" in machine.log("flower"), START_SECONDS)
    assert "beat: Starting..." in machine.run("tail", "beat").stdout

    everything = machine.processes()
    assert len(everything) >= 5
    done = machine.run("stop")
    assert (done.returncode, done.stderr) == (0, "")
    wait_until(lambda: have_ended(everything), START_SECONDS)
    assert machine.run("status").returncode == 4
    assert "Warm shutdown" in machine.log()


def test_what_is_killed_is_started_again(machine: Machine) -> None:
    """Celery by the command that looks after it, that command by supervisord; nobody has to do anything."""
    assert machine.run("start", "worker").returncode == 0
    assert [line.split()[1] for line in machine.run("status").stdout.splitlines()][:2] == [
        "RUNNING",
        "STOPPED",
    ]
    for times, victim in ((1, 1), (2, 0)):
        machine.wait_until_ready(times)
        old = machine.processes("worker")
        old[victim].kill()
        wait_until(partial(have_ended, old[victim:]), START_SECONDS)  # what it has started ends, too
        machine.wait_until_ready(times + 1)
        machine.send(10)
        machine.wait_until_stored()
    assert "the worker was killed by SIGKILL; it starts again in " in machine.log()
    assert machine.run("stop").returncode == 0


def test_stops_and_restarts_lose_nothing(machine: Machine) -> None:
    """In the middle of the work: batches in hand are written, the others wait for the next worker."""
    machine.run("start", "worker")
    machine.wait_until_ready(1)
    (before, *_) = machine.processes("worker")
    machine.send(2_000)
    assert machine.run("restart", "worker").returncode == 0
    machine.wait_until_ready(2)
    (after, *_) = machine.processes("worker")
    assert before != after
    machine.send(2_000)
    assert machine.run("stop").returncode == 0
    assert "has not stopped" not in machine.log()
    assert machine.log().count("Warm shutdown") == 2
    machine.send(10)
    assert machine.run("start", "worker").returncode == 0
    machine.wait_until_stored()
    assert machine.run("stop").returncode == 0


def test_a_restart_of_all_takes_new_settings(machine: Machine) -> None:
    """Supervisord hands on those that it was started with."""
    machine.run("start", "worker")
    machine.environment["EXECUTION_LOGGER_QUEUE"] = "another"
    assert machine.run("restart").returncode == 0
    wait_until(lambda: ".> another" in machine.log(), START_SECONDS, message=machine.log)
    assert machine.run("stop").returncode == 0


def test_nothing_outlives_a_supervisord_that_is_killed(machine: Machine) -> None:
    """As by the kernel's memory killer; the next start works at once."""
    machine.run("start", "worker", "beat")
    processes = machine.processes()
    assert len(processes) >= 4
    processes[0].kill()
    wait_until(lambda: have_ended(processes), START_SECONDS)
    assert machine.run("start", "worker", "beat").returncode == 0
    assert machine.run("stop").returncode == 0


def test_a_wrong_setting_is_not_tried_for_ever(machine: Machine) -> None:
    """The start fails, and says where the log is that names the setting."""
    del machine.environment["DATABASE_URL"]
    done = machine.run("start", "worker")
    assert done.returncode == 0 or str(machine.folder) in done.stderr  # 0 on a machine that is slow

    def has_given_up() -> bool:
        return bool(re.search(r"worker +(FATAL|EXITED)", machine.run("status", "worker").stdout))

    wait_until(has_given_up, START_SECONDS)
    assert machine.run("status", "worker").returncode == 3
    assert "DATABASE_URL is not set: the worker needs it" in machine.log()
    assert machine.run("stop").returncode == 0


def test_a_folder_that_others_may_write_to_holds_no_socket(tmp_path: Path) -> None:
    """Whoever writes to that runs programs as this user; and another's would answer the operator."""
    tmp_path.chmod(0o777)
    environment = {
        **os.environ, "VIRTUAL_ENV": sys.prefix, "EXECUTION_LOGGER_SERVICE_DIRECTORY": str(tmp_path)
    }  # fmt: skip
    for action in ("start", "status"):
        done = subprocess.run(
            [sys.executable, SCRIPT, action], check=False, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert "anybody may write to it" in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_front_without_supervisor_says_what_to_install(tmp_path: Path) -> None:
    """One line, and no traceback."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['supervisor'] = None\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "VIRTUAL_ENV": sys.prefix}
    done = subprocess.run(
        [sys.executable, SCRIPT, "start"], check=False, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "pip install supervisor" in done.stderr
    assert "Traceback" not in done.stderr
