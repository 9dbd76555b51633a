"""Confirmations of batches, with real workers, a real Redis and a real PostgreSQL."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psutil
import pytest
import redis

from batches import batch, encoded
from execution_logger import Settings
from execution_logger.broker.confirmations import HELD, STORED, Confirmations, Outcome
from execution_logger.errors import ResultsUnavailableError
from execution_logger.worker.batch import ReceivedBatch
from execution_logger.worker.confirmations import Confirmer, _deaths
from execution_logger.worker.poison import MOST_DEATHS
from messages import let_visibility_timeout_pass, send_batch
from rows import count_rows, fetch, upgrade_database
from servers import PostgresServer, RedisServer
from waiting import wait_until
from workers import CELERY, WorkerProcess

# Celery's own call; with redis-py 8.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")

QUICK = {
    "EXECUTION_LOGGER_VISIBILITY_TIMEOUT_SECONDS": "10",
    "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS": "5",
}

SLEEPY = """
CREATE FUNCTION sleep_over_poison() RETURNS trigger AS $$ BEGIN
    IF NEW.message = 'poison' THEN PERFORM pg_sleep(30); END IF;
    RETURN NEW;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER sleepy BEFORE INSERT ON execution_logs FOR EACH ROW EXECUTE FUNCTION sleep_over_poison()
"""
"""A batch with the message `poison` is never stored, and there is time to kill who tries."""

HOST = """
from celery import Celery
from execution_logger.worker import register_tasks

app = Celery("host", broker={broker!r}, backend="redis://127.0.0.1:1/0")
app.conf.update(broker_transport_options={{"visibility_timeout": 10}}, task_default_queue="host")
register_tasks(app)
"""


class Site:
    """A queue to put batches on, and what the worker says of them."""

    def __init__(self, broker_url: str, database_url: str, result_backend: str | None = None) -> None:
        self.database_url = database_url
        self.environment = {"CELERY_BROKER_URL": broker_url, "DATABASE_URL": database_url, **QUICK}
        if result_backend:
            self.environment["CELERY_RESULT_BACKEND"] = result_backend
        self._settings = Settings(broker_url=broker_url, result_backend=result_backend)
        self.results = Confirmations(self._settings, timeout_seconds=1)

    def close(self) -> None:
        """Close the connections."""
        self.results.close()

    def send(self, batch_id: str, *messages: str, awaited: bool = True, **span: Any) -> None:
        """Put a batch on the queue, an entry for each message."""
        entries = batch(*(encoded(message=message) for message in messages or ("hello",)))
        send_batch(self._settings, batch_id, entries, awaited=awaited, **span)

    def note_deaths(self, batch_id: str, number: int) -> None:
        """As if so many workers had died over a batch already."""
        with closing(Confirmer(self._settings)) as word:
            word.add_deaths(ReceivedBatch(batch_id, ""), number)

    def deaths(self, batch_id: str) -> int:
        """How many have, as far as the batch's next worker knows."""
        return _deaths(self.results.result(f"{batch_id}.deaths"))

    def let_visibility_timeout_pass(self) -> None:
        """For what killed workers had in hand."""
        with redis.Redis.from_url(self.environment["CELERY_BROKER_URL"]) as client:
            let_visibility_timeout_pass(client)

    def worker(self, pool: str, *arguments: str) -> WorkerProcess:
        """A worker as deployments start it, not started yet."""
        return WorkerProcess(
            (*CELERY, *arguments), environment={**self.environment, "EXECUTION_LOGGER_WORKER_POOL": pool}
        )

    def wait_for(
        self, worker: WorkerProcess, *batch_ids: str, timeout_seconds: float = 20
    ) -> dict[str, Outcome]:
        """What the worker says of these batches, once they are all stored."""

        def are_stored() -> bool:
            found = self.results.outcomes(batch_ids)
            return len(found) == len(batch_ids) and all(outcome.is_stored for outcome in found.values())

        wait_until(are_stored, timeout_seconds, message=lambda: worker.output)
        return self.results.outcomes(batch_ids)

    def dead_letters(self) -> list[tuple[str, str]]:
        """Batch and reason of each."""
        rows = fetch(self.database_url, "SELECT batch_id, reason FROM execution_log_dead_letters")
        return [(row["batch_id"], row["reason"]) for row in rows]


@pytest.fixture
def site(redis_url: str, database_url: str) -> Iterator[Site]:
    """A Redis that carries both the batches and the word of them."""
    with closing(Site(redis_url, database_url)) as site:
        yield site


