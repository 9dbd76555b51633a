"""OpenTelemetry, recorded: a processor for spans, one for log records. Needs the extra `opentelemetry`.

What frameworks for agents have in common is that they emit spans, with the attributes `gen_ai.*` of
OpenTelemetry's conventions. None of those is stable: the few that all agree on are known here by name.
"""

import re
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from weakref import ref

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanContext, StatusCode
from uuid_utils import UUID, uuid5

from execution_logger.api.context import innermost, not_left, span_parents
from execution_logger.api.logger import ExecutionLogger, execution_logger
from execution_logger.broker.connection import TASK_NAME
from execution_logger.entry.entry import LogCategory, LogLevel
from execution_logger.integrations.operations import Operation, OperationRecorder, never_raises
from execution_logger.integrations.records import (
    DEFAULT,
    Parts,
    Recorder,
    comes_of_sending,
    divide,
    level_named,
)
from execution_logger.shipping.thread import THREAD_NAME

RUN = "gen_ai.conversation.id"
"""The attribute that tells the run of a span, where nothing else does."""

_AGENT = "gen_ai.agent.name"
_KNOWN: Mapping[str, str] = {
    "gen_ai.tool.name": "tool_name",
    "gen_ai.request.model": "model",
    "gen_ai.usage.input_tokens": "input_tokens",
    "gen_ai.usage.output_tokens": "output_tokens",
}
"""Attributes that have a name of their own in the details."""

_CATEGORIES: Mapping[str, LogCategory] = {
    "gen_ai.tool.name": LogCategory.TOOL,
    "gen_ai.workflow.name": LogCategory.WORKFLOW,
    "gen_ai.operation.name": LogCategory.AGENT,
    _AGENT: LogCategory.AGENT,
    "db.system.name": LogCategory.DATABASE,
    "db.system": LogCategory.DATABASE,
    "http.request.method": LogCategory.API,
    "http.method": LogCategory.API,
    "rpc.system": LogCategory.API,
}
"""What a span is by the attributes that it has; the first one tells."""

_NAMED = {*_KNOWN, _AGENT}

_CONTENT = re.compile(
    r"""
    (^|\.)
    ((input_|output_|all_)?messages|all_messages_events|events|(system_)?instructions
    |prompts?|prompt_template|completions?|content|documents?|embeddings?|final_result
    |arguments|args|parameters|definitions|tools|function_call|model_request_parameters
    |tool_(arguments|args|call_args|response|result)|llm_(request|response)|(request|response)_data)
    (\.|$)
    | (^|\.)(input|output)(\.(value|text)|$)
    | ^(gen_ai|ai|llm|traceloop)\..*\.(text|results?|query|object|toolCalls)$
    """,
    re.VERBOSE,
)
"""The names of attributes, and of events, that hold prompts and outputs, in the words of many frameworks."""

_OF_EXCEPTION = ("type", "message", "stacktrace")
_SEVERITIES = (LogLevel.DEBUG, *LogLevel)
"""Of trace, debug, info, warn, error and fatal: four numbers each, from 1 on."""

_OUR_TASKS = TASK_NAME.partition(".")[0] + "."
_Key = tuple[int, int]

_processors: list["OperationSpanProcessor"] = []


def operation_id_of(context: SpanContext) -> str:
    """The id of a span's operation, in every process: a UUID (version 5) of the ids of trace and span."""
    namespace = UUID(bytes=context.trace_id.to_bytes(16, "big"))
    return str(uuid5(namespace, f"{context.span_id:016x}"))


@dataclass(slots=True, eq=False)
class _Span(Operation):
    """A span of this process that has begun, as long as anybody has it.

    Attributes:
        reference: forgets this when the span is gone.
        run: if anything but the trace tells it.
        is_taken: it is recorded. What is recorded within one that is not is within its parent.
        attributes: those of the entry at its start.
    """

    reference: ref[Span] | None = None
    run: Any = None
    is_taken: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)


