"""The worker's confirmer: given when it can be, and never in the way."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from children import in_fork
from doubles import ManualClock
from execution_logger import Settings, SettingsError
from execution_logger.broker.confirmations import HELD, Confirmations, Outcome
from execution_logger.errors import ResultsUnavailableError
from execution_logger.store import WriteResult
from execution_logger.worker import confirmations as module
from execution_logger.worker.batch import ReceivedBatch
from execution_logger.worker.confirmations import Confirmer

AWAITED = ReceivedBatch("b", "[]", is_awaited=True)
ANOTHER = ReceivedBatch("b", "[]")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A result backend without a server."""
    return Settings(result_backend=f"file://{tmp_path}")


@pytest.fixture
def confirmer(settings: Settings) -> Iterator[Confirmer]:
    """The confirmer of a worker."""
    confirmer = Confirmer(settings)
    yield confirmer
    confirmer.close()


@pytest.fixture
def confirmations(settings: Settings) -> Iterator[Confirmations]:
    """What a producer reads."""
    confirmations = Confirmations(settings, timeout_seconds=1)
    yield confirmations
    confirmations.close()


class FailingResults:
    """A result backend that is away until it is repaired."""

    def __init__(self) -> None:
        self.is_away = True
        self.requests = 0

    def store(self, *_: Any) -> None:
        """Fail, or not."""
        self.requests += 1
        if self.is_away:
            raise ResultsUnavailableError("redis://host/0: refused")

    result = forget = store

    def close(self) -> None:
        """Nothing to close."""


def test_who_asks_is_told(confirmer: Confirmer, confirmations: Confirmations) -> None:
    """What became of the entries."""
    confirmer.held(AWAITED, "the database is away " * 100)
    assert confirmations.outcomes(["b"]) == {"b": Outcome(False)}
    held = confirmations.result("b")
    assert held is not None
    assert held.status == HELD
    assert len(held.result["reason"]) == 500
    assert held.result["at"] > 1.7e9
    confirmer.stored(AWAITED, WriteResult(stored=2, duplicates=1, dead_lettered=3))
    assert confirmations.outcomes(["b"]) == {"b": Outcome(True, 3)}


def test_who_does_not_ask_is_not_told(confirmer: Confirmer, tmp_path: Path) -> None:
    """It costs nothing."""
    confirmer.held(ANOTHER, "away")
    confirmer.stored(ANOTHER, WriteResult())
    assert list(tmp_path.iterdir()) == []


def test_deaths_are_kept_for_the_next_worker(settings: Settings, tmp_path: Path) -> None:
    """Until the batch is done with; by its id, and not in the way of its result."""
    for expected in (-1, 0, 1):
        confirmer = Confirmer(settings)
        assert confirmer.add_deaths(ANOTHER, -1 if expected < 0 else 1) == expected
        confirmer.close()
    assert confirmer.add_deaths(replace(ANOTHER, id="c"), 1) == 1
    confirmer.forget_deaths(ANOTHER)
    assert confirmer.add_deaths(ANOTHER, 1) == 1


@pytest.mark.parametrize("forged", ["null", '{"deaths": "many"}', "[3]"])
def test_a_number_that_somebody_has_forged_is_none(
    confirmer: Confirmer, confirmations: Confirmations, forged: str
) -> None:
    """The batch is written."""
    confirmations.backend.set(
        confirmations.backend.get_key_for_task("b.deaths"), f'{{"status":"DEATHS","result":{forged}}}'
    )
    assert confirmer.add_deaths(ANOTHER, 1) == 1


def test_an_outage_is_said_once_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would cost a second for each batch; the database takes them all the same."""
    clock, failing = ManualClock(), FailingResults()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(module, "WorkerConfirmations", lambda *_, **__: failing)
    confirmer = Confirmer(Settings())
    for _ in range(3):
        confirmer.stored(AWAITED, WriteResult())
        assert confirmer.add_deaths(AWAITED, 1) == 0
    assert failing.requests == 1
    clock.advance(5)
    confirmer.stored(AWAITED, WriteResult())
    assert failing.requests == 2
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "batches are stored, but producers are not told: redis://host/0: refused")
    ]
    failing.is_away = False
    clock.advance(5)
    confirmer.stored(AWAITED, WriteResult())
    confirmer.stored(AWAITED, WriteResult())
    assert failing.requests == 4


def test_without_a_result_backend_nothing_is_said() -> None:
    """And nothing is connected."""
    confirmer = Confirmer(Settings(confirmation="off"))
    confirmer.stored(AWAITED, WriteResult())
    assert confirmer.add_deaths(AWAITED, 1) == 0
    confirmer.forget_deaths(AWAITED)
    confirmer.close()


def test_a_url_that_cannot_be_used_is_an_error_of_the_start() -> None:
    """And not of the first batch."""
    with pytest.raises(SettingsError, match="CELERY_RESULT_BACKEND"):
        Confirmer(Settings(result_backend="redis://host/letters"))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_its_own(confirmer: Confirmer) -> None:
    """Two processes on one connection would read each other's answers."""
    confirmer.stored(AWAITED, WriteResult())
    parents = confirmer._made

    def child() -> bool:
        confirmer.close()
        confirmer.stored(AWAITED, WriteResult())
        return confirmer._made is not parents

    assert in_fork(child)
    assert confirmer._made is parents
