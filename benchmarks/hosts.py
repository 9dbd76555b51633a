"""Host processes, as the benchmarks handle them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from system import System

_PROGRAM = Path(__file__).with_name("host.py")
_END_SECONDS = 30


class HostProcess:
    """A running `host.py`; what it is told is answered in its own time."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
            text=True,
            bufsize=1,
        )
        self.process = psutil.Process(self._process.pid)

    def begin(self, command: str, *numbers: float) -> None:
        """Tell it to do something; `answer()` waits for the end of it."""
        assert self._process.stdin
        self._process.stdin.write(" ".join([command, *map(str, numbers)]) + "\n")

    def answer(self) -> dict[str, Any]:
        """What it says to the command that it was given first, and that is not answered yet."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the host ended with code {self._process.wait(_END_SECONDS)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, command: str, *numbers: float) -> dict[str, Any]:
        """Tell it to do something, and wait for it."""
        self.begin(command, *numbers)
        return self.answer()

    @property
    def cpu_seconds(self) -> float:
        """The processor time that it has taken."""
        return sum(self.process.cpu_times()[:2])

    def close(self) -> None:
        """Let it shut its logger down, and end."""
        try:
            self._process.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise


@contextmanager
def running_hosts(system: System, count: int, **environment: str) -> Iterator[list[HostProcess]]:
    """So many hosts of the system, ready to log, with journals in its folder."""
    places = {
        "CELERY_BROKER_URL": system.redis.url(),
        "DATABASE_URL": system.postgres.url(),
        "EXECUTION_LOGGER_JOURNAL_DIRECTORY": str(system.folder / "journal"),
        **environment,
    }
    with ExitStack() as stack:
        hosts = []
        for _ in range(count):
            hosts.append(HostProcess(places))
            stack.callback(hosts[-1].close)
        for host in hosts:
            host.answer()
        yield hosts
