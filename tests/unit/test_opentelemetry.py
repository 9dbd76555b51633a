"""Spans and log records of OpenTelemetry: operations and entries, of the real SDK."""

import asyncio
import contextvars
import gc
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import fakeredis
import pytest
from celery import Celery
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from batches import batch, encoded
from children import in_fork
from documents import Document
from doubles import DEADLINE_SECONDS
from execution_logger import ExecutionLogger, LogEntry, Settings
from execution_logger import execution_logger as logger
from execution_logger.api.context import span_parents
from execution_logger.api.propagation import extract, inject
from execution_logger.broker.connection import TASK_NAME
from execution_logger.entry.batch import Batch
from execution_logger.entry.masking import SensitiveKeys
from execution_logger.integrations.logging import ContextFilter
from execution_logger.integrations.opentelemetry import (
    EntryLogRecordProcessor,
    OperationSpanProcessor,
    _is_content,
    operation_id_of,
)
from execution_logger.read.tree import Node, Tree, tree_of
from execution_logger.shipping.thread import THREAD_NAME
from execution_logger.testing import MemoryDelivery, capture_entries
from execution_logger.worker.batch import ReceivedBatch
from execution_logger.worker.runtime import Runtime
from sqlite_site import make_tables

PAGE = Document("docs/integrations/opentelemetry.md")
MakeLogger = Callable[..., ExecutionLogger]
MakeTracer = Callable[..., trace.Tracer]
sync = logger.sync

respectful = pytest.mark.skipif(
    tuple(map(int, version("opentelemetry-instrumentation-redis").split("b")[0].split(".")[:2])) < (0, 60),
    reason="older ones make spans although they are told not to",
)


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LogEntry]]:
    """What the ready instance records, in English."""
    monkeypatch.setenv("EXECUTION_LOGGER_LANGUAGE", "en")
    with capture_entries() as entries:
        yield entries


@pytest.fixture
def make_tracer() -> Iterator[MakeTracer]:
    """Makes tracers with a processor; asks nothing more of them after the test."""
    providers: list[TracerProvider] = []

    def make(sampler: Sampler | None = None, **options: Any) -> trace.Tracer:
        providers.append(TracerProvider(sampler=sampler, shutdown_on_exit=False))
        providers[-1].add_span_processor(OperationSpanProcessor(**options))
        return providers[-1].get_tracer("host")

    yield make
    for provider in providers:
        provider.shutdown()
    assert span_parents == []


@pytest.fixture
def tracer(make_tracer: MakeTracer) -> trace.Tracer:
    """A tracer of a provider with a processor."""
    return make_tracer()


@pytest.fixture
def emitter() -> Iterator[Any]:
    """A logger of OpenTelemetry's with a processor."""
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(EntryLogRecordProcessor())
    yield provider.get_logger("host.orders")
    provider.shutdown()


def shown(entries: list[LogEntry]) -> list[Any]:
    """The whole tree: operations as a list of their names, states, and what is within them."""

    def of(item: LogEntry | Node) -> Any:
        if isinstance(item, LogEntry):
            return item.message
        return [f"{item.name}: {item.state}", *map(of, item.items())]

    return [of(item) for item in tree_of(entries).items()]


def note(message: str = "x", run: str | None = "r") -> LogEntry:
    """An entry of our own."""
    return sync.info(run, "app", message)


def at(tree: Tree, name: str) -> Node:
    """The operation of that name."""
    return next(node for node in tree.nodes() if node.name == name)


# Spans are operations -----------------------------------------------------------------------------


def test_the_example_of_the_page(entries: list[LogEntry]) -> None:
    """The spans, the log record and the entries of our own are one tree of the run."""
    example = PAGE.run_example("opentelemetry")
    try:
        example["handle"]("task-1")
    finally:
        example["tracing"].shutdown()
        example["logs"].shutdown()
    assert shown(entries) == [
        ["run: done", ["pack: done", "packed", ["weigh: failed", "weighing"]], "order is late"]
    ]
    assert {entry.task_id for entry in entries} == {"task-1"}


