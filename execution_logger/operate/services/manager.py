"""Starts services in the background, stops them, and says how they are. Needs POSIX."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from execution_logger.operate.services.directory import ServiceError
from execution_logger.operate.services.record import Record, note_end, read_record, send_signal
from execution_logger.operate.services.runner import LOG_NAME, RECORD_NAME, since_start
from execution_logger.operate.services.service import Service
from execution_logger.operate.services.tail import last_lines

START_SECONDS = 30.0
STOP_SECONDS = 30.0
"""Longer than the worker's supervisor gives the worker."""

_POLL_SECONDS = 0.1
_FREE_SECONDS = 5.0
_LINES = 12
_FIRST_WORDS = "start.txt"
"""What a runner says that could not even begin its log."""


class Condition(StrEnum):
    """Whether a service runs."""

    RUNNING = "running"
    STOPPED = "stopped"
    DIED = "died"
    """It was not told to end: it crashed, was killed, or the machine was restarted."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a service is."""

    condition: Condition
    record: Record | None = None
    problem: str | None = None
    """Why it does not work although it runs, or how it died."""


def check_platform(platform: str = sys.platform) -> None:
    """See whether this system can run services in the background.

    Raises:
        ServiceError: Windows.
    """
    if platform == "win32":
        raise ServiceError(
            "manage does not run on Windows: let a service manager, NSSM or the Task Scheduler say, run "
            "`execution-logger worker`, `execution-logger beat` and `execution-logger flower`"
        )


def is_running(service: Service) -> bool:
    """Whether its processes are there; at once."""
    return read_record(service.folder / RECORD_NAME)[1]


def look(service: Service) -> Status:
    """How the service is now; takes a second or two when it runs."""
    record, is_alive = read_record(service.folder / RECORD_NAME)
    if record is None:
        return Status(Condition.STOPPED)
    if is_alive:
        return Status(Condition.RUNNING, record, _problem(service, record))
    if record.ended_at is None:
        return Status(Condition.DIED, record, "it was killed, or the machine was restarted")
    if record.was_stopped or record.exit_code == 0:
        return Status(Condition.STOPPED, record)
    return Status(Condition.DIED, record, _ending(record.exit_code or 0))


def start(service: Service, timeout_seconds: float = START_SECONDS) -> Status:
    """Start the service unless it runs, and wait until it works.

    Returns:
        RUNNING, with a problem if it does not work yet: it goes on trying.

    Raises:
        ServiceError: it could not be started, or has ended; with the last lines of its log.
    """
    if not is_running(service):
        _begin(service, timeout_seconds)
    status = look(service)

    def is_settled() -> bool:
        nonlocal status
        status = look(service)
        return status.condition is not Condition.RUNNING or status.problem is None

    _wait_until(is_settled, timeout_seconds)
    if status.condition is not Condition.RUNNING:
        raise ServiceError(_why_it_ended(service, status))
    return status


def stop(service: Service, timeout_seconds: float = STOP_SECONDS) -> bool:
    """Stop the service if it runs, and wait for its end; whether it ended by itself.

    What has not ended by then is killed, with all that it has started: batches in hand come again.

    Raises:
        ServiceError: even that did not end it.
    """
    path = service.folder / RECORD_NAME

    def has_ended() -> bool:
        return not is_running(service)

    if not send_signal(path, signal.SIGTERM) or _wait_until(has_ended, timeout_seconds):
        return True
    record, is_alive = read_record(path)
    if record is not None and is_alive:
        # Its number is the session's, and nobody else's as long as it lives: it comes last.
        for process in [*_others_of_session(record.pid), record.pid]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not _wait_until(has_ended, _FREE_SECONDS):
            raise ServiceError(f"{service.name} (process {record.pid}) cannot be killed")
        note_end(path, record, exit_code=-signal.SIGKILL, was_stopped=True)
    return False


def _begin(service: Service, timeout_seconds: float) -> None:
    """Start a runner, and wait until it has begun; another one that was faster is as good."""
    _wait_until(lambda: _can_start(service), _FREE_SECONDS)
    service.check()
    words = [sys.executable, "-P", "-m", "execution_logger.operate.services.runner"]
    with (service.folder / _FIRST_WORDS).open("w") as file:
        runner = subprocess.Popen(  # noqa: S603 - our own command
            [*words, str(service.folder), service.about, *service.command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            # A session of its own: no terminal's Ctrl-C or end reaches it.
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    _wait_until(lambda: runner.poll() is not None or is_running(service), max(timeout_seconds, START_SECONDS))


def _problem(service: Service, record: Record) -> str | None:
    if record.about != service.about:
        return f"it was started for {record.about}, but this environment names {service.about}: restart it"
    return service.why_not(record)


def _can_start(service: Service) -> bool:
    """A service that was killed just now may still be letting go of its port."""
    try:
        service.check()
    except ServiceError:
        return False
    return True


def _wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    give_up_at = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= give_up_at:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _why_it_ended(service: Service, status: Status) -> str:
    log = service.folder / LOG_NAME
    lines = (service.folder / _FIRST_WORDS).read_text().splitlines() or since_start(last_lines(log, _LINES))
    ending = status.problem or "has ended"
    return "\n  ".join([f"{service.name} {ending}; the last lines of {log}:", *lines[-_LINES:]])


def _ending(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"


def _others_of_session(session: int) -> list[int]:
    """Its processes, from those that were started last, so that nobody starts one again."""
    found = []
    for process in _all_processes():
        with suppress(ProcessLookupError, PermissionError):
            if process != session and os.getsid(process) == session:
                found.append(process)
    return sorted(found)


def _all_processes() -> list[int]:
    if Path("/proc/self").exists():
        return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    listing = subprocess.run(["ps", "-A", "-o", "pid="], check=True, capture_output=True, text=True)  # noqa: S607 - POSIX has it
    return [int(word) for word in listing.stdout.split()]
