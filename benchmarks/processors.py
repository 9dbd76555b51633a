"""The processor time that hosts, Redis, workers and PostgreSQL take."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import psutil

from hosts import HostProcess
from services import ROLES
from system import System


class ProcessorTime:
    """What each role takes within a `with` block; the servers are processes of this machine.

    >>> with ProcessorTime(system, hosts) as taken:
    ...     ...
    >>> taken.seconds["workers"]
    """

    def __init__(self, system: System, hosts: Sequence[HostProcess] = ()) -> None:
        with system.redis.client() as client:
            redis = client.info("server")["process_id"]
        (line,) = system.postgres.execute("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")
        pids = (
            [host.process.pid for host in hosts],
            [redis],
            [worker.pid for worker in system.workers if worker.process.is_running()],
            [int(line[0])],
        )
        self._pids = dict(zip(ROLES, pids, strict=True))
        self.seconds: dict[str, float] = {}
        self.others = 0.0
        """How many cores were busy all the time with anything else, this program included."""

    def __enter__(self) -> Self:
        self._before, self._machine_before, self._began = self._now(), _busy_seconds(), time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.seconds = {role: seconds - self._before[role] for role, seconds in self._now().items()}
            others = _busy_seconds() - self._machine_before - sum(self.seconds.values())
            self.others = max(0.0, others / (time.monotonic() - self._began))

    def _now(self) -> dict[str, float]:
        return {role: sum(map(_seconds_of_tree, pids)) for role, pids in self._pids.items()}


def _busy_seconds() -> float:
    """Of all processors of the machine."""
    times = psutil.cpu_times()
    return float(sum(times)) - float(times.idle) - float(getattr(times, "iowait", 0.0))


def _seconds_of_tree(pid: int) -> float:
    """Of a process, its children, and those of its children that have ended."""
    root = psutil.Process(pid)
    seconds = sum(root.cpu_times()[:4])
    for child in root.children(recursive=True):
        try:
            seconds += sum(child.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return seconds