class TestResults:
    """The result backend itself."""

    def test_hundreds_are_one_request_of_two_milliseconds(
        self, redis_server: RedisServer, redis_url: str
    ) -> None:
        """A shipper asks for all that is on the way, each second."""
        ids = [f"0192e4a0-0000-7000-8000-{number:012d}" for number in range(500)]
        with closing(Confirmations(Settings(broker_url=redis_url), timeout_seconds=1)) as results:
            for batch_id in ids:
                results.store(batch_id, STORED, {"stored": 50, "duplicates": 0, "dead_lettered": 0})
            with redis_server.client() as client:
                client.config_resetstat()
                began_at = time.thread_time()  # others that keep the machine busy take nothing of it
                assert len(results.outcomes(ids)) == 500
                took_seconds = time.thread_time() - began_at
                results.forget(ids)
                commands = client.info("commandstats")
                assert client.keys("*") == []
        assert {"cmdstat_mget", "cmdstat_del"} <= commands.keys()
        assert commands["cmdstat_mget"]["calls"] == commands["cmdstat_del"]["calls"] == 1
        assert took_seconds < 0.05, "about 2 ms"

    @pytest.mark.parametrize("harm", ["pause", "kill"])
    def test_an_outage_takes_a_second(self, own_redis_server: RedisServer, harm: str) -> None:
        """Whether Redis hangs or is gone, and whether there was a connection; afterwards all is well."""
        settings = Settings(broker_url=own_redis_server.url())
        with (
            closing(Confirmations(settings, timeout_seconds=1)) as warm,
            closing(Confirmations(settings, timeout_seconds=1)) as cold,
        ):
            warm.store("b", HELD, {})
            getattr(own_redis_server, harm)()
            for results in (warm, cold):
                for request in (
                    lambda results: results.outcomes(["b"]),
                    lambda results: results.forget(["b"]),
                    lambda results: results.store("b", STORED, {}),
                ):
                    assert seconds_to_fail(request, results) < 1.5
            (own_redis_server.resume if harm == "pause" else own_redis_server.start)()
            warm.store("b", STORED, {})
            assert warm.outcomes(["b"]) == cold.outcomes(["b"]) == {"b": Outcome(True)}

    def test_who_never_accepts_costs_a_second(self) -> None:
        """A black hole, as a cold connection sees it."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            port = listener.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)):  # the queue of the listener is full
                settings = Settings(broker_url=f"redis://127.0.0.1:{port}/0")
                with closing(Confirmations(settings, timeout_seconds=1)) as results:
                    assert seconds_to_fail(lambda results: results.outcomes(["b"]), results) < 1.5


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_a_batch_that_is_stored_is_confirmed(site: Site, pool: str) -> None:
    """When it was asked for, with the numbers; its rows are there by then."""
    with site.worker(pool, "-c", "2") as worker:
        site.send("a", "1", "2", process="host-1", first=1)
        assert site.wait_for(worker, "a") == {"a": Outcome(True)}
        assert count_rows(site.database_url) == 2
        site.send("b", "3", awaited=False)
        wait_until(lambda: count_rows(site.database_url) == 3)
        site.send("c", "4")
        site.wait_for(worker, "c")
    assert site.results.outcomes(["b"]) == {}
    result = site.results.result("a")
    assert result is not None
    assert result.result == {"stored": 2, "duplicates": 0, "dead_lettered": 0}
    ledger = fetch(site.database_url, "SELECT batch_id, process, first, entries FROM execution_log_batches")
    assert ledger == [{"batch_id": "a", "process": "host-1", "first": 1, "entries": 2}]


def test_the_embedded_broker_confirms_too(tmp_path: Any, database_url: str) -> None:
    """In a folder beside its messages, and nothing is left of it."""
    with closing(Site(f"embedded://{tmp_path}/broker", database_url)) as site:
        with site.worker("threads") as worker:
            site.send("a")
            site.wait_for(worker, "a")
        site.results.forget(["a"])
        assert list((tmp_path / "broker" / "results").iterdir()) == []


def test_a_hosts_own_worker_confirms(site: Site) -> None:
    """Through the library's result backend; what the application has for its own plays no part."""
    with closing(site.worker("threads")) as worker:
        worker.command = tuple("host" if word == "tasks" else word for word in worker.command)
        source = HOST.format(broker=site.environment["CELERY_BROKER_URL"])
        (worker.folder / "host.py").write_text(source)
        worker.start()
        site.send("a")
        site.wait_for(worker, "a")
        assert "127.0.0.1:1/0" in worker.output, "the host's own, which refuses connections"
        assert "Traceback" not in worker.output


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_batch_that_waits_for_the_database_is_held(
    own_postgres_server: PostgresServer, redis_url: str, pool: str
) -> None:
    """Its producer knows, and does not send it again; at last it is confirmed."""
    database_url = own_postgres_server.url()
    upgrade_database(database_url)
    with closing(Site(redis_url, database_url)) as site, site.worker(pool, "-c", "2") as worker:
        site.send("a")
        site.wait_for(worker, "a")
        own_postgres_server.stop()
        site.send("b")
        wait_until(lambda: site.results.outcomes(["b"]) == {"b": Outcome(False)}, 20)
        held = site.results.result("b")
        assert held is not None
        assert abs(held.result["at"] - time.time()) < 20
        assert "cannot be used now" in held.result["reason"]
        own_postgres_server.start()
        site.wait_for(worker, "b")


