"""Redis goes away, forgets, or takes no more: calls go on as ever, and every entry is stored once."""

import shutil
from collections.abc import Callable
from contextlib import closing

import pytest

from integration.faults.calls import Progress
from integration.faults.cell import Cell
from integration.faults.site import Site
from servers import PostgresServer, RedisServer
from waiting import let_pass, wait_until

SLOWEST_CALL_SECONDS = 0.9
"""More than most pauses of a busy machine, less than any wait for a broker, which is a second."""


@pytest.fixture
def site(bare_site: Site) -> Site:
    """Each test starts a worker of its own, to be harmed or to be the first one."""
    return bare_site


class TestRedis:
    """A host logs all the time, a worker stores; Redis is harmed at random moments."""

    @pytest.mark.parametrize("harm", [pytest.param("refused", marks=pytest.mark.long), "killed"])
    def test_away_and_back(self, cell: Cell, frail_redis_site: Site, harm: str) -> None:
        """Shut down in order, or killed: with its append-only file it comes back with what it had."""
        site = frail_redis_site

        def away(seconds: float) -> None:
            (site.redis.stop if harm == "refused" else site.redis.kill)()
            let_pass(seconds)
            site.redis.start()

        harm_again_and_again(cell, site, away)

    def test_frozen(self, cell: Cell, frail_redis_site: Site) -> None:
        """SIGSTOP for longer than every timeout: what was sent meanwhile is in doubt, and stored once."""
        site = frail_redis_site

        def freeze(seconds: float) -> None:
            site.redis.pause()
            let_pass(1 + seconds)
            site.redis.resume()

        harm_again_and_again(cell, site, freeze)

    def test_restarted_empty(self, cell: Cell, frail_redis_site: Site) -> None:
        """Killed, and its data is gone: batches that were queued or under way are sent again."""
        site = frail_redis_site

        def forget(seconds: float) -> None:
            site.redis.kill()
            let_pass(seconds)
            for folder in site.redis.folder.glob("appendonlydir"):
                shutil.rmtree(folder)
            site.redis.start()

        harm_again_and_again(cell, site, forget)

    def test_flushed_with_batches_queued(self, cell: Cell, site: Site) -> None:
        """FLUSHALL while no worker runs: everything that was in the queue is sent again."""
        host = site.host("plain", "--count", 3_000, "--rate", 300)
        for _ in cell.repetitions():
            wait_until(lambda: site.queued() > 0)
            cell.let_pass_up_to(1)
            with site.redis.client() as client:
                client.flushall()
        with site.worker():
            host.stop()
            # An orderly end waits for confirmations no longer than its timeout; another one goes on.
            site.host("idle")
            site.check(120)

    @pytest.mark.long
    def test_flushed_while_the_worker_works(self, cell: Cell, site: Site) -> None:
        """FLUSHALL under load: queue, batches in hand, results and bindings are gone."""
        with site.worker(supervised=True):
            site.host("plain", "--count", 3_000, "--rate", 1_000)
            for _ in cell.repetitions():
                cell.let_pass_up_to(1.5)
                with site.redis.client() as client:
                    client.flushall()
            site.stop_hosts()
            site.host("idle")
            site.check(120)

    def test_full(self, cell: Cell, postgres_server: PostgresServer, template: str) -> None:
        """`maxmemory` with `noeviction` is reached: batches are held back, and sent when there is room."""
        server = RedisServer(maxmemory="4mb", maxmemory_policy="noeviction")
        with server as redis, closing(Site(cell, redis, postgres_server, template=template)) as site:
            for _ in cell.a_few():
                host = site.host("plain", "--count", 40_000, "--rate", 200)
                wait_until(lambda: "maxmemory" in host.output, 30)  # noqa: B023
                host.kill()
            # As an operator would: a worker that starts on a full Redis cannot declare its queue.
            with redis.client() as client:
                client.config_set("maxmemory", "0")
            with site.worker(supervised=True):
                site.host("idle")
                site.check(90)

    @pytest.mark.long
    def test_full_while_the_worker_works(
        self, cell: Cell, postgres_server: PostgresServer, template: str
    ) -> None:
        """The worker makes room, and cannot always say that it did: confirmations fail too."""
        server = RedisServer(maxmemory="6mb", maxmemory_policy="noeviction")
        with server as redis, closing(Site(cell, redis, postgres_server, template=template)) as site:
            worker = site.worker(supervised=True)
            with worker:
                site.host("idle")
                wait_until(lambda: site.rows() == 1)
                worker.pause()
                for _ in cell.a_few():
                    host = site.host("plain", "--count", 40_000, "--rate", 200)
                    wait_until(lambda: "maxmemory" in host.output, 30)  # noqa: B023
                worker.resume()
                wait_until(lambda: site.rows() > 1_000, 60)
                site.stop_hosts()
                site.host("idle")
                site.check(90)


def harm_again_and_again(cell: Cell, site: Site, harm: Callable[[float], None]) -> None:
    """Harm Redis for a random time at random moments while a host logs; then count."""
    with site.worker(supervised=True):
        site.host("plain", "--count", 1_000, "--rate", 500)
        for _ in cell.repetitions(2):
            cell.let_pass_up_to(1.5)
            harm(cell.random.uniform(0.1, 1.5))
        cell.let_pass_up_to(1)
        assert slowest_call_seconds(site) < SLOWEST_CALL_SECONDS
        site.stop_hosts()
        site.host("idle")
        site.check(120)


def slowest_call_seconds(site: Site) -> float:
    """How long the slowest of all calls took; the first ones, which load code, left out by median."""
    nothing = Progress(0, 0, 0, 0)
    return max([*site.progress().values(), nothing], key=lambda each: each.slowest_ns).slowest_ns / 1e9
