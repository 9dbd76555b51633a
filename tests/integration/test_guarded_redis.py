"""Redis over TLS, with users who may do no more than they must, and behind Sentinel."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx
import pytest
import redis

from execution_logger import ExecutionLogger, Settings
from execution_logger.broker.confirmations import STORED, Confirmations
from execution_logger.broker.queue import BrokerUnavailableError, delete_queue, queue_length
from execution_logger.delivery.celery import CeleryDelivery
from execution_logger.errors import DeliveryError
from execution_logger.operate.doctor import Level, Subject
from execution_logger.operate.doctor.broker import examine_broker
from execution_logger.worker.inspection import workers_online
from execution_logger.worker.poison import dead_messages, delete_messages, put_back, quarantine_malformed
from guarded_redis import MASTER_NAME, Certificates, SentinelServer, TlsRedisServer
from messages import let_visibility_timeout_pass
from rows import count_rows
from server import free_port
from servers import RedisServer
from waiting import wait_until
from workers import WorkerProcess

# Celery's own call; with redis-py 8.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")

USERS = Path(__file__).resolve().parents[2] / "deploy" / "redis" / "users.acl"
COMMAND = (sys.executable, "-m", "execution_logger.cli")
FLOWER_OPTIONS = ("--address=127.0.0.1", "--enable_events=False", "--logging=info")
SENTINEL_PASSWORD = "sentinels-own"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, and what it has signed."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls_redis(certificates: Certificates) -> Iterator[TlsRedisServer]:
    """A Redis that takes nothing but TLS with a client's certificate."""
    with TlsRedisServer(certificates) as server:
        yield server


def worker_of(broker_url: str, database_url: str, **environment: str) -> WorkerProcess:
    """The command that deployments start, which logs to this database."""
    variables = {"CELERY_BROKER_URL": broker_url, "DATABASE_URL": database_url, **environment}
    return WorkerProcess((*COMMAND, "worker"), environment=variables)


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@contextmanager
def logging_to(settings: Settings) -> Iterator[ExecutionLogger]:
    """A host; at its end all that it has logged must have been taken."""
    logger = ExecutionLogger(settings)
    yield logger
    assert logger.sync.shutdown().complete


def log(logger: ExecutionLogger, number: int) -> None:
    """Record entries and hand them over."""
    for count in range(number):
        logger.sync.info("run", "workflow", str(count))
    logger.sync.flush()


def workers_in_status(variables: dict[str, str]) -> list[str]:
    """Those that answer in time, by the command."""
    status = run("status", "--json", "--timeout", "60", **variables)
    assert status.returncode == 0, status.stdout
    names: list[str] = json.loads(status.stdout)["workers"]["facts"]["online"]
    return names


class TestTls:
    """`rediss://`, with the authority and the client's certificate in the URL."""

    def test_the_whole_path_is_encrypted(self, tls_redis: TlsRedisServer, database_url: str) -> None:
        """Queue, confirmations, remote control, commands: nothing needs more than the URL."""
        url = tls_redis.url()
        variables = {"CELERY_BROKER_URL": url, "DATABASE_URL": database_url}
        with worker_of(url, database_url) as worker, logging_to(Settings(broker_url=url)) as logger:
            log(logger, 3)
            wait_until(lambda: logger.stats()["stored"] == 3)
            wait_until(lambda: len(workers_in_status(variables)) == 1)
            assert run("doctor", **variables).returncode == 0
            assert "insecure" not in worker.output
        assert count_rows(database_url) == 3

    @pytest.mark.parametrize(
        ("query", "complaint"),
        [
            ({"ssl_ca_certs": ""}, "certificate verify failed"),
            ({"ssl_ca_certs": "", "ssl_cert_reqs": "required"}, "certificate verify failed"),
            ({"ssl_certfile": "", "ssl_keyfile": ""}, "(certificate required|EOF|reset|closed|Broken pipe)"),
        ],
    )
    def test_a_stranger_is_refused(
        self, tls_redis: TlsRedisServer, query: dict[str, str], complaint: str
    ) -> None:
        """A server whose authority is unknown by us, and we by a server that has no certificate of ours."""
        settings = Settings(broker_url=tls_redis.url(0, **query))
        with pytest.raises(BrokerUnavailableError, match=f"(?i){complaint}"):
            queue_length(settings)
        with closing(CeleryDelivery(settings)) as delivery, pytest.raises(DeliveryError):
            delivery.look_at_queue()

    def test_certificates_need_not_be_checked(self, tls_redis: TlsRedisServer) -> None:
        """Whoever says so in the URL gets encryption alone."""
        settings = Settings(broker_url=tls_redis.url(ssl_ca_certs="", ssl_cert_reqs="none"))
        assert queue_length(settings).waiting == 0