def test_a_span_has_two_entries(tracer: trace.Tracer, entries: list[LogEntry]) -> None:
    """With the same ids, the duration at the end, and what was known when."""
    link = trace.Link(SpanContext(7, 8, is_remote=True))
    began_at = 1_000_000_000
    attributes = {"http.request.method": "GET", "shop": "s-1"}
    span = tracer.start_span(
        "GET /", kind=SpanKind.SERVER, attributes=attributes, links=[link], start_time=began_at
    )
    span.set_attribute("shop", "s-2")
    span.set_attribute("http.response.status_code", 200)
    span.add_event("cached", {"hit": True})
    span.end(began_at + 1_234_567_890)
    begin, end = entries
    ids = span.get_span_context()
    for entry in entries:
        assert entry.operation_id == operation_id_of(ids)
        assert (entry.trace_id, entry.span_id) == (f"{ids.trace_id:032x}", f"{ids.span_id:016x}")
        assert (entry.task_id, entry.parent_id) == (entry.trace_id, None)
        assert (entry.level, entry.category, entry.step) == ("info", "api", "GET /")
    assert (begin.message, end.message) == ("GET / started", "GET / completed")
    assert (begin.duration_ms, end.duration_ms) == (None, 1235)
    assert begin.details == {
        "kind": "server",
        "scope": "host",
        "links": [{"trace_id": f"{7:032x}", "span_id": f"{8:016x}"}],
        "attributes": attributes,
    }
    assert end.details == {
        "events": [{"name": "cached", "attributes": {"hit": True}}],
        "attributes": {"shop": "s-2", "http.response.status_code": 200},
    }


def test_the_id_is_a_name_based_uuid() -> None:
    """Anybody can reckon it who knows the span: in another process, in another language."""
    context = SpanContext(0xA1B2, 0xC3, is_remote=True)
    assert operation_id_of(context) == str(uuid5(UUID(int=0xA1B2), "00000000000000c3"))


def test_a_span_that_fails(tracer: trace.Tracer, entries: list[LogEntry]) -> None:
    """Is an error, with the exception and its traceback; the one around it that handles it is none."""
    within = tracer.start_as_current_span
    with within("outer"), suppress(ConnectionError), within("inner"):
        raise ConnectionError("no answer")
    assert shown(entries) == [["outer: done", ["inner: failed"]]]
    failed = entries[2]
    assert (failed.level, failed.message) == ("error", "inner failed: ConnectionError: no answer")
    assert failed.details is not None
    assert failed.details["error"] == "ConnectionError: no answer"
    assert failed.details["exception"]["type"] == "ConnectionError"
    assert failed.details["exception"]["message"] == "no answer"
    assert "test_opentelemetry.py" in failed.details["exception"]["traceback"]
    assert "events" not in failed.details


@pytest.mark.parametrize(
    ("status", "attributes", "error"),
    [
        (Status(StatusCode.ERROR, "x" * 200), {}, "x" * 200),
        (Status(StatusCode.ERROR), {"error.type": "timeout"}, "timeout"),
        (Status(StatusCode.ERROR), {}, ""),
    ],
)
def test_a_status_of_error(
    tracer: trace.Tracer, entries: list[LogEntry], status: Status, attributes: Any, error: str
) -> None:
    """Is one without an exception, too; the message has the beginning of what it says."""
    span = tracer.start_span("call", attributes=attributes)
    span.set_status(status)
    span.end()
    assert (entries[1].level, entries[1].message) == ("error", f"call failed: {error[:100]}")
    assert (entries[1].details or {})["error"] == error


def test_an_exception_that_is_handled(tracer: trace.Tracer, entries: list[LogEntry]) -> None:
    """Stands in the details of an operation that is done; earlier ones are events."""
    with tracer.start_as_current_span("call") as span:
        for error in (ValueError("first"), KeyError("second")):
            span.record_exception(error)
    assert entries[1].level == "info"
    assert entries[1].details is not None
    assert entries[1].details["exception"]["type"] == "KeyError"
    (event,) = entries[1].details["events"]
    assert (event["name"], event["attributes"]["exception.message"]) == ("exception", "first")


def test_the_texts_are_those_of_operations(make_tracer: MakeTracer, make_logger: MakeLogger) -> None:
    """In the language of the settings."""
    own = make_logger(language="zh")
    with capture_entries(own) as entries, make_tracer(logger=own).start_as_current_span("搜索"):
        pass
    assert [entry.message for entry in entries] == ["搜索 开始", "搜索 完成"]


# What is within what ------------------------------------------------------------------------------


