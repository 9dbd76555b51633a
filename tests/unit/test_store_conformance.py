"""The store on SQLite does what it does on every database."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from batches import BAD
from conformance_store import *  # noqa: F403 - the tests
from sqlite_site import SqliteSite


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