class OperationSpanProcessor(SpanProcessor):
    """Makes each span an operation: `provider.add_span_processor(OperationSpanProcessor())`.

    There is an entry at its start, one at its end with the duration, and what failed is an error. The parent
    is what the span is within: another span, one of another process, a `timed_operation`. What is
    recorded within the span, by any way in, has it as its parent.

    The run is that of the context, or else that of the span around it, that of its attribute, or its trace.
    Attributes of agents, tools, models and token counts have columns or names of their own; all others are in
    the details under `attributes`, those known at the start in the first entry, the rest in the last one.

    Left out are spans that are not sampled, and what sending and storing entries has caused. Nothing
    raises into the host. `force_flush` and `shutdown` wait for nothing: an entry is on the disk
    when it is recorded, and the process delivers at its end.

    Args:
        run: the attribute with the run of a span, where the context has none.
        content: record prompts, outputs, and the arguments and results of tools.
        takes: tells of a span, at its start, whether it is recorded: by its `kind`, `instrumentation_scope`,
            `name`. What is within one that is not, is within its parent.
        category: of spans whose attributes tell none.
        logger: whose entries they are; the ready `execution_logger` by default.
    """

    def __init__(
        self,
        *,
        run: str = RUN,
        content: bool = False,
        takes: Callable[[ReadableSpan], bool] = lambda _: True,
        category: str = LogCategory.WORKFLOW,
        logger: ExecutionLogger | None = None,
    ) -> None:
        self._run = run
        self._content = content
        self._takes = takes
        self._category = str(category)
        self._recorder = OperationRecorder(logger)
        self._begun: dict[_Key, _Span] = {}
        self._is_over = False
        _processors.append(self)
        span_parents.append(self._innermost)

    @never_raises("the start of a span")
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - it is in the span
        """Record the start."""
        if not self._is_over and not _comes_of_us():
            self._begin(span)

    @never_raises("the end of a span")
    def on_end(self, span: ReadableSpan) -> None:
        """Record the end."""
        begun = self._begun.get(_key(span.context))
        if begun is not None and begun.is_taken:
            self._end(span, begun)

    def shutdown(self) -> None:
        """Record no span any more that begins from here on."""
        if not self._is_over:
            self._is_over = True
            _processors.remove(self)
            span_parents.remove(self._innermost)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - there is nothing to wait for
        """Do nothing, and say that it is done."""
        return True

    def run_of(self, context: SpanContext) -> str | None:
        """The run of a span of this process that has begun; None of any other."""
        begun = self._begun.get(_key(context))
        return None if begun is None else begun.task_id

    def _begin(self, span: Span) -> None:
        context, block = span.get_span_context(), not_left(innermost.get())
        outer = None if span.parent is None else self._begun.get(_key(span.parent))
        attributes = dict(span.attributes or {})  # theirs takes a lock at each look
        parent_id = None if block is None else block.operation_id
        if span.parent is not None:
            parent_id = self._innermost(span.parent, parent_id)
        begun = self._begun[_key(context)] = _Span(
            "span", span.name, self._category, block, parent_id, parent_id, trace=_hex(context)
        )
        begun.reference = self._reference(span)
        begun.run = self._recorder.task_id_in(block) or (outer and outer.run) or attributes.get(self._run)
        begun.task_id = begun.run or begun.trace[0]
        begun.agent_name = attributes.get(_AGENT) or (outer and outer.agent_name)
        if context.trace_flags.sampled and self._takes(span):
            begun.is_taken, begun.operation_id = True, operation_id_of(context)
            details: dict[str, Any] = {"kind": span.kind.name.lower()}
            if span.instrumentation_scope:
                details["scope"] = span.instrumentation_scope.name
            if span.links:
                ids = ("trace_id", "span_id")
                details["links"] = [dict(zip(ids, _hex(link.context), strict=True)) for link in span.links]
            self._describe(span, begun, attributes, details)
            self._recorder.started(begun, details)
            begun.attributes = attributes

    def _end(self, span: ReadableSpan, begun: _Span) -> None:
        attributes, events = dict(span.attributes or {}), list(span.events)
        details: dict[str, Any] = {}
        exception = next((event for event in reversed(events) if event.name == "exception"), None)
        if exception is not None:
            events.remove(exception)
            details["exception"], _ = _exception(exception.attributes or {})
        if events:
            details["events"] = [self._event(event) for event in events]
        self._describe(span, begun, attributes, details)
        error: Any = None
        if span.status.status_code is StatusCode.ERROR:
            raised = details.get("exception", {})
            error = span.status.description or raised.get("message") or attributes.get("error.type")
            error = error or raised.get("type") or ""
        duration_ms = round(((span.end_time or 0) - (span.start_time or 0)) / 1e6)
        self._recorder.ended(begun, details, error, duration_ms=duration_ms)

    def _describe(
        self, span: ReadableSpan, begun: _Span, attributes: Mapping[str, Any], details: dict[str, Any]
    ) -> None:
        """Put into the columns and details what the attributes say now that they did not say before."""
        begun.name, begun.category = span.name, _category(attributes) or self._category
        begun.agent_name = attributes.get(_AGENT) or begun.agent_name
        rest = {
            key: value
            for key, value in attributes.items()
            if begun.attributes.get(key) != value
            and key not in _NAMED
            and (self._content or not _is_content(key, value))
        }
        details.update((title, attributes[key]) for key, title in _KNOWN.items() if key in attributes)
        if rest:
            details["attributes"] = rest

    def _event(self, event: Event) -> dict[str, Any]:
        attributes = dict(event.attributes or {})
        if not self._content:
            # Those of the conventions' older versions have it under any name.
            is_all = event.name.startswith("gen_ai.") or _names_content(event.name)
            attributes = {
                key: value for key, value in attributes.items() if not (is_all or _is_content(key, value))
            }
        return {"name": event.name, **({"attributes": attributes} if attributes else {})}

    def _innermost(self, context: SpanContext, operation_id: str | None) -> str | None:
        """The operation of this span, unless that of the block was entered within the span."""
        begun = self._begun.get(_key(context))
        if begun is None:
            # Of one that comes from another process nobody knows when: what is entered here is nearer.
            return operation_id or (operation_id_of(context) if context.is_remote else None)
        block = begun.block
        while operation_id is not None and (block is None or block.operation_id != operation_id):
            if block is None:
                return operation_id
            block = block.outer
        return begun.operation_id

    def _reference(self, span: Span) -> ref[Span]:
        begun, key = self._begun, _key(span.get_span_context())
        return ref(span, lambda _: begun.pop(key, None))