def test_spans_and_operations_within_each_other(tracer: trace.Tracer, entries: list[LogEntry]) -> None:
    """In any order, and after each has ended; a block of fields is none."""
    with sync.run("r", "run"), tracer.start_as_current_span("A"):
        note("in A")
        with sync.context(shop="s-1"):
            note("in A's context")
            with sync.timed_operation(None, "app", "B"):
                note("in B")
                with tracer.start_as_current_span("C"), tracer.start_as_current_span("D"):
                    note("in D")
                    with sync.timed_operation(None, "app", "E"):
                        note("in E")
                    note("in D again")
                note("in B again")
        note("in A again")
    d = ["D: done", "in D", ["E: done", "in E"], "in D again"]
    assert shown(entries) == [
        [
            "run: done",
            [
                "A: done",
                "in A",
                "in A's context",
                ["B: done", "in B", ["C: done", d], "in B again"],
                "in A again",
            ],
        ]
    ]  # fmt: skip
    assert {entry.task_id for entry in entries} == {"r"}


async def test_in_tasks_and_threads(tracer: trace.Tracer, entries: list[LogEntry]) -> None:
    """Each has the parent of where it was started, also when that has ended."""

    def work(name: str) -> None:
        with tracer.start_as_current_span(name):
            note(f"in {name}")

    async def wait(name: str, go: asyncio.Event) -> None:
        await go.wait()
        work(name)

    go = asyncio.Event()
    with sync.run("r", "run"):
        with tracer.start_as_current_span("A"):
            late = asyncio.create_task(wait("late", go))
            await asyncio.gather(asyncio.to_thread(work, "thread"), asyncio.to_thread(work, "thread"))
        with tracer.start_as_current_span("B"):
            work("C")
    go.set()
    await late
    gc.collect()
    assert shown(entries) == [
        [
            "run: done",
            ["A: done", *[["thread: done", "in thread"]] * 2, ["late: done", "in late"]],
            ["B: done", ["C: done", "in C"]],
        ]
    ]


def test_a_span_that_another_thread_ends(tracer: trace.Tracer, entries: list[LogEntry]) -> None:
    """Is of the same run, with the same fields, and so is one that has nothing but its parent there."""
    with sync.run("r", "run"), sync.context(roadmap_id="m"):
        span = tracer.start_span("call")
    context = trace.set_span_in_context(span)

    def work() -> None:
        tracer.start_span("within", context=context).end()
        span.end()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()
    assert shown(entries) == [["run: done", ["call: done", ["within: done"]]]]
    assert {entry.task_id for entry in entries} == {"r"}
    assert [entry.roadmap_id for entry in entries if entry.step == "call"] == ["m", "m"]


