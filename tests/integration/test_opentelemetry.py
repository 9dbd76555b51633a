"""With real servers: what is sent and confirmed through Redis is no host's span."""

from collections.abc import Iterator

import pytest
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from execution_logger import ExecutionLogger, Settings
from execution_logger.integrations.opentelemetry import OperationSpanProcessor
from servers import RedisServer
from workers import WorkerProcess


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """The spans of an instrumented process."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    RedisInstrumentor().instrument(tracer_provider=provider)
    yield exporter
    RedisInstrumentor().uninstrument()
    provider.shutdown()


def test_a_host_that_traces_redis(
    redis_server: RedisServer, redis_url: str, database_url: str, exporter: InMemorySpanExporter
) -> None:
    """Its own calls are spans, those of the logger are none: sending, waiting for the rows, ending."""
    logger = ExecutionLogger(Settings(broker_url=redis_url))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(OperationSpanProcessor(logger=logger))
    environment = {"CELERY_BROKER_URL": redis_url, "DATABASE_URL": database_url}
    with WorkerProcess(environment=environment), redis_server.client() as client:
        with provider.get_tracer("host").start_as_current_span("request"):
            logger.sync.info("r", "app", "within")
            client.get("of the host")
            assert logger.sync.flush(30, until="stored").complete
        assert logger.sync.shutdown(30).complete
    provider.shutdown()
    assert [span.name for span in exporter.get_finished_spans()] == ["GET"]
    assert logger.sync.stats()["stored"] == 3
