"""docker-compose.yml without Docker: each service's command runs, and its health check tells when not."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from compose import ROOT, Compose
from processes import LocalProcess
from rows import count_rows
from server import free_port
from servers import PostgresServer
from waiting import wait_until

REDIS_PASSWORD = "redis0secret"
API_PORT, FLOWER_PORT, REDIS_PORT, UI_PORT = (str(free_port()) for _ in range(4))


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """A new database."""
    name = postgres_server.create_database()
    yield name
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def database_url(postgres_server: PostgresServer, database: str) -> str:
    """Its URL."""
    return postgres_server.url(database)


@pytest.fixture(scope="module")
def compose(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, database: str
) -> Compose:
    """The file with `.env.example`, its three passwords and this machine's addresses filled in."""
    folder = tmp_path_factory.mktemp("compose")
    (folder / "journal").mkdir()
    lines = (ROOT / ".env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    secrets = {
        "POSTGRES_PASSWORD": "postgres0secret",
        "REDIS_PASSWORD": REDIS_PASSWORD,
        "FLOWER_BASIC_AUTH": "admin:flower0secret",
    }
    address = f"127.0.0.1:{postgres_server.port}"
    return Compose(
        folder,
        {**example, **secrets},
        {
            "@redis:6379/": f"@127.0.0.1:{REDIS_PORT}/",
            "redis-cli ": f"redis-cli -p {REDIS_PORT} ",
            "@postgres/execution_logger": f"@{address}/{database}",
            "--dbname execution_logger": f"--port {postgres_server.port} --dbname {database}",
            "0.0.0.0": "127.0.0.1",
            "8000": API_PORT,
            "5555": FLOWER_PORT,
            "8420": UI_PORT,
            "/var/lib/execution-logger-services": str(folder / "services"),
            "/var/lib/execution-logger": str(folder / "journal"),
        },
    )


@contextmanager
def started(compose: Compose, name: str, *further: str, **variables: str) -> Iterator[LocalProcess]:
    """A service that runs, and is stopped in order at the end."""
    process = compose.start(name, *further, **variables)
    try:
        yield process
        process.stop()
    finally:
        process.kill()
        print(process.output)


@pytest.fixture(scope="module")
def broker(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalProcess]:
    """The service `redis`."""
    folder = tmp_path_factory.mktemp("redis")
    own = ("--bind", "127.0.0.1", "--port", REDIS_PORT, "--dir", str(folder))
    with started(compose, "redis", *own) as process:
        compose.wait_until_healthy("redis", process)
        yield process


@pytest.fixture(scope="module")
def tables(compose: Compose, broker: LocalProcess) -> None:
    """The service `migrate`, which has ended well."""
    with started(compose, "migrate") as process:
        wait_until(lambda: not process.is_running(), 20)
        assert process.wait() == 0, process.output


def administrator() -> "redis.Redis":
    """A client of the broker."""
    return redis.Redis(port=int(REDIS_PORT), password=REDIS_PASSWORD, decode_responses=True)


def test_redis_is_healthy_as_long_as_it_takes_something(compose: Compose, broker: LocalProcess) -> None:
    """A full one answers a ping, and is of no use; and it is set up as the documentation says."""
    with administrator() as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        memory = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", 1)
        assert client.ping()
        assert not compose.is_healthy("redis")
        client.config_set("maxmemory", memory)
    assert compose.is_healthy("redis")
    assert not compose.is_healthy("redis", REDISCLI_AUTH="wrong")


def test_postgres_is_healthy_with_its_database(compose: Compose, postgres_server: PostgresServer) -> None:
    """It answers on its port, and the database is there."""
    assert compose.is_healthy("postgres")
    assert not compose.is_healthy("postgres", PGOPTIONS="-c no_such_option=1")


def test_the_worker_is_healthy_with_queue_and_table(
    compose: Compose, tables: None, postgres_server: PostgresServer, database: str
) -> None:
    """Not when it hangs, and not when there is nothing to write to."""
    with started(compose, "worker") as worker:
        compose.wait_until_healthy("worker", worker)
        postgres_server.execute("ALTER TABLE execution_logs RENAME TO away", database=database)
        assert not compose.is_healthy("worker")
        postgres_server.execute("ALTER TABLE away RENAME TO execution_logs", database=database)
        children = psutil.Process(worker.pid).children()
        for child in children:
            child.suspend()
        assert not compose.is_healthy("worker")
        for child in children:
            child.resume()
        assert compose.is_healthy("worker")
    assert not compose.is_healthy("worker")


def test_beat_is_healthy_while_it_runs(compose: Compose, tables: None) -> None:
    """The supervisor lives on when Beat itself cannot run; a killed one is noticed."""
    assert not compose.is_healthy("beat")
    with started(compose, "beat") as beat:
        compose.wait_until_healthy("beat", beat)
    assert not compose.is_healthy("beat")


def test_flower_is_healthy_while_it_shows_the_queue(compose: Compose, tables: None) -> None:
    """To those who know the password."""
    with started(compose, "flower") as flower:
        compose.wait_until_healthy("flower", flower)
        assert not compose.is_healthy("flower", FLOWER_BASIC_AUTH="admin:wrong")
        assert not compose.is_healthy("flower", FLOWER_BASIC_AUTH="")
    assert not compose.is_healthy("flower")


def test_the_page_is_healthy_while_it_answers(compose: Compose, tables: None) -> None:
    """With its database or without, to those who have no login; it names what people open."""
    assert not compose.is_healthy("ui")
    with started(compose, "ui", "--port", UI_PORT) as ui:
        compose.wait_until_healthy("ui", ui)
        assert f"the runs are at http://127.0.0.1:{UI_PORT}/\n" in ui.output
        with urllib.request.urlopen(f"http://127.0.0.1:{UI_PORT}/api/runs") as answer:
            assert json.load(answer)["is_complete"]
    assert not compose.is_healthy("ui")


def test_the_api_logs_a_run_that_the_worker_stores(compose: Compose, tables: None, database_url: str) -> None:
    """The deployment does what it is for."""
    with started(compose, "worker"), started(compose, "api") as api:
        compose.wait_until_healthy("api", api)
        request = urllib.request.Request(f"http://127.0.0.1:{API_PORT}/runs?topic=tea", method="POST")
        with urllib.request.urlopen(request) as answer:
            task_id = json.load(answer)["task_id"]
        wait_until(lambda: count_rows(database_url) == 5, 30)
        with urllib.request.urlopen(f"http://127.0.0.1:{API_PORT}/runs/{task_id}") as answer:
            assert len(json.load(answer)["steps"]) == 5
    assert not compose.is_healthy("api")


def test_an_api_without_its_journal_is_not_healthy(compose: Compose, tables: None, tmp_path: Path) -> None:
    """It works, and a kill would lose what it has not sent: somebody has to know."""
    (tmp_path / "file").touch()
    with started(compose, "api", EXECUTION_LOGGER_JOURNAL_DIRECTORY=str(tmp_path / "file")) as api:
        compose.wait_until_healthy("api", api)
        request = urllib.request.Request(f"http://127.0.0.1:{API_PORT}/runs?topic=tea", method="POST")
        with urllib.request.urlopen(request):
            wait_until(lambda: not compose.is_healthy("api"), 10)