class EntryLogRecordProcessor(LogRecordProcessor):
    """Makes each log record an entry: `provider.add_log_record_processor(EntryLogRecordProcessor())`.

    The message is the body, if that is a text, or else the name of the event. The level is that of the
    severity's number, or its text. Attributes become columns and details: those of an exception `exception`,
    and a body that is no text `body`. The span that the record belongs to is its parent, and tells its run.

    Left out is what the library itself says, and what others say while it sends and stores entries.
    Nothing raises into the host; `force_flush` and `shutdown` wait for nothing.

    Args:
        content: record prompts and outputs: the bodies of events called `gen_ai.*`, and such attributes.
        category: of records that have no attribute `category`.
        task_id: of records outside any run.
        logger: whose entries they are; the ready `execution_logger` by default.
    """

    def __init__(
        self,
        *,
        content: bool = False,
        category: str = DEFAULT,
        task_id: str = DEFAULT,
        logger: ExecutionLogger | None = None,
    ) -> None:
        self._content = content
        self._recorder = Recorder(logger or execution_logger, category, task_id)

    @never_raises("a log record")
    def on_emit(self, log_record: Any) -> None:
        """Record it."""
        # A bridge may emit what another thread has said: the record knows in which span.
        token = otel_context.attach(log_record.log_record.context or otel_context.get_current())
        try:
            self._recorder.record(log_record, self._read)
        finally:
            otel_context.detach(token)

    def shutdown(self) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - there is nothing to wait for
        """Do nothing, and say that it is done."""
        return True

    def _read(self, emitted: Any) -> Parts | None:
        record, scope = emitted.log_record, emitted.instrumentation_scope
        name = scope.name if scope else ""
        if _comes_of_us() or comes_of_sending(threading.current_thread().name, name, self._recorder.logger):
            return None
        details: dict[str, Any] = {"logger": name} if name else {}
        event, body = record.event_name, record.body
        if event:
            details["event_name"] = event
        exception, attributes = _exception(record.attributes or {})
        if exception:
            details["exception"] = exception
        if not self._content:
            attributes = {key: value for key, value in attributes.items() if not _is_content(key, value)}
            body = None if str(event or attributes.get("event.name") or "").startswith("gen_ai.") else body
        if body is not None and not isinstance(body, str):
            details["body"] = body
        message = body if isinstance(body, str) else event or attributes.get("event.name") or ""
        columns = divide(attributes, details)
        if self._recorder.is_outside(columns):
            context = trace.get_current_span().get_span_context()
            if (run := next(filter(None, (each.run_of(context) for each in _processors)), None)) is not None:
                columns["task_id"] = run
        return _level(record), message, columns, details


def _category(attributes: Mapping[str, Any]) -> str | None:
    known = _CATEGORIES.keys() & attributes.keys()
    return next((_CATEGORIES[key].value for key in _CATEGORIES if key in known), None) if known else None


def _level(record: Any) -> Any:
    number = 0 if record.severity_number is None else record.severity_number.value
    if number:
        return _SEVERITIES[min(number - 1, 23) // 4].value
    return level_named(record.severity_text or LogLevel.INFO.value)


def _exception(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What attributes say of an exception, in the words of our entries, and those that say something else."""
    names = {f"exception.{word}": word for word in _OF_EXCEPTION}
    found = {names[key]: value for key, value in attributes.items() if key in names}
    if "stacktrace" in found:
        found["traceback"] = found.pop("stacktrace")
    return found, {key: value for key, value in attributes.items() if key not in names}


def _is_content(name: str, value: Any) -> bool:
    """Whether it is a prompt, or an output; no number is."""
    return type(value) not in {int, float, bool} and _names_content(name)


@lru_cache(4096)
def _names_content(name: str) -> bool:
    return _CONTENT.search(name) is not None


def _comes_of_us() -> bool:
    """Whether a thread of the library's, or a task of its, is at work here: there would be no end to it."""
    if threading.current_thread().name.startswith(THREAD_NAME):
        return True
    celery = sys.modules.get("celery._state")
    task = None if celery is None else celery.get_current_task()
    return task is not None and str(task.name).startswith(_OUR_TASKS)


def _key(context: SpanContext) -> _Key:
    return context.trace_id, context.span_id


def _hex(context: SpanContext) -> tuple[str, str]:
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"
