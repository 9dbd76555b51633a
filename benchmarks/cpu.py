"""The CPU time of each part of a system: a figure that depends little on what else the machine does."""

from collections.abc import Mapping
from contextlib import suppress

import psutil

HOST = "host"
PARTS = {"redis-server": "Redis", "postgres": "PostgreSQL", "celery": "worker"}
"""What a part is told by, in its command line."""


class CpuTimes:
    """Seconds of this process and of all those that it has started, by part."""

    def __init__(self) -> None:
        self._began = _now()

    def since(self) -> Mapping[str, float]:
        """What each part has taken since this was made; parts that do not run any more are absent."""
        began, now = self._began, _now()
        times = dict.fromkeys([HOST, *PARTS.values()], 0.0)
        for (pid, part), seconds in now.items():
            times[part] = times.get(part, 0.0) + seconds - began.get((pid, part), 0.0)
        return times


def _now() -> dict[tuple[int, str], float]:
    me = psutil.Process()
    times = {(me.pid, HOST): _seconds(me)}
    for process in me.children(recursive=True):
        with suppress(psutil.Error):
            command = " ".join(process.cmdline())
            part = next((part for word, part in PARTS.items() if word in command), "other")
            times[process.pid, part] = _seconds(process)
    return times


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