def test_a_parent_in_another_process(tracer: trace.Tracer, entries: list[LogEntry]) -> None:
    """The header of a request is enough, as the id of an operation is made of its span's."""
    headers: dict[str, str] = {}
    with tracer.start_as_current_span("client"):
        TraceContextTextMapPropagator().inject(headers)

    def serve() -> None:
        context = TraceContextTextMapPropagator().extract(headers)
        with tracer.start_as_current_span("server", context=context):
            note("served")
        token = otel_context.attach(context)
        note("no span of ours")
        with sync.timed_operation("r", "app", "timed"):
            pass
        otel_context.detach(token)

    contextvars.Context().run(serve)
    assert shown(entries) == [
        ["client: done", ["server: done", "served"], "no span of ours", ["timed: done"]]
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_within_a_span(tracer: trace.Tracer, make_logger: MakeLogger) -> None:
    """What the child does is within the span of its parent."""

    def child() -> list[tuple[str, str | None]]:
        with capture_entries() as entries:
            note("in the child")
            tracer.start_span("child").end()
        return [(entry.message, entry.parent_id) for entry in entries]

    with capture_entries(), tracer.start_as_current_span("A") as span:
        found = in_fork(child)
    assert {parent for _, parent in found} == {operation_id_of(span.get_span_context())}
    assert len(found) == 3


def test_a_message_to_another_process_carries_the_span(tracer: trace.Tracer, entries: list[LogEntry]) -> None:
    """What Celery's tasks have as their parent is what is entered where they are sent."""
    with sync.timed_operation("r", "app", "B"), tracer.start_as_current_span("A") as span:
        carried = extract(inject(SensitiveKeys(())))
    assert carried is not None
    assert carried.operation_id == operation_id_of(span.get_span_context())


def test_a_record_for_another_thread_carries_the_span(tracer: trace.Tracer, entries: list[LogEntry]) -> None:
    """As it does an operation."""
    record = logging.makeLogRecord({})
    with tracer.start_as_current_span("A") as span:
        ContextFilter().filter(record)
    assert vars(record)["parent_id"] == operation_id_of(span.get_span_context())


# Which run ----------------------------------------------------------------------------------------


def test_the_run(make_tracer: MakeTracer, entries: list[LogEntry]) -> None:
    """That of the context, else of the span around it, of the attribute, the trace."""
    tracer = make_tracer(run="session.id")
    told = {"session.id": "s-1"}
    with tracer.start_as_current_span("request") as request:
        with tracer.start_as_current_span("agent", attributes=told):
            tracer.start_span("tool", attributes={"session.id": "s-2"}).end()
        with sync.context(task_id="r"):
            tracer.start_span("own", attributes=told).end()
    runs = {entry.step: entry.task_id for entry in entries}
    trace_id = f"{request.get_span_context().trace_id:032x}"
    assert runs == {"request": trace_id, "agent": "s-1", "tool": "s-1", "own": "r"}


def test_a_logger_that_is_bound_to_a_run(make_tracer: MakeTracer, entries: list[LogEntry]) -> None:
    """Fills it in, with its other fields."""
    make_tracer(logger=logger.bind(task_id="b", shop="s-1")).start_span("A").end()
    assert [(entry.task_id, (entry.details or {})["shop"]) for entry in entries] == [("b", "s-1")] * 2


# Agents -------------------------------------------------------------------------------------------


def agents(tracer: trace.Tracer) -> None:
    """What Pydantic AI emits of an agent with a tool that is tried twice (the conventions' names)."""
    common = {"gen_ai.agent.name": "planner", "gen_ai.conversation.id": "chat-1"}
    request = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.provider.name": "openai",
    }
    tool = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.call.arguments": '{"q": "secret plan"}',
    }
    with tracer.start_as_current_span(
        "invoke_agent planner", attributes={"gen_ai.operation.name": "invoke_agent", **common}
    ) as agent:
        for attempt in (1, 2):
            with tracer.start_as_current_span("chat gpt-x", kind=SpanKind.CLIENT, attributes=request) as chat:
                chat.set_attribute("gen_ai.input.messages", '[{"role": "user", "content": "secret plan"}]')
                chat.set_attribute("gen_ai.usage.input_tokens", 100 * attempt)
                chat.set_attribute("gen_ai.usage.output_tokens", attempt)
                chat.add_event("gen_ai.user.message", {"content": "secret plan", "role": "user"})
            span = tracer.start_span("execute_tool search", attributes=tool)
            with trace.use_span(span, end_on_exit=True):
                note("asking the index", None)
                if attempt == 1:
                    span.set_status(Status(StatusCode.ERROR, "no answer"))
                else:
                    span.set_attribute("gen_ai.tool.call.result", "secret plan")
        agent.set_attribute("gen_ai.usage.input_tokens", 300)
        agent.set_attribute("pydantic_ai.all_messages", "[secret plan]")
        agent.set_attribute("final_result", "secret plan")


def test_an_agent_with_a_tool(make_tracer: MakeTracer, entries: list[LogEntry]) -> None:
    """Agent, tool, model and token counts are where they are of any other way in; no prompt is anywhere."""
    with sync.run("r", "run"):
        agents(make_tracer())
    tree = tree_of(entries)
    chat, search = ["chat gpt-x: done"], ["execute_tool search: {}", "asking the index"]
    assert shown(entries) == [
        [
            "run: done",
            ["invoke_agent planner: done", chat, [search[0].format("failed"), search[1]],
             chat, [search[0].format("done"), search[1]]],
        ]
    ]  # fmt: skip
    own = [entry for entry in entries if entry.step]
    assert {(entry.task_id, entry.agent_name) for entry in own} == {("r", "planner")}
    categories = {entry.step: entry.category for entry in own}
    assert categories == {
        "invoke_agent planner": "agent",
        "chat gpt-x": "agent",
        "execute_tool search": "tool",
    }
    assert at(tree, "chat gpt-x").own[1].details == {
        "model": "gpt-x",
        "input_tokens": 100,
        "output_tokens": 1,
        "events": [{"name": "gen_ai.user.message"}],
    }
    assert at(tree, "execute_tool search").own[0].details == {
        "tool_name": "search",
        "kind": "internal",
        "scope": "host",
        "attributes": {"gen_ai.operation.name": "execute_tool"},
    }
    assert "secret plan" not in repr(entries)


