"""Entries that pile up at a host while the broker is away, and are sent when it is back."""

import threading
from dataclasses import dataclass
from typing import Self

from hosts import HostProcess, running_hosts
from ledger import stored_batches, wait_for_ledger
from resources import folder_megabytes, resident_megabytes
from system import System

_RETRY_SECONDS = 0.5
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Backlog:
    """What became of so many entries."""

    entries: int
    call_us: float
    memory_before: float
    """Of the host, in MB."""
    memory_waiting: float
    memory_most: float
    journal_megabytes: float
    seconds: float
    """From the first stored batch to the last one."""

    @property
    def rate(self) -> float:
        """Entries that were stored each second, once they were on their way."""
        return self.entries / self.seconds


def pile_up_and_drain(system: System, entries: int) -> Backlog:
    """Log without a broker, then start it and a worker, and count the rows.

    The host waits until the worker is ready, and its pauses between attempts are short: how long it
    takes to notice that an outage is over is no matter of its length.
    """
    system.clear()
    pause = str(_RETRY_SECONDS)
    with running_hosts(system, 1, EXECUTION_LOGGER_RETRY_PAUSE_MAX_SECONDS=pause) as (host,):
        host.ask("log", 1)
        host.ask("flush", 0)
        system.redis.stop()
        before = resident_megabytes(host.process.pid)
        answer = host.ask("log", entries - 1)
        waiting, journal = resident_megabytes(host.process.pid), folder_megabytes(system.folder / "journal")
        host.process.suspend()
        system.redis.start()
        worker = system.start_worker()
        with MostMemory(host) as most:
            host.process.resume()
            wait_for_ledger(system, entries)
        worker.stop()
    times = [batch.stored_at for batch in stored_batches(system) if batch.first > 1]
    seconds = times[-1] - times[0]
    return Backlog(entries, answer["call_us"], before, waiting, most.megabytes, journal, seconds)


class MostMemory:
    """The most that a host's memory was within a `with` block."""

    def __init__(self, host: HostProcess) -> None:
        self.megabytes = 0.0
        self._host = host
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._is_over.wait(_LOOK_SECONDS):
            self.megabytes = max(self.megabytes, resident_megabytes(self._host.process.pid))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