@pytest.mark.parametrize("harm", ["pause", "kill"])
def test_a_result_backend_that_is_away_holds_up_nothing(
    own_redis_server: RedisServer, redis_url: str, database_url: str, harm: str
) -> None:
    """Batches are stored and leave the queue; when it is back, their successors are confirmed."""
    with (
        closing(Site(redis_url, database_url, own_redis_server.url())) as site,
        site.worker("threads", "-c", "1") as worker,
    ):
        site.send("a")
        site.wait_for(worker, "a")
        getattr(own_redis_server, harm)()
        began_at = time.monotonic()
        for number in range(20):
            site.send(f"b{number}")
        wait_until(lambda: count_rows(site.database_url) == 21, 20, message=lambda: worker.output)
        assert time.monotonic() - began_at < 10
        (own_redis_server.resume if harm == "pause" else own_redis_server.start)()
        wait_until(lambda: is_confirmed(site), 30)
        assert worker.output.count("producers are not told") == 1
        assert "Traceback" not in worker.output


def is_confirmed(site: Site) -> bool:
    """Whether a batch that is sent now is confirmed soon: the worker asks again after some seconds."""
    batch_id = f"c{time.monotonic_ns()}"
    site.send(batch_id)
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        if site.results.outcomes([batch_id]):
            return True
        time.sleep(0.05)
    return False


class TestDeaths:
    """A batch that kills its worker, again and again."""

    def test_killed_children(self, site: Site, postgres_server: PostgresServer) -> None:
        """Celery gives the batch of a killed child back at once; the others of the queue are stored."""
        with site.worker("prefork", "-c", "1") as worker:

            def kill() -> None:
                for child in psutil.Process(worker.pid).children():
                    child.kill()

            check_that_it_is_given_up(site, postgres_server, worker, kill)

    def test_killed_workers(self, site: Site, postgres_server: PostgresServer) -> None:
        """The batch comes back with the visibility timeout."""
        with site.worker("threads", "-c", "2") as worker:

            def kill() -> None:
                worker.kill()
                site.let_visibility_timeout_pass()
                worker.start()

            check_that_it_is_given_up(site, postgres_server, worker, kill, deaths_before=MOST_DEATHS - 2)

    def test_workers_that_are_killed_in_an_outage_are_not_the_batchs_fault(
        self, own_postgres_server: PostgresServer, redis_url: str
    ) -> None:
        """It waits for the database each time, and is stored when that is back."""
        upgrade_database(own_postgres_server.url())
        with closing(Site(redis_url, own_postgres_server.url())) as site, site.worker("threads") as worker:
            own_postgres_server.stop()
            site.note_deaths("a", MOST_DEATHS - 1)
            site.send("a")
            for _ in range(3):
                wait_until(lambda: "batches wait in the queue" in worker.process.output, 40)
                wait_until(lambda: site.results.outcomes(["a"]))
                wait_until(lambda: site.deaths("a") == MOST_DEATHS - 2)  # this one will not have died of it
                worker.kill()
                site.let_visibility_timeout_pass()
                worker.start()
            own_postgres_server.start()
            assert site.wait_for(worker, "a", timeout_seconds=40) == {"a": Outcome(True)}
            assert site.dead_letters() == []


def check_that_it_is_given_up(
    site: Site,
    postgres: PostgresServer,
    worker: WorkerProcess,
    kill: Callable[[], None],
    deaths_before: int = 0,
) -> None:
    """So many deaths, and its entries are dead letters; it is confirmed, so that it is not sent again."""
    site.note_deaths("deadly", deaths_before)
    for statement in SLEEPY.split(";\nCREATE TRIGGER"):
        text = (
            statement if "FUNCTION sleep_over_poison() RETURNS" in statement else f"CREATE TRIGGER{statement}"
        )
        postgres.execute(text, database=site.database_url.rpartition("/")[2])
    site.send("deadly", "poison", "2", "3", process="host-1", first=1)
    for _ in range(MOST_DEATHS - deaths_before):
        wait_until(lambda: is_sleeping(site), 40, message=lambda: worker.output)
        assert site.dead_letters() == []
        kill()
        end_sleep(site)
    site.send("harmless", "4")
    outcomes = site.wait_for(worker, "deadly", "harmless", timeout_seconds=40)
    assert outcomes == {"deadly": Outcome(True, 3), "harmless": Outcome(True)}
    assert site.dead_letters() == [("deadly", f"{MOST_DEATHS} workers have died over its batch")] * 3
    assert count_rows(site.database_url) == 1
    assert worker.output.count("batch deadly is in the dead letters, whole") == 1
    ledger = fetch(
        site.database_url, "SELECT dead_lettered FROM execution_log_batches WHERE batch_id='deadly'"
    )
    assert ledger == [{"dead_lettered": 3}]


def is_sleeping(site: Site) -> bool:
    """Whether a worker tries to store the poison."""
    rows = fetch(site.database_url, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    return bool(rows)


def end_sleep(site: Site) -> None:
    """End the sessions of those who were killed."""
    fetch(
        site.database_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
    )
    wait_until(lambda: not is_sleeping(site))


def seconds_to_fail(request: Callable[[Confirmations], object], results: Confirmations) -> float:
    """How long a request takes that cannot succeed."""
    began_at = time.monotonic()
    with pytest.raises(ResultsUnavailableError):
        request(results)
    return time.monotonic() - began_at