class TestUsers:
    """The users of `deploy/redis/users.acl`."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[RedisServer]:
        """A Redis with those users, and an administrator for the test."""
        users = tmp_path / "users.acl"
        users.write_text(f"{USERS.read_text()}user admin on >admin ~* &* +@all\n")
        server = GuardedRedisServer(aclfile=str(users))
        with server:
            yield server

    def test_host_and_worker_may_do_what_they_must(
        self, server: "GuardedRedisServer", database_url: str
    ) -> None:
        """Send, store, confirm, look, redeliver, quarantine, answer: Redis has refused nothing."""
        host, worker_url = server.url_of("log_host"), server.url_of("log_worker")
        worker = worker_of(worker_url, database_url)
        settings = Settings(broker_url=worker_url)
        with worker, logging_to(Settings(broker_url=host)) as logger:
            log(logger, 3)
            wait_until(lambda: logger.stats()["stored"] == 3)
            assert len(workers_online(settings)) == 1
            self.check_redelivery(server, worker, logger, database_url)
            assert (
                run(
                    "status", "--timeout", "60", CELERY_BROKER_URL=worker_url, DATABASE_URL=database_url
                ).returncode
                == 0
            )
            with closing(CeleryDelivery(Settings(broker_url=host))) as delivery:
                assert delivery.look_at_queue().waiting == 0
        messages = dead_messages(settings)
        assert put_back(settings, messages[0])
        assert delete_messages(settings, messages) == 2
        delete_queue(settings)
        assert server.refusals() == []

    def test_a_user_of_one_prefix_is_told_which_keys_are_missing(self, server: "GuardedRedisServer") -> None:
        """Celery has keys that begin otherwise; the doctor names those that are refused."""
        with server.client() as client:
            client.execute_command("ACL SETUSER team on >secret ~team* &* +@all")
        url = f"redis://team:secret@127.0.0.1:{server.port}/0"
        subject = Subject(Settings(broker_url=url, queue="team-logs"), {}, time.time)
        (finding,) = (each for each in examine_broker(subject) if each.level is Level.ERROR)
        assert finding.what.startswith("Redis refuses HLEN unacked: ")
        assert "deploy/redis/users.acl" in finding.advice

    def test_flower_may_look(self, server: "GuardedRedisServer", database_url: str) -> None:
        """As the worker: at the queue, and at what workers say of themselves."""
        variables = {"CELERY_BROKER_URL": server.url_of("log_worker"), "DATABASE_URL": database_url}
        port = free_port()
        command = (sys.executable, "-m", "celery", "-A", "tasks", "flower", f"--port={port}", *FLOWER_OPTIONS)
        flower = WorkerProcess(command, environment=variables)
        with closing(flower), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
            flower.start(ready="Visit me at")
            wait_until(lambda: ">logs<" in "".join(client.get("/broker").text.split()))
            wait_until(lambda: "psubscribe" in server.commands())
        assert server.refusals() == []

    def check_redelivery(
        self, server: "GuardedRedisServer", worker: WorkerProcess, logger: ExecutionLogger, database_url: str
    ) -> None:
        """A batch that a killed worker had in hand comes back, and what would kill the next one is moved."""
        with server.client() as admin:
            with locked_table(database_url):
                log(logger, 2)
                wait_until(lambda: admin.hlen("logs.unacked") == 1)
                worker.kill()
            # Until Redis has seen the killed worker's connection end it would hand it what comes.
            wait_until(lambda: admin.info("clients")["blocked_clients"] == 0)
            admin.lpush("logs", "{}", "no message")
            assert quarantine_malformed(Settings(broker_url=server.url_of("log_worker"))) == 2
            let_visibility_timeout_pass(admin)
            worker.start()
            wait_until(lambda: count_rows(database_url) == 5)

    @pytest.mark.parametrize(
        ("user", "command"),
        [
            ("log_host", "LRANGE logs 0 -1"),
            ("log_host", "DEL logs"),
            ("log_host", "RPOP logs"),
            ("log_host", "LPUSH celery x"),
            ("log_host", "SET celery-task-meta-x y"),
            ("log_host", "HGETALL logs.unacked"),
            ("log_host", "PUBLISH /0.celery.pidbox x"),
            ("log_worker", "LPUSH celery x"),
            ("log_worker", "GET session:1"),
            ("log_worker", "DEL session:1"),
            ("log_worker", "PUBLISH news x"),
            ("log_worker", "SCAN 0"),
            *(
                (user, word)
                for user in ("log_host", "log_worker")
                for word in ("KEYS *", "FLUSHALL", "FLUSHDB")
            ),
            *((user, "CONFIG SET maxmemory 1") for user in ("log_host", "log_worker")),
            *((user, "CLIENT KILL ID 1") for user in ("log_host", "log_worker")),
            *((user, "ACL LIST") for user in ("log_host", "log_worker")),
        ],
    )
    def test_all_else_is_refused(self, server: "GuardedRedisServer", user: str, command: str) -> None:
        """Other people's keys, the queue's content for hosts, and what an administrator does."""
        with (
            redis.Redis.from_url(server.url_of(user)) as client,
            pytest.raises(redis.exceptions.NoPermissionError),
        ):
            client.execute_command(*command.split())

    def test_without_a_user_nothing_goes(self, server: "GuardedRedisServer") -> None:
        """The user `default` is off."""
        with pytest.raises(BrokerUnavailableError, match=r"(?i)auth"):
            queue_length(Settings(broker_url=server.url()))


class GuardedRedisServer(RedisServer):
    """A Redis whose users come from a file."""

    def url_of(self, user: str) -> str:
        """With its password."""
        passwords = {"log_host": "change-me-1", "log_worker": "change-me-2", "admin": "admin"}
        return f"redis://{user}:{passwords[user]}@127.0.0.1:{self.port}/0"

    def client(self, database: int = 0) -> "redis.Redis":
        """The administrator's."""
        return redis.Redis.from_url(self.url_of("admin"), decode_responses=True, socket_timeout=60)

    def commands(self) -> set[str]:
        """Those that were used."""
        with self.client() as admin:
            return {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}

    def refusals(self) -> list[Any]:
        """What anybody has tried in vain."""
        with self.client() as admin:
            return [(each["username"], each["object"]) for each in admin.acl_log()]


