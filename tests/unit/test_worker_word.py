"""The worker's word: given when it can be, and never in the way."""

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
from execution_logger.broker.confirmations import HELD, Outcome, Results
from execution_logger.errors import ResultsUnavailableError
from execution_logger.store import WriteResult
from execution_logger.worker import confirmations as module
from execution_logger.worker.batch import ReceivedBatch
from execution_logger.worker.confirmations import Word

AWAITED = ReceivedBatch("b", "[]", is_awaited=True)
ANOTHER = ReceivedBatch("b", "[]")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A result backend without a server."""
    return Settings(result_backend=f"file://{tmp_path}")


@pytest.fixture
def word(settings: Settings) -> Iterator[Word]:
    """The word of a worker."""
    word = Word(settings)
    yield word
    word.close()


@pytest.fixture
def results(settings: Settings) -> Iterator[Results]:
    """What a producer reads."""
    results = Results(settings, timeout_seconds=1)
    yield results
    results.close()


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


def test_who_asks_is_told(word: Word, results: Results) -> None:
    """What became of the entries."""
    word.held(AWAITED, "the database is away " * 100)
    assert results.outcomes(["b"]) == {"b": Outcome(False)}
    held = results.result("b")
    assert held is not None
    assert held.status == HELD
    assert len(held.result["reason"]) == 500
    assert held.result["at"] > 1.7e9
    word.stored(AWAITED, WriteResult(stored=2, duplicates=1, dead_lettered=3))
    assert results.outcomes(["b"]) == {"b": Outcome(True, 3)}


def test_who_does_not_ask_is_not_told(word: Word, tmp_path: Path) -> None:
    """It costs nothing."""
    word.held(ANOTHER, "away")
    word.stored(ANOTHER, WriteResult())
    assert list(tmp_path.iterdir()) == []


def test_deaths_are_kept_for_the_next_worker(settings: Settings, tmp_path: Path) -> None:
    """Until the batch is done with; by its id, and not in the way of its result."""
    for expected in (-1, 0, 1):
        word = Word(settings)
        assert word.add_deaths(ANOTHER, -1 if expected < 0 else 1) == expected
        word.close()
    assert word.add_deaths(replace(ANOTHER, id="c"), 1) == 1
    word.forget_deaths(ANOTHER)
    assert word.add_deaths(ANOTHER, 1) == 1


@pytest.mark.parametrize("forged", ["null", '{"deaths": "many"}', "[3]"])
def test_a_number_that_somebody_has_forged_is_none(word: Word, results: Results, forged: str) -> None:
    """The batch is written."""
    results.backend.set(
        results.backend.get_key_for_task("b.deaths"), f'{{"status":"DEATHS","result":{forged}}}'
    )
    assert word.add_deaths(ANOTHER, 1) == 1


def test_an_outage_is_said_once_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would cost a second for each batch; the database takes them all the same."""
    clock, failing = ManualClock(), FailingResults()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(module, "WorkerResults", lambda *_, **__: failing)
    word = Word(Settings())
    for _ in range(3):
        word.stored(AWAITED, WriteResult())
        assert word.add_deaths(AWAITED, 1) == 0
    assert failing.requests == 1
    clock.advance(5)
    word.stored(AWAITED, WriteResult())
    assert failing.requests == 2
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "batches are stored, but producers are not told: redis://host/0: refused")
    ]
    failing.is_away = False
    clock.advance(5)
    word.stored(AWAITED, WriteResult())
    word.stored(AWAITED, WriteResult())
    assert failing.requests == 4


def test_without_a_result_backend_nothing_is_said() -> None:
    """And nothing is connected."""
    word = Word(Settings(confirmation="off"))
    word.stored(AWAITED, WriteResult())
    assert word.add_deaths(AWAITED, 1) == 0
    word.forget_deaths(AWAITED)
    word.close()


def test_a_url_that_cannot_be_used_is_an_error_of_the_start() -> None:
    """And not of the first batch."""
    with pytest.raises(SettingsError, match="CELERY_RESULT_BACKEND"):
        Word(Settings(result_backend="redis://host/letters"))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_its_own(word: Word) -> None:
    """Two processes on one connection would read each other's answers."""
    word.stored(AWAITED, WriteResult())
    parents = word._made

    def child() -> bool:
        word.close()
        word.stored(AWAITED, WriteResult())
        return word._made is not parents

    assert in_fork(child)
    assert word._made is parents
