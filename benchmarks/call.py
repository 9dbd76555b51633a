"""What one log call costs its caller, against other libraries measured in the same run.

    python benchmarks/call.py [--calls 20000] [--rounds 7]

Every logger gets the same record: a message, a task, an agent, a duration and two details. Each has
its background machinery running, delivering to nowhere, because that machinery competes with the
caller for the interpreter. Rounds alternate between the loggers, so that a machine that becomes
slower meanwhile slows all of them; the table shows medians of rounds, and ratios to ours.

Peers: pip install loguru opentelemetry-sdk sentry-sdk structlog (missing ones are left out).
"""

import argparse
import asyncio
import contextlib
import io
import json
import logging
import logging.handlers
import queue
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from execution_logger import ExecutionLogger, Settings
from execution_logger.batch import Batch

Round = Callable[[int], Awaitable[float]]
"""Makes n calls and returns the seconds they took."""


class Nowhere:
    """A delivery that takes everything."""

    def deliver(self, batch: Batch) -> None:
        """Join the batch, as every real delivery does."""
        batch.to_json()

    def close(self) -> None:
        """Nothing to release."""


def ours() -> contextlib.AbstractContextManager[Round]:
    """`await logger.log_agent_complete(...)`, each entry on disk when it returns."""
    return _ours(is_journalled=True)


def ours_in_memory() -> contextlib.AbstractContextManager[Round]:
    """The same with `journal=False`."""
    return _ours(is_journalled=False)


@contextlib.contextmanager
def _ours(*, is_journalled: bool) -> Iterator[Round]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(journal=is_journalled, journal_directory=folder)
        logger = ExecutionLogger(settings, make_delivery=Nowhere)

        async def calls(n: int) -> float:
            began = time.perf_counter()
            for i in range(n):
                await logger.log_agent_complete(
                    "task-1", "intent_analysis", "agent finished", 1500, details={"model": "m", "n": i}
                )
            return time.perf_counter() - began

        yield calls
        logger.sync.shutdown()


@contextlib.contextmanager
def list_of_dicts() -> Iterator[Round]:
    """The logger that hosts write for themselves: dicts under an asyncio lock, handed over in fifties."""
    buffer: list[dict[str, Any]] = []
    lock = asyncio.Lock()

    async def record(**fields: Any) -> None:
        now = datetime.now(UTC).isoformat()
        entry = {"id": str(uuid.uuid4()), "created_at": now, "level": "info", "category": "agent", **fields}
        async with lock:
            buffer.append(entry)
            if len(buffer) >= 50:  # noqa: PLR2004 - the same batch as ours
                batch = buffer.copy()
                buffer.clear()
                json.dumps(batch)

    async def calls(n: int) -> float:
        began = time.perf_counter()
        for i in range(n):
            await record(
                task_id="task-1",
                agent_name="intent_analysis",
                message="agent finished",
                duration_ms=1500,
                details={"model": "m", "n": i},
            )
        return time.perf_counter() - began

    yield calls


@contextlib.contextmanager
def queue_handler() -> Iterator[Round]:
    """The standard library's QueueHandler with a QueueListener."""
    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(records, logging.NullHandler())
    listener.start()
    logger = logging.getLogger("benchmark")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.handlers.QueueHandler(records))

    async def calls(n: int) -> float:
        began = time.perf_counter()
        for i in range(n):
            extra = {"task_id": "task-1", "agent": "intent_analysis", "ms": 1500, "model": "m", "n": i}
            logger.info("agent finished", extra=extra)
        return time.perf_counter() - began

    yield calls
    listener.stop()


@contextlib.contextmanager
def structlog_json() -> Iterator[Round]:
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

    async def calls(n: int) -> float:
        began = time.perf_counter()
        for i in range(n):
            logger.info("agent finished", task_id="task-1", agent="intent_analysis", ms=1500, model="m", n=i)
        return time.perf_counter() - began

    yield calls


@contextlib.contextmanager
def opentelemetry() -> Iterator[Round]:
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

    async def calls(n: int) -> float:
        began = time.perf_counter()
        for i in range(n):
            attributes: dict[str, Any] = {
                "task_id": "task-1", "agent": "intent_analysis", "ms": 1500, "model": "m", "n": i,
            }  # fmt: skip
            logger.emit(
                LogRecord(
                    timestamp=time.time_ns(),
                    severity_number=SeverityNumber.INFO,
                    body="agent finished",
                    attributes=attributes,
                )
            )
        return time.perf_counter() - began

    yield calls
    provider.shutdown()


@contextlib.contextmanager
def sentry() -> Iterator[Round]:
    """Sentry's structured logs."""
    import sentry_sdk  # noqa: PLC0415
    from sentry_sdk import logger  # noqa: PLC0415
    from sentry_sdk.transport import Transport  # noqa: PLC0415

    class Discard(Transport):
        def capture_envelope(self, envelope: Any) -> None: ...

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1", transport=Discard, enable_logs=True, default_integrations=False
    )

    async def calls(n: int) -> float:
        began = time.perf_counter()
        for i in range(n):
            attributes = {"task_id": "task-1", "agent": "intent_analysis", "ms": 1500, "model": "m", "n": i}
            logger.info("agent finished", attributes=attributes)
        return time.perf_counter() - began

    yield calls
    sentry_sdk.get_client().close(timeout=1)


@contextlib.contextmanager
def loguru_queue() -> Iterator[Round]:
    """Loguru with `enqueue=True`."""
    from loguru import logger  # noqa: PLC0415

    logger.remove()
    handler = logger.add(lambda _: None, enqueue=True, serialize=True)

    async def calls(n: int) -> float:
        began = time.perf_counter()
        for i in range(n):
            bound = logger.bind(task_id="task-1", agent="intent_analysis", ms=1500, model="m", n=i)
            bound.info("agent finished")
        return time.perf_counter() - began

    yield calls
    logger.remove(handler)


PEERS = {
    "execution_logger": ours,
    "execution_logger, journal off": ours_in_memory,
    "logging QueueHandler": queue_handler,
    "structlog to JSON": structlog_json,
    "OpenTelemetry emit": opentelemetry,
    "Sentry logs": sentry,
    "list of dicts": list_of_dicts,
    "loguru enqueue": loguru_queue,
}


async def measure(calls: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds per call of each round, by logger."""
    results: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        loggers: dict[str, Round] = {}
        for name, peer in PEERS.items():
            try:
                loggers[name] = stack.enter_context(peer())
            except ImportError as error:
                print(f"left out: {name} ({error})", file=sys.stderr)
        for number in range(rounds + 1):
            for name, logger in loggers.items():
                seconds = await logger(calls)
                await asyncio.sleep(0.2)  # what the round left to the background is done before the next
                if number:  # the first round warms up
                    results.setdefault(name, []).append(seconds / calls * 1e6)
    return results


def main() -> None:
    """Measure and print the table."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    results = asyncio.run(measure(arguments.calls, arguments.rounds))
    base = statistics.median(results["execution_logger"])
    print(f"{arguments.calls} calls a round, {arguments.rounds} rounds, Python {sys.version.split()[0]}")
    print(f"{'':24}{'median µs':>10}{'min':>8}{'max':>8}{'ratio':>8}")
    for name, values in results.items():
        median = statistics.median(values)
        print(f"{name:24}{median:10.2f}{min(values):8.2f}{max(values):8.2f}{median / base:7.1f}x")


if __name__ == "__main__":
    main()