@pytest.fixture(params=["plain", pytest.param("tls", marks=pytest.mark.long)])
def sentinel_site(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator["SentinelSite"]:
    """A master, its replica and a Sentinel; with and without TLS."""
    with SentinelSite(certificates if request.param == "tls" else None) as site:
        yield site


@pytest.mark.slow
def test_a_failover_loses_nothing(sentinel_site: "SentinelSite", database_url: str) -> None:
    """The master is killed under load: each entry is one row, and host and worker find the new one alone."""
    settings = Settings(
        broker_url=sentinel_site.url,
        sentinel_master_name=MASTER_NAME,
        sentinel_password=SENTINEL_PASSWORD,
        retry_pause_max_seconds=1.0,
        visibility_timeout_seconds=10,
        database_timeout_seconds=5,
    )
    environment = {
        "EXECUTION_LOGGER_VISIBILITY_TIMEOUT_SECONDS": "10",
        "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS": "5",
        "EXECUTION_LOGGER_SENTINEL_MASTER_NAME": MASTER_NAME,
        "EXECUTION_LOGGER_SENTINEL_PASSWORD": SENTINEL_PASSWORD,
    }
    logged = 0
    halfway, stop = threading.Event(), threading.Event()

    def work(logger: ExecutionLogger) -> None:
        nonlocal logged
        while not stop.wait(0.001):
            logger.sync.info("run", "workflow", str(logged))
            logged += 1
            if logged == 500:
                halfway.set()

    with worker_of(sentinel_site.url, database_url, **environment), logging_to(settings) as logger:
        thread = threading.Thread(target=work, args=(logger,))
        thread.start()
        try:
            assert halfway.wait(20)
            sentinel_site.fail_over()
            after = logged
            wait_until(lambda: logged > after + 500, 20)
        finally:
            stop.set()
            thread.join()
        logger.sync.flush()
        wait_until(lambda: logger.stats()["stored"] == logged, 45, message=lambda: str(logger.stats()))
        status = run(
            "status", "--json", "--timeout", "60", CELERY_BROKER_URL=sentinel_site.url, **environment
        )
        assert json.loads(status.stdout)["broker"]["error"] is None
        with closing(Confirmations(settings, timeout_seconds=1)) as results:
            results.store("batch", STORED, {})
            assert results.outcomes(["batch"])["batch"].is_stored
    assert count_rows(database_url) == logged
    print(f"{logged} calls, {logger.stats()['batches_sent_again']} batches sent again")


@pytest.mark.parametrize("command", [("worker",), ("status",)])
def test_the_masters_name_is_asked_for(command: tuple[str, ...]) -> None:
    """One line says which variable is missing, and the worker ends at once."""
    done = run(*command, CELERY_BROKER_URL="sentinel://127.0.0.1:1", DATABASE_URL="sqlite:////nowhere/x.db")
    output = " ".join((done.stdout + done.stderr).split())
    assert "EXECUTION_LOGGER_SENTINEL_MASTER_NAME is not set" in output
    assert "Traceback" not in output
    assert done.returncode == (2 if command == ("worker",) else 1)


class SentinelSite:
    """A master, a replica and a Sentinel."""

    def __init__(self, certificates: Certificates | None) -> None:
        self._certificates = certificates
        self.master = self._server()
        self.replica = self._server(replicaof=f"127.0.0.1 {self.master.port}")
        self.sentinel = SentinelServer(self.master, password=SENTINEL_PASSWORD, certificates=certificates)

    @property
    def url(self) -> str:
        """A Sentinel that is not there, and the one that is."""
        return f"sentinel://127.0.0.1:1/0;{self.sentinel.url()}"

    def fail_over(self) -> None:
        """Kill the master, and wait until the replica is the master."""
        self.master.kill()
        self.sentinel.wait_for_master(self.replica.port)

    def __enter__(self) -> Self:
        try:
            self.master.start()
            self.replica.start()
            self.sentinel.start()
            self.sentinel.wait_for_replica()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all of them."""
        for server in (self.sentinel, self.replica, self.master):
            server.close()

    def _server(self, **options: str | int) -> RedisServer:
        options = {"repl_diskless_sync_delay": 0, **options}  # it waits for more replicas otherwise
        if self._certificates is None:
            return RedisServer(**options)
        return TlsRedisServer(self._certificates, tls_replication="yes", **options)


@contextmanager
def locked_table(url: str) -> Iterator[None]:
    """Let nobody write an entry meanwhile."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(url))
        runner.run(connection.execute("BEGIN; LOCK TABLE execution_logs"))
        try:
            yield
        finally:
            runner.run(connection.close())
