"""The store on PostgreSQL does what it does on every database."""

from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from batches import BAD_ON_POSTGRESQL
from conformance_store import *  # noqa: F403 - the tests
from postgresql_site import PostgresqlSite


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[PostgresqlSite]:
    """A database with the library's tables."""
    async with PostgresqlSite(database_url) as site:
        yield site


@pytest.fixture
def open_empty(postgres_url: str) -> Callable[[], PostgresqlSite]:
    """Opens a database without tables."""
    return lambda: PostgresqlSite(postgres_url, pool_size=1)


@pytest.fixture(params=BAD_ON_POSTGRESQL)
def bad(request: pytest.FixtureRequest) -> str:
    """An entry that it refuses."""
    return BAD_ON_POSTGRESQL[request.param]


@pytest.fixture
def all_bad() -> Sequence[str]:
    """All of them."""
    return list(BAD_ON_POSTGRESQL.values())
