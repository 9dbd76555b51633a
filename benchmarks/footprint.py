"""What an entry costs in memory while it waits: each answer comes from a fresh process."""

import gc
import json
import logging
import logging.handlers
import queue
import subprocess
import sys
import tracemalloc
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import psutil

from execution_logger import ExecutionLogger, Settings
from execution_logger.broker.connection import QueueView
from execution_logger.delivery.interface import Guarantee, Receipt
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError

if TYPE_CHECKING:
    from execution_logger.broker.confirmations import Outcome

WARM_UP_ENTRIES = 2_000

Method = Literal["resident", "traced"]
"""The process's resident memory, or what Python has allocated (tracemalloc)."""

Log = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Footprint:
    """What so many more entries have cost."""

    entries: int
    memory_bytes: int
    stats: Mapping[str, Any]
    """What our logger says in the end; empty for others."""

    @property
    def bytes_an_entry(self) -> float:
        """Memory for each entry."""
        return self.memory_bytes / self.entries


class Refusing:
    """A broker that is away."""

    def deliver(self, batch: Batch) -> None:
        """Refuse it."""
        raise DeliveryError(f"no broker for {len(batch)} entries")

    def close(self) -> None:
        """Nothing to release."""


class Unconfirming:
    """A broker that takes everything, and a worker that has stored nothing so far."""

    is_confirming = True

    def deliver(self, batch: Batch) -> Receipt:
        """Take it."""
        batch.to_json()
        return Receipt(Guarantee.AWAITED)

    def collect(self, batch_ids: Sequence[str]) -> "Mapping[str, Outcome]":  # noqa: ARG002
        """No word."""
        return {}

    def look_at_queue(self) -> QueueView:
        """All of them still wait there."""
        return QueueView(waiting=1, in_flight=0, oldest_sent_at=None)

    def close(self) -> None:
        """Nothing to release."""


@contextmanager
def ours(make_delivery: Callable[[], Any], **settings: Any) -> Iterator[tuple[Log, ExecutionLogger]]:
    """The library, whose entries do not get far."""
    with TemporaryDirectory() as folder:
        places = {"journal_directory": folder, "shutdown_timeout_seconds": 0.0, "flush_timeout_seconds": 60.0}
        logging.getLogger("execution_logger").disabled = True  # that nothing arrives is what we came for
        logger = ExecutionLogger(Settings(**{**places, **settings}), make_delivery=make_delivery)
        log = logger.sync.log_agent_complete
        yield (
            lambda details: log("task-1", "intent_analysis", "agent finished", 1500, details=details),
            logger,
        )
        logger.sync.shutdown()


@contextmanager
def list_of_dicts() -> Iterator[tuple[Log, None]]:
    """What hosts write for themselves: dicts in a list."""
    waiting: list[dict[str, Any]] = []

    def log(details: dict[str, Any]) -> None:
        entry = {
            "id": str(uuid.uuid4()),
            "created_at": datetime.now(UTC).isoformat(),
            "level": "info",
            "category": "agent",
            "task_id": "task-1",
            "agent_name": "intent_analysis",
            "message": "agent finished",
            "duration_ms": 1500,
            "details": details,
        }
        waiting.append(entry)

    yield log, None


@contextmanager
def queue_handler() -> Iterator[tuple[Log, None]]:
    """The standard library's QueueHandler, whose listener does not come along."""
    logger = logging.getLogger("benchmark")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.handlers.QueueHandler(queue.SimpleQueue()))
    fields = {"task_id": "task-1", "agent": "intent_analysis", "ms": 1500}
    yield (lambda details: logger.info("agent finished", extra={**fields, **details})), None


@contextmanager
def opentelemetry() -> Iterator[tuple[Log, None]]:
    """OpenTelemetry's batch processor before its exporter's turn."""
    from opentelemetry._logs import LogRecord, SeverityNumber  # noqa: PLC0415 - an optional peer
    from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
    from opentelemetry.sdk._logs.export import (  # noqa: PLC0415
        BatchLogRecordProcessor,
        InMemoryLogRecordExporter,
    )

    never, all_of_them = 3_600_000, 1_000_000
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(
        BatchLogRecordProcessor(
            InMemoryLogRecordExporter(),  # type: ignore[no-untyped-call]
            schedule_delay_millis=never,
            max_export_batch_size=all_of_them,
            max_queue_size=all_of_them,
        )
    )
    logger = provider.get_logger("benchmark")
    fields = {"task_id": "task-1", "agent": "intent_analysis", "ms": 1500}

    def log(details: dict[str, Any]) -> None:
        attributes: dict[str, Any] = {**fields, **details}
        logger.emit(
            LogRecord(severity_number=SeverityNumber.INFO, body="agent finished", attributes=attributes)
        )

    yield log, None
    provider.shutdown()


Kind = Callable[..., AbstractContextManager[tuple[Log, ExecutionLogger | None]]]

OURS = "execution_logger, journal off"
LOGGERS: dict[str, Kind] = {
    OURS: partial(ours, Refusing, journal=False),
    "a list of dicts": list_of_dicts,
    "logging with QueueHandler": queue_handler,
    "OpenTelemetry `emit`": opentelemetry,
}
KINDS: dict[str, Kind] = {
    **LOGGERS,
    "journalled": partial(ours, Refusing),
    "unconfirmed": partial(ours, Unconfirming, journal=False),
    "unconfirmed, journalled": partial(ours, Unconfirming),
}


def measure(kind: str, entries: int, details_bytes: int, method: Method, **settings: Any) -> Footprint:
    """Let so many entries wait in a fresh process, and ask for its memory."""
    order = json.dumps([kind, entries, details_bytes, method, settings])
    command = [sys.executable, __file__, order]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603 - this very program
    return Footprint(**json.loads(run.stdout))


def _measure(kind: str, entries: int, details_bytes: int, method: Method, settings: Any) -> Footprint:
    with KINDS[kind](**settings) as (log, logger):
        _fill(log, WARM_UP_ENTRIES, details_bytes)
        _settle(logger)
        if method == "traced":
            tracemalloc.start()
        before = _memory_bytes(method)
        _fill(log, entries, details_bytes)
        _settle(logger)
        return Footprint(entries, _memory_bytes(method) - before, {} if logger is None else logger.stats())


def _fill(log: Log, entries: int, details_bytes: int) -> None:
    """Details of their own for each, as nobody logs the same text twice."""
    for number in range(entries):
        details: dict[str, Any] = {"model": "m", "n": number}
        if details_bytes:
            details["prompt"] = f"{number:010}" * (details_bytes // 10)
        log(details)


def _settle(logger: ExecutionLogger | None) -> None:
    if logger is not None and logger.stats()["guarantee"]:
        logger.sync.flush()


def _memory_bytes(method: Method) -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] if method == "traced" else psutil.Process().memory_info().rss


if __name__ == "__main__":
    print(json.dumps(asdict(_measure(*json.loads(sys.argv[1])))))
