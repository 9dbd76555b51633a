"""Unit tests need no server and take seconds."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import anything  # noqa: F401 - its profile is that of all property tests, which know no deadline
from doubles import DEADLINE_SECONDS
from execution_logger import ExecutionLogger, Settings, diagnostics, execution_logger
from execution_logger.delivery import Delivery
from execution_logger.testing import MemoryDelivery
from memory_broker import MemoryBroker, empty_broker
from sqlite_site import SqliteSite, make_tables

MakeLogger = Callable[..., ExecutionLogger]


@pytest.fixture(autouse=True)
def internal_errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, BaseException]]]:
    """What production counts and survives fails the test, unless it asks for this list and clears it."""
    errors: list[tuple[str, BaseException]] = []
    monkeypatch.setattr(diagnostics, "on_error", lambda *error: errors.append(error))
    yield errors
    assert not errors, "the library has hidden these errors from its host"


@pytest.fixture(autouse=True)
def unused_ready_logger() -> Iterator[None]:
    """The ready instance takes its settings once, for all tests that follow: what it records is captured."""
    yield
    used = vars(execution_logger._host).pop("pipeline", None)
    assert used is None, "the ready logger was used, and not by `capture_entries`"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[SqliteSite]:
    """A SQLite file with the library's tables."""
    async with SqliteSite(tmp_path / "logs.db") as site:
        make_tables(site.path)
        yield site


@pytest.fixture
def make_logger() -> Iterator[MakeLogger]:
    """Makes loggers with a delivery (`MemoryDelivery` by default) and settings; ends their threads."""
    loggers: list[ExecutionLogger] = []

    def make(delivery: Delivery | None = None, **settings: Any) -> ExecutionLogger:
        used = delivery or MemoryDelivery()
        loggers.append(ExecutionLogger(Settings(**settings), make_delivery=lambda: used))
        return loggers[-1]

    yield make
    for logger in loggers:
        logger.sync.shutdown(DEADLINE_SECONDS)


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    """An empty broker in memory."""
    with empty_broker() as broker:
        yield broker
