"""The services: what each one runs, and how it shows that it works."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from execution_logger.errors import ExecutionLoggerError
from execution_logger.operate.services.beat_lock import beat_process
from execution_logger.operate.services.directory import ServiceError, service_folder
from execution_logger.operate.services.flower import ADDRESS, PORT, check_flower
from execution_logger.operate.services.record import Record
from execution_logger.operate.workers import worker_processes
from execution_logger.settings import Settings
from execution_logger.text import public_url

NAMES = ("worker", "beat", "flower")

_ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Service:
    """One of them."""

    name: str
    folder: Path
    command: tuple[str, ...]
    about: str
    """What it works on, for people: no passwords."""
    why_not: Callable[[Record], str | None]
    """Why the service that the record is of does not work; None when it does. Takes seconds at most."""
    check: Callable[[], None] = lambda: None
    """Raises ServiceError when it could not start."""


def find_service(name: str, settings: Settings, environ: Mapping[str, str] = os.environ) -> Service:
    """The service of that name, with what the settings and Flower's variables say.

    Raises:
        ServiceError: its folder cannot be used, or Flower's port.
    """
    folder = service_folder(settings, name)
    queue = f"{public_url(settings.broker_url)} {settings.queue}"
    if name == "worker":
        return Service(name, folder, _command(name), queue, partial(_why_no_worker, settings))
    if name == "beat":
        return Service(name, folder, _command(name), queue, partial(_why_no_beat, folder))
    address, port = environ.get("FLOWER_ADDRESS") or ADDRESS, environ.get("FLOWER_PORT") or str(PORT)
    if not port.isdecimal():
        raise ServiceError(f"FLOWER_PORT={port!r}: must be a whole number")
    command = _command(name, "--address", address, "--port", port)
    about = f"http://{address}:{port}"
    return Service(name, folder, command, about, _why_no_flower, partial(check_flower, address, int(port)))


def _command(*words: str) -> tuple[str, ...]:
    # -P: the installed package, and not what lies in the current folder.
    return (sys.executable, "-P", "-m", "execution_logger.cli", words[0], "--stop-at-eof", *words[1:])


def _why_no_worker(settings: Settings, record: Record) -> str | None:
    try:
        processes = worker_processes(settings)
    except ExecutionLoggerError as error:
        return str(error)
    return None if _has_started_one_of(record, processes) else "it does not answer Celery's ping"


def _why_no_beat(folder: Path, record: Record) -> str | None:
    process = beat_process(folder)
    return None if process and _has_started_one_of(record, [process]) else "it has not begun"


def _why_no_flower(record: Record) -> str | None:
    host, _, port = record.about.removeprefix("http://").rpartition(":")
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to
    connection = HTTPConnection(everywhere.get(host, host), int(port), timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/healthcheck")
        connection.getresponse()
    except HTTPException:
        return None  # it speaks TLS, say
    except OSError as error:
        return f"{record.about}: {error}"
    finally:
        connection.close()
    return None


def _has_started_one_of(record: Record, processes: list[int]) -> bool:
    for process in processes:
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(process) == record.pid:
                return True
    return False
