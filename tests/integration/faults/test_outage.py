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


class TestOutage:
    """The broker is away for long."""

    @pytest.mark.slow
    @pytest.mark.timeout(LONGEST_SECONDS + 300)
    def test_backlog(self, cell: Cell, frail_redis_site: Site) -> None:
        """120,000 entries wait on disk, and are stored: in the long form at half of the normal rate, or more.

        There they come at 200 a second. In the short one, with a quarter of them, they come as fast as the
        host can, and both rates are those of a moment.
        """
        site = frail_redis_site
        cell.figures.repetitions = 1
        entries = 120_000 if cell.is_long else 30_000
        with site.worker(supervised=True):
            host = site.host("bursts", "--count", entries, "--rate", RATE)
            wait_until(lambda: site.rows() == site.returned(), 20)
            before_bytes = resident_bytes(host)
            began_at, began_with = time.monotonic(), site.rows()
            burst(site, host, entries, signal.SIGUSR1)
            normal_rate = rate_of_rows(site, began_at, began_with)
            site.redis.stop()
            burst(site, host, entries, signal.SIGUSR2 if cell.is_long else signal.SIGUSR1)
            growth_bytes = resident_bytes(host) - before_bytes
            began_with = site.rows()
            site.redis.start()
            wait_until(lambda: site.rows() > began_with, 60)
            backlog_rate = rate_of_rows(site, time.monotonic(), site.rows())
            site.check(120)
        cell.figures.note = (
            f"memory +{growth_bytes / 1e6:.0f} MB; {backlog_rate:,.0f} entries/s of the backlog stored, "
            f"normally {normal_rate:,.0f}"
        )
        assert growth_bytes < entries * MOST_GROWTH_BYTES_EACH, cell.figures.note
        assert backlog_rate > normal_rate / 2 or not cell.is_long, cell.figures.note


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
