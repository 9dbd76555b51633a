"""Integration tests: real servers and worker processes. Each is marked `integration`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.faults.cell import REPETITIONS
from rows import upgrade_database
from server import MissingServerError
from servers import PostgresServer, RedisServer

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark every test of this folder, and leave those that differ little from others to the matrix program.

    The hook sees those of the other folders too.
    """
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.integration)
    if REPETITIONS not in os.environ:
        long = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


@pytest.fixture(scope="session", autouse=True)
def machine_has_servers() -> None:
    """Say once what is missing, instead of once for every test."""
    try:
        RedisServer.find_binaries()
        PostgresServer.find_binaries()
    except MissingServerError as error:
        pytest.exit(str(error), returncode=2)


@pytest.fixture(scope="session")
def template(postgres_server: PostgresServer) -> str:
    """The name of a database with the library's tables, to be copied: making them takes longer."""
    name = postgres_server.create_database()
    upgrade_database(postgres_server.url(name))
    return name


@pytest.fixture
def database_url(postgres_server: PostgresServer, template: str) -> Iterator[str]:
    """The URL of a database that has the library's tables."""
    name = postgres_server.create_database(template)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)
