"""The worker dies while it is busy, again and again: every batch is stored once."""

import os
import signal
from collections.abc import Callable

import psutil
import pytest

from integration.faults.cell import Cell
from integration.faults.site import Site
from processes import LocalProcess
from waiting import wait_until
from workers import WorkerProcess

POOLS = ["threads", pytest.param("prefork", marks=pytest.mark.long)]

# Small messages keep the worker busy: a kill hits it while it takes one, writes one, or acknowledges one.
SMALL_BATCHES = {"EXECUTION_LOGGER_BATCH_SIZE": "5", "EXECUTION_LOGGER_MAX_BATCH_ENTRIES": "5"}


@pytest.fixture
def site(bare_site: Site) -> Site:
    """Each test starts a worker of its own, to be harmed or to be the first one."""
    return bare_site


class TestWorker:
    """`kill -9`, SIGTERM and SIGQUIT of a saturated worker, at random moments."""

    @pytest.mark.parametrize("pool", POOLS)
    def test_whole_tree_killed(self, cell: Cell, site: Site, pool: str) -> None:
        """SIGKILL of the worker and all its children."""
        harm_again_and_again(cell, site, pool, WorkerProcess.kill)

    @pytest.mark.long
    def test_prefork_parent_killed(self, cell: Cell, site: Site) -> None:
        """SIGKILL of the main process alone: its children are on their own."""

        def kill(worker: WorkerProcess) -> None:
            worker.process.send_signal(signal.SIGKILL)
            worker.process.wait()

        harm_again_and_again(cell, site, "prefork", kill)

    def test_prefork_child_killed(self, cell: Cell, site: Site) -> None:
        """SIGKILL of a child: the main process goes on with another one."""

        def kill(worker: WorkerProcess) -> None:
            children = psutil.Process(worker.pid).children()
            if children:
                cell.random.choice(children).kill()

        with site.worker("prefork", "-c", "2") as worker:
            busy_host(site)
            for _ in cell.repetitions():
                cell.let_pass_up_to(1)
                kill(worker)
            finish(site)

    @pytest.mark.long
    def test_supervised_worker_killed(self, cell: Cell, site: Site) -> None:
        """SIGKILL of the process that `execution-logger worker` supervises: it starts another one."""
        with site.worker(supervised=True) as worker:
            busy_host(site)
            for _ in cell.repetitions(2):
                cell.let_pass_up_to(1)
                starts = worker.output.count("ready.")
                (child,) = psutil.Process(worker.pid).children()
                child.kill()
                wait_until(lambda: worker.output.count("ready.") > starts, 40)  # noqa: B023
            finish(site)

    @pytest.mark.parametrize("pool", POOLS)
    def test_asked_to_end(self, cell: Cell, site: Site, pool: str) -> None:
        """SIGTERM: it ends in order."""
        harm_again_and_again(cell, site, pool, WorkerProcess.stop)

    @pytest.mark.long
    def test_supervised_worker_asked_to_end(self, cell: Cell, site: Site) -> None:
        """SIGTERM of `execution-logger worker`, which ends a prefork worker that hangs in its own end."""
        harm_again_and_again(cell, site, "prefork", WorkerProcess.stop, supervised=True)

    @pytest.mark.long
    def test_asked_to_end_twice(self, cell: Cell, site: Site) -> None:
        """A second SIGTERM shortly after the first."""

        def stop(worker: WorkerProcess) -> None:
            worker.process.send_signal(signal.SIGTERM)
            cell.let_pass_up_to(0.2)
            worker.stop()

        harm_again_and_again(cell, site, "threads", stop)

    @pytest.mark.long
    def test_asked_to_end_as_a_group(self, cell: Cell, site: Site) -> None:
        """SIGTERM to all processes of a prefork worker at once, as some service managers do."""

        def stop(worker: WorkerProcess) -> None:
            os.killpg(worker.pid, signal.SIGTERM)
            worker.process.wait()

        harm_again_and_again(cell, site, "prefork", stop)

    @pytest.mark.parametrize("pool", POOLS)
    def test_told_to_end_at_once(self, cell: Cell, site: Site, pool: str) -> None:
        """SIGQUIT, Celery's cold shutdown."""
        harm_again_and_again(cell, site, pool, lambda worker: worker.stop(signal.SIGQUIT))

    def test_killed_while_the_database_hangs(self, cell: Cell, frail_database_site: Site) -> None:
        """SIGKILL while every thread of it holds a batch that PostgreSQL does not answer for."""
        site = frail_database_site
        with site.worker("threads", "-c", "2") as worker:
            busy_host(site)
            for _ in cell.repetitions(2):
                site.postgres.pause()
                wait_until(lambda: site.in_flight() >= 2, 20)
                worker.kill()
                site.postgres.resume()
                worker.start()
                cell.let_pass_up_to(0.5)
            finish(site)

    @pytest.mark.long  # test_accounts.py does it with each pool
    def test_stopped_while_the_database_is_away(self, cell: Cell, frail_database_site: Site) -> None:
        """SIGTERM in an outage: it gives its batches back and ends at once; the next one writes them."""
        site = frail_database_site
        with site.worker() as worker:
            host = busy_host(site)
            for _ in cell.a_few():
                site.postgres.stop()
                wait_until(lambda: site.in_flight() > 0, 20)
                worker.stop()
                wait_until(lambda: site.in_flight() == 0)
                assert site.queued() > 0
                site.postgres.start()
                worker.start()
            assert host.is_running()
            finish(site)

    @pytest.mark.long
    def test_children_are_recycled(self, cell: Cell, site: Site) -> None:
        """`--max-tasks-per-child 3`: each child ends after three batches."""
        with site.worker("prefork", "-c", "2", "--max-tasks-per-child", "3"):
            for _ in cell.a_few():
                site.host("plain", "--count", 400, "--then", "wait", **SMALL_BATCHES)
            finish(site)


def busy_host(site: Site) -> LocalProcess:
    """A host with more batches than the worker can store in a while, and more to come."""
    count, rate = (10_000, 300) if site.cell.is_long else (2_000, 100)
    host = site.host("plain", "--count", count, "--rate", rate, **SMALL_BATCHES)
    wait_until(lambda: site.rows() > 0, 30)
    return host


def harm_again_and_again(
    cell: Cell, site: Site, pool: str, harm: Callable[[WorkerProcess], None], *, supervised: bool = False
) -> None:
    """Harm a busy worker at a random moment and start it again, and so on; then count."""
    options = ("--concurrency", "2") if pool == "prefork" else ()
    celerys = ("--", *options) if supervised else options
    with site.worker(pool, *celerys, supervised=supervised) as worker:
        busy_host(site)
        for _ in cell.repetitions():
            cell.let_pass_up_to(1)
            harm(worker)
            worker.start()
        finish(site)


def finish(site: Site) -> None:
    """Have the hosts end, let another one wait for what they could not wait for, and count."""
    site.stop_hosts()
    site.host("idle")
    site.check(90)
