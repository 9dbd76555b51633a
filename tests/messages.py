"""Messages on the queue, as producers send them."""

import json
from typing import Any

from celery import Celery

from execution_logger import Settings
from execution_logger.broker.connection import TASK_NAME
from execution_logger.broker.message import Message, exchange_quotes
from execution_logger.broker.queue import open_channel, queue_of


def send_batch(
    settings: Settings, batch_id: str, entries: str, *, awaited: bool = True, **kwargs: Any
) -> None:
    """Put a batch on the queue, over a connection of its own.

    Args:
        settings: name the broker and the queue.
        batch_id: of the task, too.
        entries: a JSON array.
        awaited: whether the worker is asked for word of it.
        **kwargs: those of the task.
    """
    app = Celery("tests", set_as_current=False, config_source={"enable_utc": True})
    headers, properties, body, _ = app.amqp.as_task_v2(
        batch_id, TASK_NAME, [exchange_quotes(entries)], kwargs, ignore_result=not awaited
    )
    message = Message(headers, properties, json.dumps(body).encode())
    with open_channel(settings) as channel:
        queue = queue_of(channel, settings.queue)
        queue.length()  # makes a queue where there is none
        queue.send(message)


def let_visibility_timeout_pass(client: Any) -> None:
    """As if what killed workers had in hand had been theirs for long: the next one gives it back soon."""
    for tag in client.zrange("logs.unacked_index", 0, -1):
        client.zadd("logs.unacked_index", {tag: 0})


def envelope(client: Any, settings: Settings, batch_id: str, entries: str) -> dict[str, Any]:
    """The item that `send_batch` adds to an empty Redis list, which is empty again then."""
    send_batch(settings, batch_id, entries)
    item: dict[str, Any] = json.loads(client.rpop(settings.queue))
    return item
