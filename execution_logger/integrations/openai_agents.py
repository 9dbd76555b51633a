"""The OpenAI Agents SDK, recorded: a processor for its traces and spans. Needs the extra `openai-agents`.

>>> agents.add_trace_processor(OperationTracingProcessor())    # or `set_trace_processors([...])`, alone
"""

import sys
import time
from collections.abc import Mapping
from contextvars import Token
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from agents.tracing import Span, Trace, TracingProcessor, get_current_trace
from uuid_utils import NAMESPACE_OID, uuid5

from execution_logger.api.context import Block, block_here, innermost, leave, new_block, operation_here
from execution_logger.api.logger import ExecutionLogger, execution_logger
from execution_logger.api.operations import ERROR_CHARS, cancellations
from execution_logger.diagnostics import InternalErrors
from execution_logger.entry.entry import OPERATION_TEXTS, LogCategory, LogLevel
from execution_logger.text import text_of

_CATEGORIES: Mapping[str, LogCategory] = {
    "trace": LogCategory.WORKFLOW,
    "custom": LogCategory.WORKFLOW,
    "function": LogCategory.TOOL,
    "mcp_tools": LogCategory.TOOL,
}
"""Of kinds of spans; all others are an agent's."""

_NAMES = frozenset({"type", "name", "agent_name"})
"""What has a place of its own in an entry."""

_HARMLESS = frozenset({
    "handoffs", "tools", "output_type", "turn", "from_agent", "to_agent", "triggered", "server", "result",
    "mcp_data", "model", "usage", "input_format", "output_format", "first_content_at", "metadata", "group_id",
    "response_id",
})  # fmt: skip
"""Attributes that are no content; all others may be, those of kinds among them that are yet to come."""

_TOKENS = ("input_tokens", "output_tokens")
_ALWAYS = frozenset({"kind", "trace_id", "span_id", "tool_name", "model", *_TOKENS})
"""What the entry at the end says again."""

_INHERITED = ("task_id", "agent_name")
_NOTHING: Mapping[str, Any] = {}

_errors = InternalErrors()


def operation_id_of(trace_id: str, span_id: str | None = None) -> str:
    """The id of a trace's operation, or of a span's, in every process: a UUID (version 5) of the ids."""
    id_ = uuid5(NAMESPACE_OID, trace_id)
    return str(id_ if span_id is None else uuid5(id_, span_id))


@dataclass(slots=True, eq=False, weakref_slot=True)
class _Begun:
    """A trace or span that has begun.

    Attributes:
        kind: the type of the span's data.
        name: what it was called when it began.
        operation_id: its own.
        parent_id: the operation that it is within.
        block: entered where it began: what is recorded there is within it.
        token: takes that context back to what it was.
        within: what was being handled there already when it began, by its `id()`.
        details: those of the entry at its start.
        is_recorded: that entry is.
        began_at: seconds of `time.perf_counter`.
    """

    kind: str
    name: str
    operation_id: str
    parent_id: str | None
    block: Block
    token: Token[Block | None]
    within: int
    details: dict[str, Any] = field(default_factory=dict)
    is_recorded: bool = False
    began_at: float = field(default_factory=time.perf_counter)


