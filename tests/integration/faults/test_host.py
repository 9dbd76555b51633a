"""The host process dies: what its calls had returned for is stored by another one."""

import pytest

from integration.faults.cell import Cell
from integration.faults.site import Site
from waiting import wait_until


class TestHost:
    """`kill -9`, `os._exit` and SIGTERM of a host, at random moments."""

    @pytest.mark.parametrize(
        "variant", ["threads", *(pytest.param(name, marks=pytest.mark.long) for name in ("plain", "loop"))]
    )
    def test_killed_at_full_speed(self, cell: Cell, site: Site, variant: str) -> None:
        """Each next host takes over what the killed ones have left, while it logs itself."""
        for _ in cell.repetitions(2):
            host = site.host(variant, "--count", 10_000, "--rate", 500)
            cell.let_pass_up_to(1.5)
            host.kill()
        site.host("idle")
        site.check()

    def test_killed_while_idle(self, cell: Cell, site: Site) -> None:
        """A few entries, then nothing: killed before they are sent, before they are confirmed, or after."""
        for _ in cell.repetitions():
            host = site.host("plain", "--count", cell.random.randrange(1, 200), "--then", "wait")
            cell.let_pass_up_to(4)
            host.kill()
        site.host("idle")
        site.check()

    def test_killed_during_flush(self, cell: Cell, site: Site) -> None:
        """Killed while a call of flush() waits."""
        for _ in cell.repetitions():
            host = site.host("flushing")
            wait_until(lambda: any(each.flushes > 1 for each in site.progress().values()))
            cell.let_pass_up_to(0.5)
            host.kill()
        site.host("idle")
        site.check()

    @pytest.mark.long
    def test_killed_while_the_broker_is_away(self, cell: Cell, frail_redis_site: Site) -> None:
        """Nothing could be sent: it is all on disk, and one other process ships it, in order."""
        site = frail_redis_site
        site.redis.stop()
        for _ in cell.repetitions():
            host = site.host("plain", "--count", 5_000, "--rate", 500)
            cell.let_pass_up_to(1)
            host.kill()
        site.redis.start()
        with site.worker():
            site.host("idle")
            site.check()

    def test_killed_and_several_adopt_at_once(self, cell: Cell, frail_redis_site: Site) -> None:
        """Processes that start together share out what is left: each entry is a row, once."""
        site = frail_redis_site
        with site.worker():
            for _ in cell.repetitions(1):
                site.redis.stop()
                left = [site.host("plain", "--count", 2_000, "--rate", 200) for _ in range(3)]
                cell.let_pass_up_to(1)
                for host in left:
                    host.kill()
                site.redis.start()
                adopters = [site.host("idle") for _ in range(4)]
                wait_until(lambda: site.rows() >= site.returned(), 60, pause_seconds=0.2)
                for adopter in adopters:
                    adopter.stop()
            site.check()

    def test_adopters_are_killed_too(self, cell: Cell, frail_redis_site: Site) -> None:
        """A process that has taken over what a dead one left is killed while it ships that."""
        site = frail_redis_site
        site.redis.stop()
        site.host("plain", "--count", 30_000, "--then", "wait")
        wait_until(lambda: site.returned() >= 30_000, 30)
        site.hosts[0].kill()
        site.redis.start()
        with site.worker():
            for _ in cell.repetitions():
                host = site.host("idle")
                cell.let_pass_up_to(1)
                host.kill()
            site.host("idle")
            site.check()

    def test_ends_without_clean_up(self, cell: Cell, site: Site) -> None:
        """`os._exit` right after the last call: no exit hook runs."""
        for _ in cell.repetitions():
            host = site.host("plain", "--count", cell.random.randrange(1, 500), "--then", "exit")
            assert host.wait() == 0
        site.host("idle")
        site.check()

    def test_asked_to_end(self, cell: Cell, site: Site) -> None:
        """SIGTERM at a random moment: it ends in order, and leaves nothing for others to do."""
        for _ in cell.repetitions():
            host = site.host("plain", "--count", 5_000, "--rate", 500)
            cell.let_pass_up_to(1)
            host.stop()
        site.check()
