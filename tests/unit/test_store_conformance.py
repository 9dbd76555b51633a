"""The store on SQLite does what it does on every database."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from batches import BAD
from conformance_store import *  # noqa: F403 - the tests
from sqlite_site import SqliteSite, make_tables


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[SqliteSite]:
    """A file with the library's tables."""
    async with SqliteSite(tmp_path / "logs.db") as site:
        make_tables(site.path)
        yield site


@pytest.fixture
def open_empty(tmp_path: Path) -> Callable[[], SqliteSite]:
    """Opens a file without tables."""
    return lambda: SqliteSite(tmp_path / "empty.db")


@pytest.fixture(params=BAD)
def bad(request: pytest.FixtureRequest) -> str:
    """An entry that it refuses."""
    return BAD[request.param]


@pytest.fixture
def all_bad() -> Sequence[str]:
    """All of them."""
    return list(BAD.values())
