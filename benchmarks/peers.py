"""The loggers that are compared: ours, those of other libraries, and what hosts write for themselves.

Every one gets the same record: a message, a task, an agent, a duration and details. Each has its
background machinery running, delivering to nowhere, because that machinery competes with the caller
for the interpreter.
"""

import io
import json
import logging
import logging.handlers
import queue
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from execution_logger import ExecutionLogger, Settings
from execution_logger.entry.batch import Batch
from naive import NaiveLogger

Details = dict[str, Any]

OURS = "execution_logger"
OURS_IN_MEMORY = "execution_logger, journal off"
QUEUE_HANDLER = "logging with QueueHandler"
OPENTELEMETRY = "OpenTelemetry `emit`"


@dataclass(frozen=True)
class Peer:
    """A logger in use: `log(details)` records; its result is to be awaited if `is_async`."""

    log: Callable[[Details], Any]
    is_async: bool = False


class Nowhere:
    """A delivery that takes everything."""

    def deliver(self, batch: Batch) -> None:
        """Join the batch, as every real delivery does."""
        batch.to_json()

    def close(self) -> None:
        """Nothing to release."""


def caller(logger: ExecutionLogger) -> Peer:
    """What is called when a logger of ours is measured."""
    complete = logger.log_agent_complete
    return Peer(
        lambda details: complete("task-1", "intent_analysis", "agent finished", 1500, details=details),
        is_async=True,
    )


@contextmanager
def ours(*, is_journalled: bool, **more: Any) -> Iterator[Peer]:
    """`await logger.log_agent_complete(...)`; with the journal, each entry is on disk when it returns."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(journal=is_journalled, journal_directory=folder, **more)
        logger = ExecutionLogger(settings, make_delivery=Nowhere)
        yield caller(logger)
        logger.sync.shutdown()


@contextmanager
def list_of_dicts() -> Iterator[Peer]:
    """The logger that hosts write for themselves: dicts under an asyncio lock, encoded in fifties."""
    logger = NaiveLogger(send=json.dumps)
    complete = logger.log_agent_complete
    yield Peer(
        lambda details: complete("task-1", "intent_analysis", "agent finished", 1500, details), is_async=True
    )


@contextmanager
def queue_handler() -> Iterator[Peer]:
    """The standard library's QueueHandler with a QueueListener."""
    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(records, logging.NullHandler())
    listener.start()
    logger = logging.getLogger("benchmark")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.handlers.QueueHandler(records)
    logger.addHandler(handler)
    yield Peer(lambda details: logger.info("agent finished", extra=_flat(details)))
    logger.removeHandler(handler)
    listener.stop()


@contextmanager
def structlog_json() -> Iterator[Peer]:
    """Structlog's fast configuration: JSON written to memory, in the caller's thread."""
    import structlog  # noqa: PLC0415 - an optional peer

    logger = structlog.wrap_logger(
        structlog.BytesLogger(io.BytesIO()),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=lambda *a, **k: json.dumps(*a, **k).encode()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    ).bind()
    yield Peer(lambda details: logger.info("agent finished", **_flat(details)))


@contextmanager
def opentelemetry() -> Iterator[Peer]:
    """OpenTelemetry's logs SDK with its batch processor."""
    from opentelemetry._logs import LogRecord, SeverityNumber  # noqa: PLC0415
    from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
    from opentelemetry.sdk._logs.export import (  # noqa: PLC0415
        BatchLogRecordProcessor,
        LogRecordExporter,
        LogRecordExportResult,
    )

    class Exporter(LogRecordExporter):
        def export(self, batch: Any) -> LogRecordExportResult:  # noqa: ARG002
            return LogRecordExportResult.SUCCESS

        def shutdown(self) -> None: ...

        def force_flush(self, timeout_millis: int = 0) -> bool:  # noqa: ARG002
            return True

    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(Exporter(), max_queue_size=100_000))
    logger = provider.get_logger("benchmark")

    def log(details: Details) -> None:
        logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.INFO,
                body="agent finished",
                attributes=_flat(details),
            )
        )

    yield Peer(log)
    provider.shutdown()


@contextmanager
def sentry() -> Iterator[Peer]:
    """Sentry's structured logs."""
    import sentry_sdk  # noqa: PLC0415
    from sentry_sdk import logger  # noqa: PLC0415
    from sentry_sdk.transport import Transport  # noqa: PLC0415

    class Discard(Transport):
        def capture_envelope(self, envelope: Any) -> None: ...

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1", transport=Discard, enable_logs=True, default_integrations=False
    )
    yield Peer(lambda details: logger.info("agent finished", attributes=_flat(details)))
    sentry_sdk.get_client().close(timeout=1)


@contextmanager
def loguru_queue() -> Iterator[Peer]:
    """Loguru with `enqueue=True`."""
    from loguru import logger  # noqa: PLC0415

    logger.remove()
    handler = logger.add(lambda _: None, enqueue=True, serialize=True)
    yield Peer(lambda details: logger.bind(**_flat(details)).info("agent finished"))
    logger.remove(handler)


def _flat(details: Details) -> Details:
    return {"task_id": "task-1", "agent": "intent_analysis", "ms": 1500, **details}


PEERS: dict[str, Callable[[], AbstractContextManager[Peer]]] = {
    OURS: partial(ours, is_journalled=True),
    OURS_IN_MEMORY: partial(ours, is_journalled=False),
    "a list of dicts under an asyncio lock": list_of_dicts,
    "structlog to JSON": structlog_json,
    QUEUE_HANDLER: queue_handler,
    OPENTELEMETRY: opentelemetry,
    "Sentry logs": sentry,
    "loguru with `enqueue=True`": loguru_queue,
}
