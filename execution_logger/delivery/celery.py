"""Delivery by Celery: one message per batch."""

import time
from contextlib import suppress

import msgspec
from celery import Celery
from kombu import Connection, Producer

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
        # It only composes messages. Without a configuration of its own it would read the host's module.
        self._app = Celery(
            "execution_logger.producer", set_as_current=False, config_source={"enable_utc": True}
        )
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        self._queue_checked_at = -_QUEUE_CHECK_SECONDS
        self._queue_room = 0

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
        options = producer_options(self._settings)
        if self._host_app is not None:
            self._connection = self._host_app.connection_for_write(transport_options=options)
        else:
            self._connection = Connection(self._settings.broker_url, transport_options=options)
        self._producer = Producer(self._connection)
        return self._producer

    def _send(self, producer: Producer, batch: Batch) -> None:
        """Publish the message that `send_task` would, without what comes with it.

        That is: the environment's result backend, an event dispatcher's connection, retries, and
        signals by which the host's instrumentation would trace each batch.
        """
        args = [batch.to_json()]
        headers, properties, body, _ = self._app.amqp.as_task_v2(
            batch.id, TASK_NAME, args, {}, argsrepr=describe(batch), kwargsrepr="{}", ignore_result=True
        )
        producer.publish(
            body,
            exchange="",
            routing_key=self._settings.queue,
            serializer="json",
            headers=headers,
            delivery_mode="persistent",
            retry=False,
            **properties,
        )

    def _check_queue(self, producer: Producer) -> None:
        """Hold back while the queue is over its limit: the broker's memory is the host's tasks' too."""
        now = time.monotonic()
        self._queue_room -= 1
        if self._queue_room >= 0 and now - self._queue_checked_at < _QUEUE_CHECK_SECONDS:
            return
        length, limit = self._queue_length(producer), self._settings.queue_max_messages
        if length >= limit:
            raise DeliveryError(
                f"queue {self._settings.queue!r} holds {length} messages, and its limit is {limit}: "
                "are workers running?"
            )
        self._queue_checked_at, self._queue_room = now, limit - length - 1

    def _queue_length(self, producer: Producer) -> int:
        # Makes the queue where there is none, as sending to one would; the answer holds the length (LLEN).
        declared = producer.channel.queue_declare(self._settings.queue, durable=True, auto_delete=False)
        return int(declared.message_count)


def describe(batch: Batch) -> str:
    """What Flower and worker events show of a batch: "50 entries, 17 kB, task-1…"."""
    noun = "entry" if len(batch) == 1 else "entries"
    first = _decode_described(batch.entries[0]).task_id[:_TASK_ID_CHARS]
    more = "…" if len(batch) > 1 else ""
    return f"{len(batch)} {noun}, {max(1, round(batch.size_bytes / 1000))} kB, {first}{more}"