def test_content_on_demand(make_tracer: MakeTracer, entries: list[LogEntry]) -> None:
    """All of it: attributes and events; the run is that of the conversation here."""
    agents(make_tracer(content=True))
    assert {entry.task_id for entry in entries if entry.step} == {"chat-1"}
    assert repr(entries).count("secret plan") == 2 * (1 + 2) + 1 + 2


@pytest.mark.parametrize(
    "name",
    [
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "gen_ai.tool.definitions",
        "gen_ai.retrieval.documents",
        "gen_ai.retrieval.query.text",
        "gen_ai.prompt.0.content",
        "gen_ai.completion.0.tool_calls.0.arguments",
        "traceloop.entity.input",
        "traceloop.entity.output",
        "input.value",
        "output.value",
        "llm.input_messages.0.message.content",
        "llm.prompts",
        "llm.prompt_template.variables",
        "llm.tools.0.tool.json_schema",
        "retrieval.documents.0.document.content",
        "embedding.embeddings.0.embedding.text",
        "tool.parameters",
        "pydantic_ai.all_messages",
        "all_messages_events",
        "model_request_parameters",
        "tool_arguments",
        "tool_response",
        "final_result",
        "ai.prompt.messages",
        "ai.response.text",
        "ai.response.toolCalls",
        "ai.toolCall.args",
        "gcp.vertex.agent.llm_request",
        "gcp.vertex.agent.tool_call_args",
        "request_data",
    ],
)
def test_what_frameworks_call_content(name: str) -> None:
    """Texts and lists of such names are content; a number, as a count of tokens, is none."""
    assert _is_content(name, "text")
    assert _is_content(name, ("text",))
    assert not _is_content(name, 7)


@pytest.mark.parametrize(
    "name",
    [
        "gen_ai.operation.name",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.id",
        "gen_ai.output.type",
        "gen_ai.tool.call.id",
        "http.request.header.content-type",
        "http.route",
        "messaging.message.id",
        "messaging.destination.name",
        "db.query.text",
        "url.query",
        "user.id",
        "error.type",
    ],
)
def test_what_is_no_content(name: str) -> None:
    """It is recorded."""
    assert not _is_content(name, "text")


# What is left out ---------------------------------------------------------------------------------


class RecordOnly(Sampler):
    """Spans that are looked at in the process, and exported nowhere."""

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        """The same for all."""
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        """Its name."""
        return "record only"


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, RecordOnly()])
def test_a_span_that_is_not_sampled(
    make_tracer: MakeTracer, entries: list[LogEntry], sampler: Sampler
) -> None:
    """Is nothing, and what is recorded within it is within what is around it."""
    tracer = make_tracer(sampler)
    with sync.run("r", "run"), tracer.start_as_current_span("A"), tracer.start_as_current_span("B"):
        note("within")
    assert shown(entries) == [["run: done", "within"]]


def test_a_span_that_is_not_taken(make_tracer: MakeTracer, entries: list[LogEntry]) -> None:
    """By its kind, its scope, its name; those within it have its parent."""
    tracer = make_tracer(takes=lambda span: span.kind is not SpanKind.CLIENT)
    with tracer.start_as_current_span("A"), tracer.start_as_current_span("B", kind=SpanKind.CLIENT):
        note("within")
        tracer.start_span("C").end()
    assert shown(entries) == [["A: done", "within", ["C: done"]]]


def test_the_volume_settings(make_tracer: MakeTracer, make_logger: MakeLogger) -> None:
    """An operation whose start is recorded has an end; one whose start is left out has none."""
    own = make_logger()
    own.set_volume(run_max_entries=1)
    with capture_entries(own) as entries:
        tracer = make_tracer(logger=own.bind(task_id="r"))
        with tracer.start_as_current_span("A"), tracer.start_as_current_span("B"):
            pass
    assert [entry.step for entry in entries if entry.operation_id] == ["A", "A"]


def test_an_error_is_the_hosts_neither_at_the_start_nor_at_the_end(
    make_tracer: MakeTracer,
    entries: list[LogEntry],
    internal_errors: list[tuple[str, BaseException]],
) -> None:
    """Whatever it is: a filter that raises, settings that are wrong."""
    tracer = make_tracer(takes=lambda span: bool(1 / 0))
    with tracer.start_as_current_span("A"):
        note("within")
    assert [entry.message for entry in entries] == ["within"]
    assert [type(error) for _, error in internal_errors] == [ZeroDivisionError]
    internal_errors.clear()


