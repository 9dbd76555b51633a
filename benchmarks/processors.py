"""The processor time that hosts, Redis, workers and PostgreSQL take."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import psutil
from hosts import HostProcess
from system import System

ROLES = ("hosts", "Redis", "workers", "PostgreSQL")


class ProcessorTime:
    """The seconds that each role takes within a `with` block; the servers are processes of this machine.

    >>> with ProcessorTime(system, hosts) as taken:
    ...     ...
    >>> taken.seconds["workers"]
    """

    def __init__(self, system: System, hosts: Sequence[HostProcess] = ()) -> None:
        with system.redis.client() as client:
            redis = client.info("server")["process_id"]
        (line,) = system.postgres.execute("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")
        self._pids = {
            "hosts": [host.process.pid for host in hosts],
            "Redis": [redis],
            "workers": [worker.pid for worker in system.workers if worker.process.is_running()],
            "PostgreSQL": [int(line[0])],
        }
        self.seconds: dict[str, float] = {}

    @property
    def total(self) -> float:
        """Of all of them."""
        return sum(self.seconds.values())

    def __enter__(self) -> Self:
        self._before = self._now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.seconds = {role: seconds - self._before[role] for role, seconds in self._now().items()}

    def _now(self) -> dict[str, float]:
        return {role: sum(map(_seconds_of_tree, pids)) for role, pids in self._pids.items()}


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
