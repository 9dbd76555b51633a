"""Fixtures of the fault suite: servers to be harmed, a site on them, and the cell of each test."""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from integration.faults.cell import SEED, Cell
from integration.faults.proxy import Proxy
from integration.faults.site import Site, worker_environment
from rows import upgrade_database
from servers import PostgresServer, RedisServer
from workers import WorkerProcess


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> Iterator[Cell]:
    """The cell of the matrix that the test is."""
    name = request.node.nodeid.partition("::")[2].replace("::", ".")
    cell = Cell(name, int(os.environ.get(SEED, time.time_ns() % 1_000_000)))
    yield cell
    cell.write()


@dataclass(frozen=True)
class Standing:
    """A worker that stands ready for all tests which do it no harm, and the database it writes to."""

    worker: WorkerProcess
    database: str


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server of this folder's own: a worker stands by that would take what other tests send."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def standing(redis_server: RedisServer, postgres_server: PostgresServer, template: str) -> Iterator[Standing]:
    """To start a worker for each of these tests would take longer than the tests."""
    database = postgres_server.create_database(template)
    environment = worker_environment(redis_server, postgres_server, database)
    with WorkerProcess(environment=environment) as worker:
        yield Standing(worker, database)


@pytest.fixture
def site(
    cell: Cell, redis_server: RedisServer, redis_url: str, postgres_server: PostgresServer, standing: Standing
) -> Iterator[Site]:
    """A deployment on servers that are not harmed, with a worker that runs."""
    with closing(Site(cell, redis_server, postgres_server, database=standing.database)) as site:
        yield site


@pytest.fixture
def bare_site(
    cell: Cell, redis_server: RedisServer, redis_url: str, postgres_server: PostgresServer, template: str
) -> Iterator[Site]:
    """A deployment on servers that are not harmed, out of sight of the worker that stands ready."""
    with closing(Site(cell, redis_server, postgres_server, redis_database=2, template=template)) as site:
        yield site


@pytest.fixture
def latin1_site(
    cell: Cell, redis_server: RedisServer, redis_url: str, postgres_server: PostgresServer
) -> Iterator[Site]:
    """The same, with a database that holds no Chinese."""
    database = postgres_server.create_database("template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    upgrade_database(postgres_server.url(database))
    with closing(Site(cell, redis_server, postgres_server, redis_database=2, database=database)) as site:
        yield site
    postgres_server.drop_database(database)


@pytest.fixture
def frail_redis_site(
    cell: Cell, own_redis_server: RedisServer, postgres_server: PostgresServer, template: str
) -> Iterator[Site]:
    """A deployment whose Redis may be killed."""
    with closing(Site(cell, own_redis_server, postgres_server, template=template)) as site:
        yield site


@pytest.fixture
def frail_database_site(
    cell: Cell, own_redis_server: RedisServer, own_postgres_server: PostgresServer
) -> Iterator[Site]:
    """A deployment whose PostgreSQL may be killed."""
    with closing(Site(cell, own_redis_server, own_postgres_server)) as site:
        yield site


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    """The network between the hosts and their broker."""
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def distant_site(
    cell: Cell,
    proxy: Proxy,
    redis_server: RedisServer,
    redis_url: str,
    postgres_server: PostgresServer,
    standing: Standing,
) -> Iterator[Site]:
    """A deployment whose hosts reach their broker over that network, with a worker that runs."""
    url = f"redis://127.0.0.1:{proxy.port}/0"
    distant = Site(cell, redis_server, postgres_server, broker_url=url, database=standing.database)
    with closing(distant) as site:
        yield site
