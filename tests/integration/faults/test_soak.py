"""All of it at once, for long: nothing lost, nothing twice, and nothing piles up."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from integration.faults.cell import Cell
from integration.faults.proxy import Proxy
from integration.faults.site import Site
from integration.faults.soak import Holdings, Soak
from servers import PostgresServer, RedisServer
from waiting import let_pass

RATE = 250
"""Of each of two hosts."""
SHORT_SECONDS = 12
FEWEST_SAMPLES = 6
LONGEST_SECONDS = 3_600
MOST_GROWTH_BYTES = 20_000_000
MOST_NEW_DESCRIPTORS = 10


class TestSoak:
    """Faults drawn at random, up to three at a time, under 500 entries a second."""

    @pytest.mark.slow
    @pytest.mark.timeout(LONGEST_SECONDS)
    def test_everything_at_once(self, cell: Cell, distant_frail_site: Site, frail_proxy: Proxy) -> None:
        """The host and the worker that live through it hold no more at the end than at the beginning."""
        site = distant_frail_site
        soak = Soak(site, frail_proxy, RATE, cell.random)
        host, worker = Holdings(), Holdings()
        with soak.workers():
            harm(cell, soak)  # meanwhile they open what they keep
            until = time.monotonic() + (cell.minutes * 60 if cell.minutes else SHORT_SECONDS)
            while time.monotonic() < until or min(len(host.bytes), len(worker.bytes)) < FEWEST_SAMPLES:
                harm(cell, soak)
                host.sample(soak.steady_host)
                worker.sample(soak.steady_worker.process)
            site.stop_hosts()
            site.host("idle")
            site.check(180)
        cell.figures.note = ", ".join(
            f"{name} {bytes_ / 1e6:+.1f} MB {descriptors:+.0f} descriptors"
            for name, (bytes_, descriptors) in (("host", host.growth()), ("worker", worker.growth()))
        )
        for bytes_, descriptors in (host.growth(), worker.growth()):
            assert bytes_ < MOST_GROWTH_BYTES, (cell.figures.note, host, worker)
            assert descriptors < MOST_NEW_DESCRIPTORS, (cell.figures.note, host, worker)


def harm(cell: Cell, soak: Soak) -> None:
    """Up to three faults at the same time, and some time after they have healed."""
    cell.figures.repetitions += 1
    harmed: set[str] = set()
    with ExitStack() as stack:
        for fault in cell.random.sample(soak.faults(), cell.random.choice((1, 1, 2, 3))):
            # Two faults of one server would get in each other's way.
            server = fault.__name__.split("_")[1]
            if server not in harmed:
                harmed.add(server)
                print(f"{time.strftime('%X')} {fault.__name__}")
                stack.enter_context(fault())
        let_pass(cell.random.uniform(0.1, 2.5))
    let_pass(cell.random.uniform(0.1, 1.5))


@pytest.fixture
def frail_proxy(own_redis_server: RedisServer) -> Iterator[Proxy]:
    """The network between the hosts and a Redis that may be killed."""
    with Proxy(own_redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def distant_frail_site(
    cell: Cell, frail_proxy: Proxy, own_redis_server: RedisServer, own_postgres_server: PostgresServer
) -> Iterator[Site]:
    """A deployment of which everything may be harmed."""
    url = f"redis://127.0.0.1:{frail_proxy.port}/0"
    with closing(Site(cell, own_redis_server, own_postgres_server, broker_url=url)) as site:
        yield site
