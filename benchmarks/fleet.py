"""Several hosts at once, over one Redis, to one worker."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from figures import percentile
from hosts import HostProcess
from ledger import stored_batches, wait_for_ledger
from processors import ProcessorTime
from system import System

_WARM_UP_ENTRIES = 500
_FLUSH_SECONDS = 60.0


@dataclass(frozen=True)
class Run:
    """What so many hosts have achieved together."""

    hosts: int
    entries: int
    seconds: float
    """From the first call to the last row."""
    call_us: float
    latencies: tuple[float, ...]
    """Seconds from the oldest call of a batch to its row, of each batch that was stored meanwhile."""
    taken: ProcessorTime

    @property
    def rate(self) -> float:
        """Entries that were stored each second."""
        return self.entries / self.seconds

    def latency_ms(self, percent: float) -> float:
        """Of the oldest entry of a batch."""
        return percentile(self.latencies, percent) * 1000


def warm_up(system: System, hosts: Sequence[HostProcess]) -> None:
    """Let all that is loaded at the first call, the first batch and the first row be loaded."""
    for host in hosts:
        host.ask("log", _WARM_UP_ENTRIES)
    for host in hosts:
        host.ask("flush", _FLUSH_SECONDS)
    system.wait_for_rows(_WARM_UP_ENTRIES * len(hosts))


def run(system: System, hosts: Sequence[HostProcess], command: str, *numbers: float) -> Run:
    """Give all of them the same command at once, and wait for their rows, which are counted."""
    before, began_at = system.count_rows(), time.time()
    with ProcessorTime(system, hosts) as taken:
        for host in hosts:
            host.begin(command, *numbers)
        answers = [host.answer() for host in hosts]
        entries = sum(answer["entries"] for answer in answers)
        wait_for_ledger(system, before + entries)
    batches = stored_batches(system, began_at)
    # What is left in the end is no full batch, and waits for the flush interval.
    ended_at = min(answer["ended_at"] for answer in answers)
    latencies = [batch.latency_seconds for batch in batches if batch.stored_at < ended_at]
    return Run(
        hosts=len(hosts),
        entries=entries,
        seconds=batches[-1].stored_at - min(answer["began_at"] for answer in answers),
        call_us=fmean(answer["call_us"] for answer in answers),
        latencies=tuple(latencies),
        taken=taken,
    )
