"""A host's Celery application in memory: what it has sent, Celery's own tracer runs, as a worker does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery, signals
from celery.app.trace import trace_task
from celery.worker.request import Request

from memory_broker import URL, MemoryBroker

QUEUE = "host"

_BOUND = (
    signals.before_task_publish,
    signals.task_received,
    signals.task_prerun,
    signals.task_postrun,
    signals.task_failure,
    signals.task_revoked,
)


@contextmanager
def signals_given_back() -> Iterator[None]:
    """What is connected within the block is disconnected at its end."""
    before = [(signal, list(signal.receivers)) for signal in _BOUND]
    yield
    for signal, receivers in before:
        signal.receivers[:] = receivers
        signal.sender_receivers_cache.clear()


def make_app(**configuration: Any) -> Celery:
    """An application whose messages stay in memory."""
    app = Celery("host", broker=URL, set_as_current=False)
    app.conf.update(task_default_queue=QUEUE, **configuration)
    return app


def received(app: Celery) -> Request:
    """The oldest message, as a worker's main process has it."""
    with app.connection_for_read() as connection:
        message = connection.default_channel.basic_get(QUEUE, no_ack=True)
    request = Request(message, app=app)
    signals.task_received.send(sender=None, request=request)
    return request


def work(app: Celery, broker: MemoryBroker, **headers: Any) -> int:
    """Run the tasks that have been sent, and those that they send, in order; how many they were.

    `headers` are what others have written into the messages.
    """
    count = 0
    while broker.queue(QUEUE):
        message = broker.take(QUEUE)
        args, kwargs, embedded = message.body
        delivery = {"exchange": "", "routing_key": QUEUE}
        request = {**message.headers, **embedded, "args": args, "kwargs": kwargs, "delivery_info": delivery}
        request.update(headers)
        trace_task(app.tasks[request["task"]], request["id"], args, kwargs, request, app=app)
        count += 1
    return count
