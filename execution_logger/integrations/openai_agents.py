"""The OpenAI Agents SDK, recorded: a processor for its traces and spans. Needs the extra `openai-agents`.

>>> agents.add_trace_processor(OperationTracingProcessor())    # or `set_trace_processors([...])`, alone
"""

import sys
from collections.abc import Mapping
from typing import Any

from agents.tracing import Span, Trace, TracingProcessor, get_current_trace
from uuid_utils import NAMESPACE_OID, uuid5

from execution_logger.api.context import block_here, innermost, not_left, operation_here
from execution_logger.api.logger import ExecutionLogger
from execution_logger.entry.entry import LogCategory
from execution_logger.integrations.operations import (
    Operation,
    Operations,
    block_in,
    never_raises,
    within,
)
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


def operation_id_of(trace_id: str, span_id: str | None = None) -> str:
    """The id of a trace's operation, or of a span's, in every process: a UUID (version 5) of the ids."""
    id_ = uuid5(NAMESPACE_OID, trace_id)
    return str(id_ if span_id is None else uuid5(id_, span_id))


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
        self._operations = Operations(logger)
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

    @never_raises("the start of an agent's span")
    def _start(self, item: Trace | Span[Any]) -> None:
        key = operation_id_of(item.trace_id, None if isinstance(item, Trace) else item.span_id)
        if self._is_over or self._operations.get(key) is not None:
            return
        if isinstance(item, Trace):
            kind, name, own = "trace", item.name, None
            outer, parent_id = None, operation_here()
        else:
            data = item.span_data
            kind, name = data.type, getattr(data, "name", None) or data.type
            own = name if kind == "agent" else getattr(data, "agent_name", None)
            outer_id = operation_id_of(item.trace_id, item.parent_id)
            outer = self._operations.get(outer_id)
            # Of one that began in another process nobody knows when: what is entered here is nearer.
            around = within(None if outer is None else outer.block)
            parent_id = (around and around.operation_id) or outer_id
        details, category = self._details(item, kind), _CATEGORIES.get(kind, LogCategory.AGENT).value
        block = block_in(not_left(innermost.get()), key, _fields(item, outer, own))
        operation = Operation(kind, text_of(name), category, block, key, parent_id, details=details)
        operation.raised = id(sys.exception())  # what is being handled here already is none of its errors
        self._operations.begin(key, operation, dict(details))

    @never_raises("the end of an agent's span")
    def _finish(self, item: Trace | Span[Any]) -> None:
        key = operation_id_of(item.trace_id, None if isinstance(item, Trace) else item.span_id)
        operation = self._operations.leave(key)
        if operation is None:
            return
        before, details = operation.details, self._details(item, operation.kind)
        details = {k: each for k, each in details.items() if k in _ALWAYS or before.get(k) is not each}
        raised, told = sys.exception(), None if isinstance(item, Trace) else item.error
        error: object = None if id(raised) == operation.raised else raised
        if told is not None:
            data = told.get("data") or {}
            error = ": ".join(
                filter(None, map(text_of, (told.get("message") or "", data.get("error") or "")))
            )
            if self._content and data:
                details["error_data"] = data
        self._operations.ended(operation, details, error)

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


def _fields(item: Trace | Span[Any], outer: Operation | None, agent_name: Any) -> dict[str, Any]:
    """What is filled in within it: what is known here, or else around it, and its agent."""
    around = _NOTHING if outer is None or outer.block is None else outer.block.fields
    places = ({"task_id": _run_of(item)}, around, block_here().fields, {"agent_name": agent_name or None})
    return {key: place[key] for place in places for key in _INHERITED if place.get(key) is not None}


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
