"""Fixtures of the fault suite: servers to be harmed, a site on them, and the cell of each test."""

import os
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from integration.faults.cell import SEED, Cell
from integration.faults.proxy import Proxy
from integration.faults.site import Site
from servers import PostgresServer, RedisServer


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> Iterator[Cell]:
    """The cell of the matrix that the test is."""
    name = request.node.nodeid.partition("::")[2].replace("::", ".")
    cell = Cell(name, int(os.environ.get(SEED, time.time_ns() % 1_000_000)))
    yield cell
    cell.write()


@pytest.fixture
def site(
    cell: Cell, redis_server: RedisServer, redis_url: str, postgres_server: PostgresServer
) -> Iterator[Site]:
    """A deployment on servers that are not harmed."""
    with closing(Site(cell, redis_server, postgres_server)) as site:
        yield site


@pytest.fixture
def frail_site(
    cell: Cell, own_redis_server: RedisServer, own_postgres_server: PostgresServer
) -> Iterator[Site]:
    """A deployment whose servers may be killed."""
    with closing(Site(cell, own_redis_server, own_postgres_server)) as site:
        yield site


@pytest.fixture
def frail_redis_site(
    cell: Cell, own_redis_server: RedisServer, postgres_server: PostgresServer
) -> Iterator[Site]:
    """A deployment whose Redis may be killed."""
    with closing(Site(cell, own_redis_server, postgres_server)) as site:
        yield site


@pytest.fixture
def frail_database_site(
    cell: Cell, redis_server: RedisServer, redis_url: str, own_postgres_server: PostgresServer
) -> Iterator[Site]:
    """A deployment whose PostgreSQL may be killed."""
    with closing(Site(cell, redis_server, own_postgres_server)) as site:
        yield site


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    """The network between the hosts and their broker."""
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def distant_site(
    cell: Cell, proxy: Proxy, redis_server: RedisServer, redis_url: str, postgres_server: PostgresServer
) -> Iterator[Site]:
    """A deployment whose hosts reach their broker over that network."""
    url = f"redis://127.0.0.1:{proxy.port}/0"
    with closing(Site(cell, redis_server, postgres_server, broker_url=url)) as site:
        yield site