def test_wrong_settings_are_reported(
    make_tracer: MakeTracer,
    monkeypatch: pytest.MonkeyPatch,
    internal_errors: list[tuple[str, BaseException]],
) -> None:
    """Not raised by the code that begins a span."""
    monkeypatch.setenv("EXECUTION_LOGGER_BATCH_SIZE", "many")
    tracer = make_tracer(logger=ExecutionLogger(make_delivery=MemoryDelivery))
    tracer.start_span("A").end()
    assert {type(error).__name__ for _, error in internal_errors} == {"SettingsError"}
    internal_errors.clear()


def test_the_end_waits_for_nothing(entries: list[LogEntry]) -> None:
    """What was begun is ended; what begins afterwards is not recorded."""
    processor = OperationSpanProcessor()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    span = provider.get_tracer("host").start_span("A")
    assert provider.force_flush()
    provider.shutdown()
    processor.shutdown()
    span.end()
    provider.get_tracer("host").start_span("B").end()
    assert [entry.message for entry in entries] == ["A started", "A completed"]


def test_spans_that_never_end_are_forgotten() -> None:
    """With the span itself: a process that leaks them would grow."""
    processor = OperationSpanProcessor()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    with capture_entries():
        for _ in range(10):
            provider.get_tracer("host").start_span("A")
    gc.collect()
    assert processor._begun == {}
    provider.shutdown()


# Log records --------------------------------------------------------------------------------------


def test_a_log_record(emitter: Any, tracer: trace.Tracer, entries: list[LogEntry]) -> None:
    """Has its level, message, columns and details, and the span it belongs to as its parent, and its run."""
    attributes: Any = {"step": "pack", "items": 3, "gen_ai.input.messages": "hidden"}
    with tracer.start_as_current_span("A", attributes={"gen_ai.conversation.id": "c"}) as span:
        record = LogRecord(severity_number=SeverityNumber.WARN2, body="packed", attributes=attributes)
    emitter.emit(record)
    entry = entries[-1]
    ids = span.get_span_context()
    assert (entry.level, entry.message, entry.step, entry.category) == ("warning", "packed", "pack", "app")
    assert entry.details == {"logger": "host.orders", "items": 3}
    assert (entry.task_id, entry.parent_id) == ("c", operation_id_of(ids))
    assert (entry.trace_id, entry.span_id) == (f"{ids.trace_id:032x}", f"{ids.span_id:016x}")


def test_a_log_record_outside_of_anything(emitter: Any, entries: list[LogEntry]) -> None:
    """Is of the run that the processor names, and within a run of that."""
    emitter.emit(LogRecord(body="alone"))
    with sync.run("r", "run"):
        emitter.emit(LogRecord(body="within"))
    assert [(entry.task_id, entry.message) for entry in entries][:3:2] == [("app", "alone"), ("r", "within")]
    assert entries[2].parent_id == entries[1].operation_id


@pytest.mark.parametrize(
    ("number", "text", "level"),
    [
        (SeverityNumber.TRACE, None, "debug"),
        (SeverityNumber.DEBUG4, None, "debug"),
        (SeverityNumber.INFO, None, "info"),
        (SeverityNumber.WARN, "notice", "warning"),
        (SeverityNumber.ERROR, None, "error"),
        (SeverityNumber.FATAL4, None, "critical"),
        (None, "Warn", "warning"),
        (SeverityNumber.UNSPECIFIED, "NOTICE", "notice"),
        (None, None, "info"),
    ],
)
def test_the_level(emitter: Any, entries: list[LogEntry], number: Any, text: str | None, level: str) -> None:
    """That of the number; without one that of the text."""
    emitter.emit(LogRecord(severity_number=number, severity_text=text, body="x"))
    assert entries[0].level == level


def test_an_event(emitter: Any, entries: list[LogEntry]) -> None:
    """Its name is the message of a body that is no text; what `gen_ai` events say is content."""
    emitter.emit(LogRecord(event_name="order.packed", body={"items": 3}))
    emitter.emit(LogRecord(event_name="gen_ai.choice", body={"content": "hidden"}))
    packed, choice = entries
    assert packed.message == "order.packed"
    assert packed.details == {"logger": "host.orders", "event_name": "order.packed", "body": {"items": 3}}
    assert choice.details == {"logger": "host.orders", "event_name": "gen_ai.choice"}


