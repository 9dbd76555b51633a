"""Delivery by Celery: one message per batch."""

import time
from contextlib import suppress

import msgspec
from celery import Celery
from kombu import Connection, Producer, Queue

from execution_logger.broker import TASK_NAME, producer_options, public_url
from execution_logger.buffer import Batch
from execution_logger.errors import DeliveryError
from execution_logger.settings import Settings

_QUEUE_CHECK_SECONDS = 1.0
_TASK_ID_CHARS = 40


class _Described(msgspec.Struct):
    """What a message's description tells of an entry."""

    task_id: str = ""


_decode_described = msgspec.json.Decoder(_Described).decode


class _ProducerApp(Celery):  # type: ignore[misc] # Celery has no types
    """An application that takes nothing from the environment, which is the host's.

    Celery prefers its variables to what an application is given: CELERY_RESULT_BACKEND would set
    that backend up in every host, CELERY_BROKER_URL load that transport, too.
    """

    backend_cls = "disabled://"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__(
            "execution_logger.producer",
            set_as_current=False,
            loader="celery.loaders.app:AppLoader",
            config_source={"broker_url": settings.broker_url},  # instead of CELERY_CONFIG_MODULE
        )

    def connection_for_write(self, *_: object, **__: object) -> Connection:
        options = producer_options(self._settings)
        return super().connection_for_write(self._settings.broker_url, transport_options=options)


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
        self._settings = settings
        self._host_app = host_app
        self._app = _ProducerApp(settings)
        self._queue = Queue(settings.queue)
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        self._queue_checked_at = -_QUEUE_CHECK_SECONDS

    def deliver(self, batch: Batch) -> None:
        """Send the batch; returns when the broker has taken it, raises DeliveryError within seconds."""
        try:
            producer = self._producer or self._connect()
            self._check_queue(producer)
            self._send(producer, batch)
        except DeliveryError:
            raise
        except Exception as error:
            # What state it is in is anyone's guess, also for closing it: the next attempt starts afresh.
            with suppress(Exception):
                self.close()
            where = public_url(self._settings.broker_url) if self._host_app is None else "the host's broker"
            raise DeliveryError(f"{where}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connection; the next batch opens another one."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is None:
            return
        transport = connection.transport
        connection.release()
        # kombu leaves this descriptor to the garbage collector: in an outage, one an attempt would pile up.
        poller = getattr(getattr(transport, "cycle", None), "poller", None)
        if poller is not None:
            poller.close()

    def _connect(self) -> Producer:
        if self._host_app is not None:
            options = producer_options(self._settings)
            self._connection = self._host_app.connection_for_write(transport_options=options)
        else:
            self._connection = self._app.connection_for_write()
        self._producer = Producer(self._connection)
        return self._producer

    def _send(self, producer: Producer, batch: Batch) -> None:
        self._app.send_task(
            TASK_NAME,
            args=[batch.to_json()],
            task_id=batch.id,
            producer=producer,
            queue=self._queue,
            serializer="json",
            argsrepr=describe(batch),
            kwargsrepr="{}",
            retry=False,
            ignore_result=True,
        )

    def _check_queue(self, producer: Producer) -> None:
        """Hold back while the queue is over its limit: the broker's memory is the host's tasks' too."""
        now = time.monotonic()
        if now - self._queue_checked_at < _QUEUE_CHECK_SECONDS:
            return
        length = self._queue_length(producer)
        if length >= self._settings.queue_max_messages:
            raise DeliveryError(
                f"queue {self._settings.queue!r} holds {length} messages, and its limit is "
                f"{self._settings.queue_max_messages}: are workers running?"
            )
        self._queue_checked_at = now

    def _queue_length(self, producer: Producer) -> int:
        # The declaration that sending makes anyway; its answer holds the length (Redis: LLEN).
        declared = producer.channel.queue_declare(self._settings.queue, durable=True, auto_delete=False)
        return int(declared.message_count)


def describe(batch: Batch) -> str:
    """What Flower and worker events show of a batch: "50 entries, 17 kB, task-1…"."""
    noun = "entry" if len(batch) == 1 else "entries"
    first = _decode_described(batch.entries[0]).task_id[:_TASK_ID_CHARS]
    more = "…" if len(batch) > 1 else ""
    return f"{len(batch)} {noun}, {max(1, round(batch.size_bytes / 1000))} kB, {first}{more}"
