"""`execution-logger manage`: what it says. Real processes are in the integration tests."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from execution_logger.cli import main, manage
from execution_logger.operate.services.directory import ServiceError
from execution_logger.operate.services.manager import Condition, Status
from execution_logger.operate.services.record import Record
from execution_logger.operate.services.service import Service

STARTED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
RUNNING = Status(Condition.RUNNING, Record(pid=42, about="a queue", started_at=STARTED))
STOPPED = Status(
    Condition.STOPPED,
    Record(pid=42, about="a queue", started_at=STARTED, ended_at=STARTED, exit_code=0, was_stopped=True),
)
DIED = Status(
    Condition.DIED,
    Record(pid=42, about="a queue", started_at=STARTED, ended_at=STARTED, exit_code=1),
    "ended with exit code 1",
)
NEVER = Status(Condition.STOPPED)


class Machine:
    """Services that only the test starts and stops."""

    def __init__(self) -> None:
        self.statuses = {"worker": NEVER, "beat": NEVER, "flower": NEVER}
        self.problem: str | None = None
        self.acts: list[str] = []
        self.failing: set[str] = set()
        self.must_be_killed = False

    def look(self, service: Service) -> Status:
        """As it is."""
        return self.statuses[service.name]

    def is_running(self, service: Service) -> bool:
        """Whether its processes are there."""
        return self.statuses[service.name].condition is Condition.RUNNING

    def start(self, service: Service, timeout_seconds: float) -> Status:
        """Start it, or fail, or leave it as it is."""
        self.acts.append(f"start {service.name} {timeout_seconds:g}")
        if service.name in self.failing:
            raise ServiceError(f"{service.name} ended with exit code 2")
        self.statuses[service.name] = Status(Condition.RUNNING, RUNNING.record, self.problem)
        return self.statuses[service.name]

    def stop(self, service: Service, timeout_seconds: float) -> bool:
        """Stop it."""
        self.acts.append(f"stop {service.name} {timeout_seconds:g}")
        self.statuses[service.name] = STOPPED
        return not self.must_be_killed


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine on which nothing was ever started, with Flower installed."""
    machine = Machine()
    for name in ("look", "is_running", "start", "stop"):
        monkeypatch.setattr(manage, name, getattr(machine, name))
    monkeypatch.setattr(manage, "find_spec", lambda _: object())
    return machine


def run(*arguments: str) -> Result:
    """The outcome of `execution-logger manage`."""
    return CliRunner().invoke(main, ["manage", *arguments])


@pytest.mark.parametrize(
    ("worker", "beat", "code"),
    [
        (RUNNING, RUNNING, 0),
        (RUNNING, STOPPED, 3),
        (RUNNING, DIED, 1),
        (STOPPED, DIED, 1),
        (NEVER, NEVER, 3),
    ],
)
def test_the_exit_codes_of_status_are_those_of_services(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, worker: Status, beat: Status, code: int
) -> None:
    """As the Linux Standard Base has them; of all, the worst, and Flower only where it is installed."""
    monkeypatch.setattr(manage, "find_spec", lambda _: None)
    machine.statuses |= {"worker": worker, "beat": beat, "flower": DIED}
    result = run("status")
    assert result.exit_code == code
    assert "flower" not in result.output
    assert run("status", "worker").exit_code == {RUNNING: 0, STOPPED: 3, NEVER: 3}[worker]


def test_status_says_what_it_knows(machine: Machine) -> None:
    """How each is, since when, and why not."""
    broken = Status(Condition.RUNNING, RUNNING.record, "redis://host: Connection refused")
    machine.statuses = {"worker": broken, "beat": DIED, "flower": STOPPED}
    text = run("status").output
    assert "process 42 since 2026-11-22 12:00:00 UTC, a queue" in text
    assert "redis://host: Connection refused" in text
    assert "ended with exit code 1, at 2026-11-22 12:00:00 UTC" in text
    assert "it was told to end, at" in text
    machine.statuses["worker"] = NEVER
    assert "never started here" in run("status").output


def test_status_for_programs(machine: Machine) -> None:
    """A number is there only while it is the service's."""
    machine.statuses = {"worker": RUNNING, "beat": DIED, "flower": NEVER}
    result = run("status", "--json")
    assert result.exit_code == 1
    worker, beat, flower = json.loads(result.stdout)
    assert (worker["service"], worker["condition"], worker["pid"]) == ("worker", "running", 42)
    assert (beat["condition"], beat["pid"], beat["exit_code"]) == ("died", None, 1)
    assert (flower["condition"], flower["started_at"]) == ("stopped", None)
    assert worker["log"].endswith("worker/log")


