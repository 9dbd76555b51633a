"""The worker's confirmations of its batches: left in the result backend, and never in the way of a batch."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from execution_logger.broker.confirmations import (
    HELD,
    STORED,
    Confirmation,
    Confirmations,
    result_backend_url,
)
from execution_logger.diagnostics import logger
from execution_logger.errors import ResultsUnavailableError
from execution_logger.settings import Settings

if TYPE_CHECKING:  # the doctor of a base install reads this, too
    from execution_logger.store import WriteResult
    from execution_logger.worker.batch import ReceivedBatch

_encode = msgspec.json.Encoder().encode


class WorkerConfirmations(Confirmations):
    """Celery's result backend, with a short way to say that a batch is stored."""

    def store(self, batch_id: str, state: str, result: dict[str, Any]) -> None:
        """Leave a confirmation, as `Confirmations.store` does.

        Raises:
            ResultsUnavailableError: the backend does not answer.
        """
        if state == STORED and self._is_redis:
            with self.errors():
                self._store_in_redis(batch_id, result)
        else:
            super().store(batch_id, state, result)

    def _store_in_redis(self, batch_id: str, result: dict[str, Any]) -> None:
        """What Celery's own does in two round trips and three times the time.

        It looks first what is there, lest a success be taken back. This confirmation is the last one anyway.
        """
        now = datetime.now(UTC).isoformat()
        meta = {"status": STORED, "result": result, "traceback": None, "children": None, "date_done": now}
        payload = _encode({**meta, "task_id": batch_id})
        (key,) = self._keys([batch_id])
        with self.backend.client.pipeline(transaction=False) as pipeline:
            pipeline.set(key, payload, ex=self.backend.expires or None).publish(key, payload)
            pipeline.execute()


_T = TypeVar("_T")

_TIMEOUT_SECONDS = 1.0
_PAUSE_SECONDS = 5.0
_MAX_REASON_CHARS = 500
_DEATHS = "DEATHS"


class Confirmer:
    """Says what became of a batch, to its producer and to the next worker.

    A result backend that fails is asked again after some seconds: what is not said until then, the
    producer finds out by sending the batch once more. Where there is none, nothing is said.

    Raises:
        SettingsError: the URL of the result backend cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._has_backend = result_backend_url(settings) is not None
        self._lock = threading.Lock()
        self._made: tuple[int, WorkerConfirmations] | None = None
        self._is_down = False
        self._ask_again_at = 0.0
        if self._has_backend:  # a wrong URL is an error of the start, not of the first batch
            WorkerConfirmations(settings, timeout_seconds=_TIMEOUT_SECONDS).close()

    def stored(self, batch: "ReceivedBatch", result: "WriteResult") -> None:
        """The batch is in the database; said only when the producer asks for it."""
        if batch.is_awaited:
            self._try(lambda results: results.store(batch.id, STORED, asdict(result)))

    def held(self, batch: "ReceivedBatch", reason: str) -> None:
        """The batch waits for the database: there is no point in sending it again."""
        if batch.is_awaited:
            said = {"reason": reason[:_MAX_REASON_CHARS], "at": time.time()}
            self._try(lambda results: results.store(batch.id, HELD, said))

    def add_deaths(self, batch: "ReceivedBatch", number: int) -> int:
        """Add to how many workers have died over this batch; the new number, 0 when it is not known."""

        def add(results: WorkerConfirmations) -> int:
            key = f"{batch.id}.deaths"
            deaths = number + _deaths(results.result(key))
            results.store(key, _DEATHS, {"deaths": deaths})
            return deaths

        return self._try(add) or 0

    def forget_deaths(self, batch: "ReceivedBatch") -> None:
        """The batch is done with."""
        self._try(lambda results: results.forget([f"{batch.id}.deaths"]))

    def close(self) -> None:
        """Close the connections of this process."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None and made[0] == os.getpid():
            made[1].close()

    def _try(self, request: Callable[[WorkerConfirmations], _T]) -> _T | None:
        if not self._has_backend or time.monotonic() < self._ask_again_at:
            return None
        try:
            answer = request(self._results())
        except ResultsUnavailableError as error:
            self._ask_again_at = time.monotonic() + _PAUSE_SECONDS
            if not self._is_down:
                self._is_down = True
                logger.error("batches are stored, but producers are not told: %s", error)
            return None
        self._is_down = False
        return answer

    def _results(self) -> WorkerConfirmations:
        with self._lock:
            if self._made is None or self._made[0] != os.getpid():
                self._made = (
                    os.getpid(),
                    WorkerConfirmations(self._settings, timeout_seconds=_TIMEOUT_SECONDS),
                )
            return self._made[1]


def _deaths(found: Confirmation | None) -> int:
    number = found.result.get("deaths") if found and isinstance(found.result, dict) else 0
    return number if isinstance(number, int) else 0