class OperationTracingProcessor(TracingProcessor):
    """Makes each trace and each span an operation, and what is recorded within it, by any way in, its child.

    There is an entry at its start and one at its end with the duration; what has an error, or was left by
    an exception, has failed or is cancelled. The parent is what the SDK says, or a `timed_operation` or
    `run` that was entered in between; that of a trace is whatever is around it.

    The run is that of the context, or else the trace's `group_id`, or its id. What is within an agent has
    its name. Names, models and token counts are always in the details, whatever else a span
    holds only with `content`. Nothing raises into the host. `force_flush` and `shutdown` wait for nothing: an
    entry is on the disk when it is recorded, and the process delivers at its end.

    Args:
        content: record prompts, outputs, arguments and results of tools, settings of models, and the data of
            custom spans and of errors.
        logger: whose entries they are; the ready `execution_logger` by default.
    """

    def __init__(self, *, content: bool = False, logger: ExecutionLogger | None = None) -> None:
        self._content = content
        self._logger = logger or execution_logger
        # One that never ends is forgotten with the object of the SDK's.
        self._begun: WeakKeyDictionary[Trace | Span[Any], _Begun] = WeakKeyDictionary()
        self._open: WeakValueDictionary[str, _Begun] = WeakValueDictionary()
        self._is_over = False

    def on_trace_start(self, trace: Trace) -> None:
        """Record the start."""
        self._start(trace)

    def on_trace_end(self, trace: Trace) -> None:
        """Record the end."""
        self._finish(trace)

    def on_span_start(self, span: Span[Any]) -> None:
        """Record the start."""
        self._start(span)

    def on_span_end(self, span: Span[Any]) -> None:
        """Record the end."""
        self._finish(span)

    def shutdown(self) -> None:
        """Record nothing any more that begins from here on."""
        self._is_over = True

    def force_flush(self) -> None:
        """Do nothing: there is nothing to wait for."""

    def _start(self, item: Trace | Span[Any]) -> None:
        try:
            if not self._is_over and item not in self._begun:
                self._begin(item)
        except Exception as error:  # noqa: BLE001 - the SDK would log it, with the host's data
            _errors.record("the start of an agent's span", error)

    def _finish(self, item: Trace | Span[Any]) -> None:
        try:
            begun = self._begun.pop(item, None)
            if begun is not None:
                self._open.pop(begun.operation_id, None)
                try:
                    self._end(item, begun)
                finally:
                    leave(begun.block, begun.token)
        except Exception as error:  # noqa: BLE001 - as above
            _errors.record("the end of an agent's span", error)

    def _begin(self, item: Trace | Span[Any]) -> None:
        here = block_here()
        if isinstance(item, Trace):
            kind, name, own = "trace", item.name, None
            operation_id, parent_id = operation_id_of(item.trace_id), operation_here()
            around: Mapping[str, Any] = _NOTHING
        else:
            data = item.span_data
            kind, name = data.type, getattr(data, "name", None) or data.type
            own = name if kind == "agent" else getattr(data, "agent_name", None)
            operation_id = operation_id_of(item.trace_id, item.span_id)
            outer_id = operation_id_of(item.trace_id, item.parent_id)
            outer = self._open.get(outer_id)
            around = _NOTHING if outer is None else outer.block.fields
            parent_id = self._parent(outer_id, here)
        inherited = {key: around[key] for key in _INHERITED if around.get(key) is not None}
        known = {key: value for key, value in here.fields.items() if key in _INHERITED and value is not None}
        fields = {"task_id": _run_of(item), **inherited, **known, **({"agent_name": own} if own else {})}
        details = self._details(item, kind)
        block = new_block(fields, operation_id)
        token = innermost.set(block)
        begun = _Begun(
            kind, text_of(name), operation_id, parent_id, block, token, id(sys.exception()), details
        )
        self._begun[item] = self._open[operation_id] = begun
        begun.is_recorded = self._write(begun, LogLevel.INFO, "started", None, dict(details))

    def _end(self, item: Trace | Span[Any], begun: _Begun) -> None:
        duration_ms = round((time.perf_counter() - begun.began_at) * 1000)
        before = begun.details
        details = {
            key: value
            for key, value in self._details(item, begun.kind).items()
            if key in _ALWAYS or before.get(key) is not value
        }
        raised = sys.exception()
        if raised is not None and id(raised) == begun.within:
            raised = None
        error = None if isinstance(item, Trace) else item.error
        if error is not None:
            data = error.get("data") or {}
            text = ": ".join(
                filter(None, map(text_of, (error.get("message") or "", data.get("error") or "")))
            )
            if self._content and data:
                details["error_data"] = data
        elif raised is None:
            self._write(begun, LogLevel.INFO, "completed", duration_ms, details)
            return
        elif isinstance(raised, cancellations()):
            self._write(begun, LogLevel.WARNING, "cancelled", duration_ms, details)
            return
        else:
            text = text_of(raised)
        details["error"] = text
        self._write(begun, LogLevel.ERROR, "failed", duration_ms, details, text[:ERROR_CHARS])

    def _write(
        self,
        begun: _Begun,
        level: LogLevel,
        event: str,
        duration_ms: int | None,
        details: dict[str, Any],
        *more: str,
    ) -> bool:
        # What is filled in at the end is what was at the start, in whatever context or thread that is.
        token = innermost.set(begun.block)
        try:
            return bool(
                self._logger._record(  # noqa: SLF001 - it is one of us
                    None, level.value, _CATEGORIES.get(begun.kind, LogCategory.AGENT).value,
                    OPERATION_TEXTS[self._logger.settings.language][event].format(begun.name, *more),
                    begun.name, None, None, None, details, duration_ms, _NOTHING,
                    (begun.operation_id, begun.parent_id, None, None), always=begun.is_recorded,
                ).id
            )  # fmt: skip
        finally:
            innermost.reset(token)

    def _parent(self, outer_id: str, here: Block) -> str:
        """The operation of what is around a span, unless one of ours was entered within that."""
        nearer: str | None = None
        block: Block | None = here
        while block is not None:
            if block.operation_id == outer_id:
                return nearer or outer_id
            # A span need not be the current one: those beside this one are in the context as well.
            if nearer is None and not block.is_left and block.operation_id not in self._open:
                nearer = block.operation_id
            block = block.outer
        # Of one that began in another process nobody knows when: what is entered here is nearer.
        return outer_id if outer_id in self._open else nearer or outer_id

    def _details(self, item: Trace | Span[Any], kind: str) -> dict[str, Any]:
        details: dict[str, Any] = {"kind": kind, "trace_id": item.trace_id}
        if isinstance(item, Trace):
            known = {key: getattr(item, key, None) for key in ("group_id", "metadata")}
        else:
            details["span_id"] = item.span_id
            known = _attributes(item.span_data)
            if kind == "function":
                details["tool_name"] = item.span_data.name
        details.update(
            (key, value)
            for key, value in known.items()
            if value is not None and (self._content or key in _HARMLESS)
        )
        usage = details.get("usage") or {}
        details.update((key, usage[key]) for key in _TOKENS if key in usage)
        return details


def _run_of(item: Trace | Span[Any]) -> str:
    trace = item if isinstance(item, Trace) else get_current_trace()
    is_its = trace is not None and trace.trace_id == item.trace_id
    return (getattr(trace, "group_id", None) if is_its else None) or item.trace_id


def _attributes(data: Any) -> dict[str, Any]:
    """What the data of a span hold, which have slots, or a dict where they are a host's own."""
    names = [name for kind in type(data).__mro__ for name in getattr(kind, "__slots__", ())]
    names += getattr(data, "__dict__", {})
    known = {
        name: getattr(data, name, None) for name in names if name not in _NAMES and not name.startswith("_")
    }
    response = known.pop("response", None)
    if response is not None:  # it holds all that has been sent, too
        usage = getattr(response, "usage", None)
        tokens = {name: getattr(usage, name, None) for name in (*_TOKENS, "total_tokens")}
        known["response_id"], known["model"] = getattr(response, "id", None), getattr(response, "model", None)
        known["usage"] = known.get("usage") or {key: each for key, each in tokens.items() if each is not None}
        known["output"] = getattr(response, "output", None)
    return known
