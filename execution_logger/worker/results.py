"""The result backend as workers write to it."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from execution_logger.broker.confirmations import STORED, Results

_encode = msgspec.json.Encoder().encode


class WorkerResults(Results):
    """Celery's result backend, with a short way to say that a batch is stored."""

    def store(self, batch_id: str, state: str, result: dict[str, Any]) -> None:
        """Leave word of a batch, as `Results.store` does.

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

        It looks first what is there, lest a success be taken back. This word is the last one anyway.
        """
        now = datetime.now(UTC).isoformat()
        meta = {"status": STORED, "result": result, "traceback": None, "children": None, "date_done": now}
        payload = _encode({**meta, "task_id": batch_id})
        (key,) = self._keys([batch_id])
        with self.backend.client.pipeline(transaction=False) as pipeline:
            pipeline.set(key, payload, ex=self.backend.expires or None).publish(key, payload)
            pipeline.execute()