def test_an_exception_in_a_log_record(emitter: Any, entries: list[LogEntry]) -> None:
    """Is in the details as that of any other entry."""
    told = {"type": "ConnectionError", "message": "no answer", "stacktrace": "Traceback ..."}
    attributes: Any = {f"exception.{word}": text for word, text in told.items()}
    emitter.emit(LogRecord(severity_number=SeverityNumber.ERROR, body="not sent", attributes=attributes))
    assert (entries[0].details or {})["exception"] == {
        "type": "ConnectionError",
        "message": "no answer",
        "traceback": "Traceback ...",
    }


def test_a_log_record_that_cannot_be_read(
    emitter: Any, entries: list[LogEntry], internal_errors: list[tuple[str, BaseException]]
) -> None:
    """Is reported, and no error of the host's."""
    record = LogRecord(body="x")
    record.severity_number = "none"  # type: ignore[assignment]
    emitter.emit(record)
    assert [type(error) for _, error in internal_errors] == [AttributeError]
    internal_errors.clear()


# What is ours is nobody's span --------------------------------------------------------------------


class RedisDelivery(MemoryDelivery):
    """Delivers by a client of Redis', as the library does; makes a span there, as a host's hook might."""

    def __init__(self, tracer: trace.Tracer) -> None:
        super().__init__()
        self.client = fakeredis.FakeRedis()
        self._tracer = tracer

    def deliver(self, batch: Batch) -> Any:
        """Count it there."""
        self.client.incr("batches")
        with self._tracer.start_as_current_span("ours"):
            return super().deliver(batch)


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """The spans that Redis' instrumentation makes, by the host's provider with our processor."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    RedisInstrumentor().instrument(tracer_provider=provider)
    yield exporter
    RedisInstrumentor().uninstrument()
    provider.shutdown()


@respectful
def test_sending_entries_makes_no_spans(
    make_tracer: MakeTracer, make_logger: MakeLogger, exporter: InMemorySpanExporter
) -> None:
    """Of the instrumentation of Redis; those of the host's own calls are made, and are operations."""
    delivery = RedisDelivery(make_tracer())
    own = make_logger(delivery)
    with own.sync.timed_operation("r", "app", "work"):
        delivery.client.get("of the host")
    assert own.sync.flush(10).complete
    assert delivery.client.get("batches") is not None
    assert [span.name for span in exporter.get_finished_spans()] == ["GET", "GET"]


def test_what_our_threads_do_is_no_operation(make_tracer: MakeTracer, entries: list[LogEntry]) -> None:
    """Each entry would have another one sent, without end."""
    tracer = make_tracer()
    for name in (THREAD_NAME, f"{THREAD_NAME}-store"):
        thread = threading.Thread(target=lambda: tracer.start_span("ours").end(), name=name)
        thread.start()
        thread.join()
    assert entries == []


def test_what_our_tasks_do_is_no_operation(tracer: trace.Tracer, entries: list[LogEntry]) -> None:
    """In a host's worker that takes batches, too: an instrumentation of Celery makes a span of each task."""
    app = Celery(set_as_current=False)

    def work() -> None:
        tracer.start_span("within").end()

    for name in (TASK_NAME, "host.work"):
        app.task(work, name=name, shared=False).apply()
    app.close()
    assert [entry.message for entry in entries] == ["within started", "within completed"]


@respectful
def test_storing_entries_makes_no_spans(
    tmp_path: Path, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on the worker's loop nor in the thread of the task, which confirms the batch."""
    client = fakeredis.FakeRedis()

    async def on_the_loop() -> None:
        client.incr("loop")

    def confirm(*_: object) -> None:
        client.incr("task")

    make_tables(tmp_path / "logs.db")
    runtime = Runtime(Settings(database_url=f"sqlite:///{tmp_path / 'logs.db'}"))
    monkeypatch.setattr(runtime._confirmer, "stored", confirm)
    try:
        assert runtime.write(ReceivedBatch("b", batch(encoded()))).stored == 1
        runtime.run(on_the_loop(), DEADLINE_SECONDS)
    finally:
        runtime.close()
    assert exporter.get_finished_spans() == ()
    assert (client.get("loop"), client.get("task")) == (b"1", b"1")
