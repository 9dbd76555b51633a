"""Delivery by Celery: one message per batch."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from celery import Celery
from kombu import Connection

from execution_logger.broker.confirmations import Confirmations, Outcome, result_backend_url
from execution_logger.broker.connection import (
    QueueView,
    connection_arguments,
    error_text,
    producer_options,
    settings_of_host,
)
from execution_logger.broker.message import Message
from execution_logger.broker.queue import BrokerQueue, queue_of
from execution_logger.delivery.interface import Guarantee, Receipt
from execution_logger.entry.batch import Batch
from execution_logger.errors import BrokerFullError, DeliveryError, ResultsUnavailableError, SettingsError
from execution_logger.settings import Settings
from execution_logger.text import public_url

_QUEUE_CHECK_SECONDS = 1.0
_RESULTS_TIMEOUT_SECONDS = 1.0


class CeleryDelivery:
    """Sends batches as Celery messages, over one connection that nobody else uses.

    Not through kombu's pools: those are shared with the host's tasks, hang a forked child whose
    parent was sending, and wait without a limit. Not through the host's Celery application either,
    whose serializer, routes and eager mode are the host's business; only its broker is used.

    Args:
        settings: broker, queue and its limit.
        host_app: the host's application, whose broker, TLS and transport options apply instead.
    """

    def __init__(self, settings: Settings, host_app: Celery | None = None) -> None:
        try:
            settings = settings if host_app is None else settings_of_host(host_app, settings)
            self._results = _open_results(settings)
        except SettingsError as error:
            raise DeliveryError(str(error)) from error
        self._settings = settings
        self._host_app = host_app
        # It only composes messages. Without a configuration of its own it would read the host's module.
        self._app = Celery(
            "execution_logger.producer", set_as_current=False, config_source={"enable_utc": True}
        )
        self._connection: Connection | None = None
        self._queue: BrokerQueue | None = None
        self._queue_checked_at = -_QUEUE_CHECK_SECONDS
        self._queue_room = 0

    def deliver(self, batch: Batch) -> Receipt:
        """Send the batch; returns when the broker has taken it, raises DeliveryError within seconds."""
        with self._errors():
            queue = self._queue or self._connect()
            self._check_queue(queue)
            self._send(queue, batch)
        return Receipt(Guarantee.ACCEPTED if self._results is None else Guarantee.AWAITED)

    @property
    def is_confirming(self) -> bool:
        """Whether there is a result backend."""
        return self._results is not None

    def collect(self, batch_ids: Sequence[str]) -> Mapping[str, Outcome]:
        """Ask the result backend, and delete there what it has answered."""
        if self._results is None:
            return {}
        try:
            outcomes = self._results.outcomes(batch_ids)
        except ResultsUnavailableError as error:
            raise DeliveryError(str(error)) from error
        # A worker that waits for the database says so again from time to time.
        with suppress(ResultsUnavailableError):  # they expire by themselves, and what they say we know
            self._results.forget(list(outcomes))
        return outcomes

    def look_at_queue(self) -> QueueView:
        """Look at the length of the queue, and at the message in it that a worker gets next."""
        with self._errors():
            return (self._queue or self._connect()).look()

    def close(self) -> None:
        """Close the connections; the next batch opens others."""
        if self._results is not None:
            self._results.close()
        self._close_connection()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DeliveryError:
            raise
        except Exception as error:
            # What state it is in is anyone's guess, also for closing it: the next attempt starts afresh.
            with suppress(Exception):
                self._close_connection()
            where = public_url(self._settings.broker_url) if self._host_app is None else "the host's broker"
            raise DeliveryError(f"{where}: {type(error).__name__}: {error_text(error)}") from error

    def _close_connection(self) -> None:
        connection, self._connection, self._queue = self._connection, None, None
        if connection is None:
            return
        transport = connection.transport
        connection.release()
        # kombu leaves this descriptor to the garbage collector: in an outage, one an attempt would pile up.
        poller = getattr(getattr(transport, "cycle", None), "poller", None)
        if poller is not None:
            poller.close()

    def _connect(self) -> BrokerQueue:
        if self._host_app is not None:
            options = producer_options(self._settings)
            self._connection = self._host_app.connection_for_write(transport_options=options)
        else:
            self._connection = Connection(**connection_arguments(self._settings))
        self._queue = queue_of(self._connection.default_channel, self._settings.queue)
        return self._queue

    def _send(self, queue: BrokerQueue, batch: Batch) -> None:
        length = queue.send(Message.of(self._app, batch, is_awaited=self.is_confirming))
        if length is not None:
            self._note_length(length)

    def _check_queue(self, queue: BrokerQueue) -> None:
        """Hold back while the queue is over its limit: the broker's memory is the host's tasks' too."""
        self._queue_room -= 1
        if self._queue_room >= 0 and time.monotonic() - self._queue_checked_at < _QUEUE_CHECK_SECONDS:
            return
        length, limit = queue.length(), self._settings.queue_max_messages
        if length >= limit:
            raise BrokerFullError(
                f"queue {self._settings.queue!r} holds {length} messages, and its limit is {limit}: "
                "are workers running?"
            )
        self._note_length(length + 1)

    def _note_length(self, length: int) -> None:
        """Count down from here until the queue is to be asked again."""
        self._queue_checked_at = time.monotonic()
        self._queue_room = self._settings.queue_max_messages - length


def _open_results(settings: Settings) -> Confirmations | None:
    """The result backend of the settings, or else the broker's own Redis; None without either."""
    if result_backend_url(settings) is None:
        return None
    return Confirmations(settings, timeout_seconds=_RESULTS_TIMEOUT_SECONDS)
