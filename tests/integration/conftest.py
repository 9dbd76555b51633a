"""Integration tests: real servers and worker processes. Each is marked `integration`."""

from pathlib import Path

import pytest

from rows import upgrade_database
from server import MissingServerError
from servers import PostgresServer, RedisServer

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder; the hook sees those of the other folders too."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session", autouse=True)
def machine_has_servers() -> None:
    """Say once what is missing, instead of once for every test."""
    try:
        RedisServer.find_binaries()
        PostgresServer.find_binaries()
    except MissingServerError as error:
        pytest.exit(str(error), returncode=2)


@pytest.fixture
def database_url(postgres_url: str) -> str:
    """The URL of a database that has the library's tables."""
    upgrade_database(postgres_url)
    return postgres_url
