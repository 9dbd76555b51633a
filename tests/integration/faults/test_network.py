"""The network between host and broker loses, holds back and refuses: nothing is lost by that."""

from collections.abc import Callable

import pytest

from integration.faults.cell import Cell
from integration.faults.proxy import Proxy
from integration.faults.site import Site
from integration.faults.test_redis import SLOWEST_CALL_SECONDS, slowest_call_seconds
from waiting import let_pass

HARMS: dict[str, Callable[[Proxy], None]] = {
    "black hole": Proxy.swallow,
    "answers swallowed": lambda proxy: proxy.swallow(requests=False),
    "requests swallowed": lambda proxy: proxy.swallow(answers=False),
    "refused": Proxy.refuse,
    "half closed": Proxy.half_close,
}
SHORT = ["answers swallowed"]  # in a black hole it is as with a Redis that is frozen
LONG = [pytest.param(harm, marks=pytest.mark.long) for harm in HARMS if harm not in SHORT]


class TestNetwork:
    """A host logs all the time over a network that is harmed at random moments."""

    @pytest.mark.parametrize("harm", [*SHORT, *LONG])
    def test_between_host_and_broker(self, cell: Cell, distant_site: Site, proxy: Proxy, harm: str) -> None:
        """For longer than every timeout, then it works again."""
        site = distant_site
        site.host("plain", "--count", 1_000, "--rate", 500)
        for _ in cell.repetitions(1):
            cell.let_pass_up_to(1.5)
            HARMS[harm](proxy)
            let_pass(cell.random.uniform(0.5, 2.5))
            proxy.heal()
        assert slowest_call_seconds(site) < SLOWEST_CALL_SECONDS
        finish(site)

    def test_connections_reset(self, cell: Cell, distant_site: Site, proxy: Proxy) -> None:
        """RST of all connections at random moments while the host sends as fast as it can."""
        site = distant_site
        site.host("plain", "--count", 20_000, "--rate", 500)
        for _ in cell.repetitions(10):
            cell.let_pass_up_to(0.4)
            proxy.cut()
        finish(site)

    @pytest.mark.long
    def test_worker_in_a_black_hole(self, cell: Cell, bare_site: Site) -> None:
        """The worker's connections to the broker go silent, with batches in hand, and then are refused."""
        site = bare_site
        with Proxy(site.redis.port) as proxy:
            worker = site.worker(supervised=True)
            worker.environment["CELERY_BROKER_URL"] = site.broker_url.replace(
                f":{site.redis.port}/", f":{proxy.port}/"
            )
            with worker:
                site.host("plain", "--count", 2_000, "--rate", 300)
                for _ in cell.repetitions(1):
                    cell.let_pass_up_to(1)
                    proxy.swallow()
                    let_pass(cell.random.uniform(0.5, 2))
                    proxy.heal()
                    # Now it notices at once, instead of when its health check fails.
                    proxy.cut()
                finish(site)


def finish(site: Site) -> None:
    """Have the host end, let another one take over what it left, and count."""
    site.stop_hosts()
    site.host("idle")
    site.check(90)
