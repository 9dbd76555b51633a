"""Switching Celery on and off again, in any order, with whatever is under way: each call is one row.

The steps are those of docs/OPERATING.md, "Rolling out and back".
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from integration.faults.cell import Cell
from integration.faults.site import Site
from servers import PostgresServer, RedisServer
from waiting import wait_until

ON = {"CELERY_ENABLED": "true"}
OFF = {"CELERY_ENABLED": "false"}
COMMAND = (sys.executable, "-m", "execution_logger.cli")


@pytest.fixture
def site(own_redis_server: RedisServer, postgres_server: PostgresServer, template: str) -> Iterator[Site]:
    """A deployment whose Redis may be killed, and no worker yet."""
    with closing(Site(Cell("rollout", 1), own_redis_server, postgres_server, template=template)) as site:
        yield site


def run(site: Site, *words: str, **variables: str) -> str:
    """What a command prints that must succeed."""
    environment = {**site.environment, **variables}
    done = subprocess.run(
        [*COMMAND, *words], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def recover(site: Site, **variables: str) -> int:
    """Send what dead processes have left; how many entries that were."""
    found = json.loads(run(site, "recover", "--json", **variables))["found"]
    return sum(journal["entries"] for journal in found["journals"])


@pytest.mark.slow
def test_the_whole_way_there_and_back(site: Site) -> None:
    """Off, on, faults, load, off again with entries in the queue and in a journal: nothing lost or twice."""
    # Off: the database alone.
    site.host("plain", "--count", 500, **OFF).wait()
    assert site.rows() == 500
    # On: workers first, then host after host, while the others still write directly.
    with site.worker(supervised=True) as worker:
        old = site.host("plain", "--rate", 200, "--then", "wait", **OFF)
        site.host("plain", "--count", 500, **ON).wait()
        site.wait_for_calls(100)
        old.stop()
        # Faults: a host, the worker and the broker are killed under way.
        host = site.host("plain", "--rate", 200, **ON)
        site.wait_for_calls(200)
        host.kill()
        host = site.host("plain", "--rate", 200, **ON)
        worker.kill()
        site.wait_for_calls(100)
        site.redis.kill()
        site.wait_for_calls(100)
        site.redis.start()
        worker.start()
        # Load.
        site.host("threads", "--count", 5_000, **ON).wait()
        host.stop()
        worker.stop()
    # Off again: there is nobody to empty the queue, and what could not be sent is in a journal.
    site.host("plain", "--count", 500, **ON).wait()
    assert site.queued()
    site.redis.stop()
    host = site.host("plain", "--rate", 200, **ON)
    site.wait_for_calls(200)
    host.kill()
    site.host("plain", "--rate", 200, **OFF)
    site.wait_for_calls(200)
    wait_until(lambda: len(site.journals()) == 1, 30)  # its own
    site.stop_hosts()
    # What is in the queue comes when a worker does.
    site.redis.start()
    with site.worker(supervised=True):
        site.check()
    assert not site.journals()
    run(site, "audit", "--late-after", "0")
    print(f"{site.returned()} calls")


def test_a_broker_that_is_gone_for_good_keeps_nothing(site: Site) -> None:
    """Rolling back because Redis has failed: the next process stores what the last one had left, directly."""
    host = site.host("plain", "--rate", 200, **ON)
    wait_until(site.queued)  # sent and unconfirmed
    site.redis.kill()
    site.wait_for_calls(100)
    host.kill()
    site.host("idle", **OFF)
    wait_until(lambda: site.rows() >= site.returned(), 20)
    site.stop_hosts()
    assert site.count().is_exact
    assert not site.journals()


def test_entries_of_the_time_before_go_by_celery(site: Site) -> None:
    """A direct host was killed while the database was away, and its successor sends its entries."""
    site.execute("ALTER TABLE execution_logs RENAME TO away")
    host = site.host("plain", "--count", 200, "--then", "wait", **OFF)
    wait_until(lambda: site.returned() == 200)
    host.kill()
    site.execute("ALTER TABLE away RENAME TO execution_logs")
    site.host("idle", **ON)
    with site.worker():
        wait_until(lambda: site.rows() == site.returned(), 20)
        site.stop_hosts()
        site.check()


@pytest.mark.parametrize("variables", [OFF, ON], ids=["off", "on"])
def test_recover_empties_the_journals_of_both(site: Site, variables: dict[str, str]) -> None:
    """On a machine where no host runs any more, whichever way it is switched now."""
    site.redis.stop()
    site.execute("ALTER TABLE execution_logs RENAME TO away")
    for way in (ON, OFF):
        host = site.host("plain", "--count", 100, "--then", "wait", **way)
        wait_until(lambda: site.returned() % 100 == 0)
        host.kill()
    site.execute("ALTER TABLE away RENAME TO execution_logs")
    site.redis.start()
    with site.worker():
        assert recover(site, **variables) == 200
        site.check()


def test_what_is_queued_is_stored_by_a_worker_of_a_deployment_that_is_off(site: Site) -> None:
    """`CELERY_ENABLED=false` in a file that hosts and workers share does not stop a worker."""
    site.host("plain", "--count", 100, **ON).wait()
    assert site.queued()
    worker = site.worker(supervised=True)
    worker.environment |= OFF
    with worker:
        site.check()
