"""Delivery straight to the database, for hosts without Celery (`CELERY_ENABLED=false`)."""

import asyncio
import socket
from typing import Any

from execution_logger.batch import Batch
from execution_logger.delivery.interface import Guarantee, Receipt
from execution_logger.errors import DeliveryError, StoreUnavailableError
from execution_logger.settings import Settings
from execution_logger.store import Writer, create_engine


class ThreadLoop(asyncio.SelectorEventLoop):
    """A loop that looks up hosts in its own thread.

    The usual way, an executor, is closed once the interpreter begins to exit, and that is when the
    last batch of a short script is delivered. This thread has nothing else to do.
    """

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        """Look up a host, and let nothing else of this loop go on meanwhile."""
        return socket.getaddrinfo(*args, **kwargs)


class DatabaseDelivery:
    """Writes batches itself, over one connection, in the shipper's thread and a loop of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runner = asyncio.Runner(loop_factory=ThreadLoop)
        self._engine = create_engine(settings, pool_size=1)
        self._writer = Writer(self._engine, settings)

    def deliver(self, batch: Batch) -> Receipt:
        """Write the batch; entries that the database refuses for good are in the dead letters then."""
        writing = self._writer.write(
            batch.id, batch.to_json(), process=batch.process or None, first=batch.first or None
        )
        try:
            result = self._runner.run(writing)
        except StoreUnavailableError as error:
            raise DeliveryError(str(error)) from error
        return Receipt(Guarantee.STORED, result.dead_lettered)

    def close(self) -> None:
        """Close the connection and the loop."""
        try:
            self._runner.run(self._engine.dispose())
        finally:
            self._runner.close()
