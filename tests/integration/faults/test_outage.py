"""An outage of ten minutes at 200 entries a second: memory stays flat, and the backlog is stored fast."""

import signal
import time

import psutil
import pytest

from integration.faults.cell import Cell
from integration.faults.site import Site
from processes import LocalProcess
from waiting import wait_until

RATE = 200
MOST_GROWTH_BYTES_EACH = 667
"""For each entry that waits."""
LONGEST_SECONDS = 1_500
MOMENTS = 3
"""How often the short form compares two rates, until one comparison is as it has to be."""


class TestOutage:
    """The broker is away for long."""

    @pytest.mark.slow
    @pytest.mark.timeout(LONGEST_SECONDS + 300)
    def test_backlog(self, cell: Cell, frail_redis_site: Site) -> None:
        """120,000 entries wait on disk; they are stored at no less than half of the normal rate.

        In the long form they come at 200 a second, in the short one, with a quarter of them, as fast as the
        host can: both rates are then those of a moment, in which the machine may have had other things to do.
        """
        site = frail_redis_site
        cell.figures.repetitions = 1
        entries = 120_000 if cell.is_long else 30_000
        with site.worker(supervised=True):
            host = site.host("bursts", "--count", entries, "--rate", RATE)
            wait_until(lambda: site.rows() == site.returned(), 20)
            for _ in range(1 if cell.is_long else MOMENTS):
                normal_rate, backlog_rate, growth_bytes = compare_rates(
                    site, host, entries, signal.SIGUSR2 if cell.is_long else signal.SIGUSR1
                )
                if backlog_rate > normal_rate / 2:
                    break
            site.check(120)
        cell.figures.note = (
            f"memory +{growth_bytes / 1e6:.0f} MB; {backlog_rate:,.0f} entries/s of the backlog stored, "
            f"normally {normal_rate:,.0f}"
        )
        assert growth_bytes < entries * MOST_GROWTH_BYTES_EACH, cell.figures.note
        assert backlog_rate > normal_rate / 2, cell.figures.note


def compare_rates(
    site: Site, host: LocalProcess, entries: int, in_the_outage: signal.Signals
) -> tuple[float, float, int]:
    """Entries stored in a second, at once and after an outage, and by how much that makes the host grow."""
    before_bytes = resident_bytes(host)
    began_at, began_with = time.monotonic(), site.rows()
    burst(site, host, entries, signal.SIGUSR1)
    normal_rate = rate_of_rows(site, began_at, began_with)
    site.redis.stop()
    burst(site, host, entries, in_the_outage)
    growth_bytes = resident_bytes(host) - before_bytes
    stored = site.rows()
    site.redis.start()
    # From the last look at which nothing was stored yet: at the next one all of it may be.
    looks: list[float] = []

    def has_begun() -> bool:
        looks.append(time.monotonic())
        return site.rows() > stored

    wait_until(has_begun, 60)
    return normal_rate, rate_of_rows(site, looks[-2 if len(looks) > 1 else -1], stored), growth_bytes


def burst(site: Site, host: LocalProcess, entries: int, number: signal.Signals) -> None:
    """Have the host make all its calls, and wait until they have returned."""
    goal = site.returned() + entries
    host.send_signal(number)
    wait_until(lambda: site.returned() >= goal, LONGEST_SECONDS, message=lambda: f"{site.returned()}/{goal}")


def rate_of_rows(site: Site, began_at: float, began_with: int) -> float:
    """Entries stored in a second since then, when there were so many rows, until all of them are."""
    goal = site.returned()
    wait_until(
        lambda: site.rows() >= goal, 180, message=lambda: f"{site.rows()} of {goal}", pause_seconds=0.1
    )
    return (goal - began_with) / (time.monotonic() - began_at)


def resident_bytes(host: LocalProcess) -> int:
    """The memory of a process (RSS)."""
    return int(psutil.Process(host.pid).memory_info().rss)
