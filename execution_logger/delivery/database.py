"""Delivery straight to the database, for hosts without Celery (`CELERY_ENABLED=false`)."""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from execution_logger.broker.connection import QueueView
from execution_logger.delivery.interface import Guarantee, Receipt
from execution_logger.entry.batch import Batch
from execution_logger.errors import BatchHeldError, DeliveryError, StoreUnavailableError
from execution_logger.settings import Settings
from execution_logger.store import Writer, WriteResult, create_engine

if TYPE_CHECKING:
    from execution_logger.broker.confirmations import Outcome

_MOST_HELD = 20
"""More would wait in memory: those behind them stay in the journal."""
_RETRY_SECONDS = 5.0


class ThreadLoop(asyncio.SelectorEventLoop):
    """A loop that looks up hosts in its own thread.

    The usual way, an executor, is closed once the interpreter begins to exit, and that is when the
    last batch of a short script is delivered. This thread has nothing else to do.
    """

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        """Look up a host, and let nothing else of this loop go on meanwhile."""
        return socket.getaddrinfo(*args, **kwargs)


class DatabaseDelivery:
    """Writes batches itself, over one connection, in the shipper's thread and a loop of its own.

    What the database does not take for now is held, and tried again whenever somebody asks for it, while
    those behind it are written.
    """

    is_confirming = True

    def __init__(self, settings: Settings, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._runner = asyncio.Runner(loop_factory=ThreadLoop)
        self._engine = create_engine(settings, pool_size=1)
        self._writer = Writer(self._engine, settings, now)
        self._held: dict[str, tuple[Batch, float]] = {}

    def deliver(self, batch: Batch) -> Receipt:
        """Write the batch; entries that the database refuses for good are in the dead letters then."""
        try:
            result = self._write(batch)
        except BatchHeldError as error:
            if len(self._held) >= _MOST_HELD:
                raise DeliveryError(str(error)) from error
            self._held[batch.id] = batch, self._now()
            return Receipt(Guarantee.AWAITED)
        except StoreUnavailableError as error:
            raise DeliveryError(str(error)) from error
        return Receipt(Guarantee.STORED, result.dead_lettered)

    def collect(self, batch_ids: Sequence[str]) -> "Mapping[str, Outcome]":
        """Try one again that is due, of those that are asked for if there is any; the others wait on.

        Nobody asks for what a worker has stored, which the broker gave it when it seemed to be away. To write
        that again adds no row.
        """
        # Here, because Celery comes with it, and hosts of this delivery do without.
        from execution_logger.broker.confirmations import Outcome  # noqa: PLC0415

        outcomes = {batch_id: Outcome(is_stored=False) for batch_id in batch_ids if batch_id in self._held}
        due = next(filter(self._is_due, (*outcomes, *self._held)), None)
        if due is None:
            return outcomes
        batch, _ = self._held.pop(due)
        try:
            result = self._write(batch)
        except StoreUnavailableError:
            self._held[due] = batch, self._now()
        else:
            if due in outcomes:
                outcomes[due] = Outcome(is_stored=True, dead_lettered=result.dead_lettered)
        return outcomes

    def _is_due(self, batch_id: str) -> bool:
        _, tried_at = self._held[batch_id]
        return self._now() >= tried_at + _RETRY_SECONDS

    def look_at_queue(self) -> QueueView:
        """What is held waits; a dead process's batches do not, and are to be sent again."""
        return QueueView(len(self._held), 0, None)

    def _write(self, batch: Batch) -> WriteResult:
        writing = self._writer.write(
            batch.id, batch.to_json(), process=batch.process or None, first=batch.first or None
        )
        return self._runner.run(writing)

    def close(self) -> None:
        """Close the connection and the loop."""
        try:
            self._runner.run(self._engine.dispose())
        finally:
            self._runner.close()
