"""Starting, stopping and looking, with small commands in the place of worker, Beat and Flower."""

import os
import signal
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil
import pytest

from children import run_script
from execution_logger.operate.services.directory import ServiceError
from execution_logger.operate.services.manager import Condition, check_platform, look
from execution_logger.operate.services.record import Claim, Record
from execution_logger.operate.services.runner import RECORD_NAME
from execution_logger.operate.services.service import Service

SITE = """
import os, signal, sys
from pathlib import Path
from execution_logger.operate.services.directory import ServiceError
from execution_logger.operate.services.manager import look, start, stop
from execution_logger.operate.services.service import Service

folder = Path(sys.argv[1])

def service(script, why_not=lambda record: None, **further):
    return Service("worker", folder, (sys.executable, "-u", "-c", script), "a queue", why_not, **further)

def is_ready(record):
    return None if "ready" in (folder / "log").read_text() else "it is not ready"

def show(status):
    print(status.condition, status.problem)
"""
"""Each test is a process of its own: a service is a child of whoever has started it."""


def in_site(folder: Path, script: str) -> list[str]:
    """The lines that a script prints."""
    return run_script(SITE + textwrap.dedent(script), folder).splitlines()


def service(folder: Path, why: str | None = None) -> Service:
    """One that is only looked at."""
    return Service("worker", folder, (), "a queue", lambda _: why)


def leave_behind(folder: Path, **how: object) -> None:
    """A record that nobody holds."""
    values = {"pid": os.getpid(), "about": "a queue", "started_at": datetime.now(UTC), **how}
    (folder / RECORD_NAME).write_bytes(msgspec.json.encode(values))


def test_a_service_is_started_and_stopped(tmp_path: Path) -> None:
    """Start returns when it works, and stop when it has ended."""
    out = in_site(
        tmp_path,
        """
        it = service("import time; print('ready'); time.sleep(600)", is_ready)
        show(look(it))
        show(start(it, 20))
        pid = look(it).record.pid
        assert os.getsid(pid) == pid != os.getsid(0)
        print(stop(it, 20))
        show(look(it))
        print(stop(it, 20))
        """,
    )
    assert out == ["stopped None", "running None", "True", "stopped None", "True"]


def test_a_service_that_ends_at_once_is_an_error_with_its_last_lines(tmp_path: Path) -> None:
    """Of this run, not of an earlier one."""
    out = in_site(
        tmp_path,
        """
        for text in ("earlier", "DATABASE_URL is not set"):
            try:
                start(service(f"import sys; print({text!r}); sys.exit(2)", is_ready), 20)
            except ServiceError as error:
                print(error)
        show(look(service("")))
        """,
    )
    begins = [number for number, line in enumerate(out) if line.startswith("worker ended with exit code 2")]
    second = out[begins[1] :]
    assert second[0].endswith(f"the last lines of {tmp_path / 'log'}:")
    assert second[2] == "  DATABASE_URL is not set"
    assert not any("earlier" in line for line in second)
    assert out[-1] == "died ended with exit code 2"


def test_a_service_that_does_not_work_in_time_goes_on_trying(tmp_path: Path) -> None:
    """Its broker may come back; what keeps it from working is the status's problem."""
    out = in_site(
        tmp_path,
        """
        it = service("import time; time.sleep(600)", lambda record: "the broker is away")
        show(start(it, 0))
        show(start(it, 0))
        print(stop(it, 20))
        """,
    )
    assert out == ["running the broker is away", "running the broker is away", "True"]


def test_what_does_not_end_is_killed_with_all_that_it_has_started(tmp_path: Path) -> None:
    """Also what has a process group of its own, as the supervised worker; that is a stop, not a crash."""
    out = in_site(
        tmp_path,
        """
        it = service('''
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
        print("ready", child.pid)
        time.sleep(600)
        '''.replace("\\n        ", "\\n"), is_ready)
        start(it, 20)
        print((folder / "log").read_text().split("ready ")[1].split()[0])
        print(stop(it, 0.2))
        show(look(it))
        """,
    )
    child, *rest = out
    assert rest == ["False", "stopped None"]
    assert not psutil.pid_exists(int(child)) or psutil.Process(int(child)).status() == psutil.STATUS_ZOMBIE


def test_what_cannot_start_is_not_started(tmp_path: Path) -> None:
    """A port that is taken, say; it is waited for a moment, as the last one may just be leaving it."""
    out = in_site(
        tmp_path,
        """
        def refuse():
            raise ServiceError("the port is taken")
        from execution_logger.operate.services import manager
        manager._FREE_SECONDS = 0.2
        try:
            start(service("print('ready')", is_ready, check=refuse), 20)
        except ServiceError as error:
            print(error)
        show(look(service("")))
        """,
    )
    assert out == ["the port is taken", "stopped None"]


def test_a_runner_that_cannot_begin_says_why(tmp_path: Path) -> None:
    """Where there is no log yet."""
    (tmp_path / "log").mkdir()
    out = in_site(
        tmp_path,
        """
        try:
            start(service("print('ready')", is_ready), 20)
        except (ServiceError, IsADirectoryError) as error:
            print(error)
        """,
    )
    assert "Is a directory" in out[-1]


@pytest.mark.parametrize(
    ("how", "condition", "problem"),
    [
        ({}, Condition.DIED, "it was killed, or the machine was restarted"),
        ({"was_stopped": True, "exit_code": 0}, Condition.STOPPED, None),
        ({"was_stopped": True, "exit_code": -9}, Condition.STOPPED, None),
        ({"was_stopped": False, "exit_code": 0}, Condition.STOPPED, None),
        ({"was_stopped": False, "exit_code": 1}, Condition.DIED, "ended with exit code 1"),
        ({"was_stopped": False, "exit_code": -9}, Condition.DIED, "was killed by signal 9"),
    ],
)
def test_how_a_service_has_ended(
    tmp_path: Path, how: dict[str, object], condition: Condition, problem: str | None
) -> None:
    """A crash is told from a stop, and a record that nobody holds from a living process."""
    leave_behind(tmp_path, **how, **({"ended_at": datetime.now(UTC)} if how else {}))
    status = look(service(tmp_path, "it is not asked"))
    assert (status.condition, status.problem) == (condition, problem)


def test_a_service_of_another_queue_is_not_taken_for_ours(tmp_path: Path) -> None:
    """Its environment was another one; it is told instead of a ping that nobody answers."""
    claim = Claim.take(tmp_path / RECORD_NAME, "another queue")
    assert claim is not None
    status = look(service(tmp_path, "it does not answer"))
    claim.finish(exit_code=0, was_stopped=True)
    assert status.condition is Condition.RUNNING
    assert status.problem == (
        "it was started for another queue, but this environment names a queue: restart it"
    )


def test_only_windows_is_refused() -> None:
    """With what to do there."""
    check_platform("linux")
    check_platform("darwin")
    with pytest.raises(ServiceError, match="Windows: let a service manager"):
        check_platform("win32")


def test_a_record_of_a_recycled_number_stops_nobody(tmp_path: Path) -> None:
    """After a reboot the number may be anybody's: this test's, here."""
    leave_behind(tmp_path, pid=os.getpid())
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        assert in_site(tmp_path, "print(stop(service(''), 1)); show(look(service('')))") == [
            "True",
            "died it was killed, or the machine was restarted",
        ]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == []


def test_records_are_read_by_whoever_knows_fewer_fields(tmp_path: Path) -> None:
    """An older version of the command may look at what a newer one has started."""
    leave_behind(tmp_path, further=1)
    record = look(service(tmp_path)).record
    assert isinstance(record, Record)