def test_all_are_started_in_order_and_stopped_the_other_way_round(machine: Machine) -> None:
    """The worker is there before Beat sends to it, and goes last."""
    assert run("start", "--timeout", "7").exit_code == 0
    assert run("stop", "--timeout", "8").exit_code == 0
    assert machine.acts == [
        "start worker 7", "start beat 7", "start flower 7", "stop flower 8", "stop beat 8", "stop worker 8",
    ]  # fmt: skip


def test_what_runs_already_is_left_alone(machine: Machine) -> None:
    """As service managers do: that is what was asked for."""
    machine.statuses["worker"] = RUNNING
    result = run("start", "worker")
    assert result.exit_code == 0
    assert result.output.startswith("worker runs already: process 42, redis://")


def test_what_does_not_run_need_not_be_stopped(machine: Machine) -> None:
    """Nor is that an error."""
    machine.statuses["beat"] = DIED
    result = run("stop", "beat")
    assert (result.exit_code, result.output) == (0, "beat did not run\n")
    assert machine.acts == []


def test_one_that_fails_does_not_keep_the_others_from_starting(machine: Machine) -> None:
    """Its reason is there, and the exit code is 1."""
    machine.failing = {"worker"}
    result = run("start")
    assert result.exit_code == 1
    assert result.stderr == "execution-logger: worker ended with exit code 2\n"
    assert "beat started: process 42" in result.stdout


def test_one_that_does_not_work_yet_is_told_with_its_log(machine: Machine) -> None:
    """It goes on trying, and the exit code says that it does not work."""
    machine.problem = "redis://host: Connection refused"
    result = run("start", "worker")
    assert result.exit_code == 1
    assert "worker started: process 42" in result.stdout
    assert "runs, but not as it should: redis://host: Connection refused" in result.stderr
    assert "worker/log" in result.stderr


def test_one_that_had_to_be_killed_is_told(machine: Machine) -> None:
    """Its batches come again, but somebody should look why."""
    machine.statuses["worker"] = RUNNING
    machine.must_be_killed = True
    result = run("stop", "worker", "--timeout", "5")
    assert result.exit_code == 1
    assert "worker did not end within 5 s and was killed" in result.stderr


def test_restart_is_stop_and_start(machine: Machine) -> None:
    """Of what does not run, a start."""
    machine.statuses["worker"] = RUNNING
    assert run("restart", "worker").exit_code == 0
    assert run("restart", "beat").exit_code == 0
    assert machine.acts == ["stop worker 30", "start worker 30", "start beat 30"]


def test_logs_show_the_last_lines(machine: Machine, state_folder: Path) -> None:
    """Of one service as they are, of all with their names."""
    for name in ("worker", "beat"):
        folder = state_folder / "execution-logger-services" / name
        folder.mkdir(parents=True, mode=0o700)
        (folder / "log").write_text("".join(f"{name} {number}\n" for number in range(30)))
    assert run("logs", "worker", "-n", "2").output == "worker 28\nworker 29\n"
    assert run("logs", "worker").output.count("\n") == 20
    assert run("logs", "-n", "1").output == "worker | worker 29\nbeat   | beat 29\n"
    assert run("logs", "flower").output == ""


def test_on_windows_it_says_what_to_do_instead(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried."""

    def refuse(*_: Any) -> None:
        raise ServiceError("manage does not run on Windows")

    monkeypatch.setattr(manage, "check_platform", refuse)
    result = run("start")
    assert (result.exit_code, result.stderr) == (3, "execution-logger: manage does not run on Windows\n")
    assert machine.acts == []


def test_a_wrong_setting_is_one_line(machine: Machine) -> None:
    """Before anything is started."""
    result = CliRunner().invoke(
        main, ["manage", "start"], env={**os.environ, "EXECUTION_LOGGER_BATCH_SIZE": "x"}
    )
    assert result.exit_code == 2
    assert result.stderr == "execution-logger: EXECUTION_LOGGER_BATCH_SIZE='x': must be a whole number\n"
    assert machine.acts == []
