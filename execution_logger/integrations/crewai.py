"""CrewAI, recorded: an event listener. Needs the extra `crewai`.

>>> OperationEventListener()    # once; it is at work from here on

The parent of an operation is the event that CrewAI names, by its id: handlers are called in threads of its
event bus. The context, which comes along as it was where the event was emitted, only tells what it cannot
know: what is around the outermost call, and operations of the host's own within a tool or a flow's method.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import crewai.events.event_types  # noqa: F401 - the classes of all events
from crewai.events import BaseEventListener
from crewai.events.base_events import BaseEvent
from crewai.events.event_context import SCOPE_ENDING_EVENTS, SCOPE_STARTING_EVENTS, get_current_parent_id

from execution_logger.api.context import innermost, not_left, scopes
from execution_logger.api.logger import ExecutionLogger
from execution_logger.entry.entry import LogCategory, LogLevel
from execution_logger.integrations.operations import (
    Operation,
    Operations,
    block_in,
    never_raises,
    operation_id_of,
    token_counts,
)
from execution_logger.text import text_of

_CATEGORIES: Mapping[str, LogCategory] = {
    "llm": LogCategory.AGENT,
    "agent": LogCategory.AGENT,
    "lite": LogCategory.AGENT,
    "tool": LogCategory.TOOL,
    "mcp": LogCategory.TOOL,
    "memory": LogCategory.TOOL,
    "knowledge": LogCategory.TOOL,
}
"""By the first word of an event's type; all others are the workflow's."""

_NAMES = ("tool_name", "method_name", "flow_name", "crew_name", "server_name", "model", "agent_role")
"""Attributes that name what has begun; the first one tells."""

_INPUTS = ("inputs", "task_prompt", "context", "messages", "tool_args", "params", "query", "value")
_OUTPUTS = ("output", "response", "result", "results")
_ENDS = {"paused": "interrupted", "canceled": "cancelled"}
"""Last words of the types of ends that are neither success nor failure."""

_FAULTS = frozenset({"tool_selection_error", "tool_validate_input_error", "tool_failure_detected"})
"""What goes wrong within an operation, which goes on."""


class OperationEventListener(BaseEventListener):
    """Makes crews, tasks, agents, calls of models, tools, flows and their methods operations.

    There is an entry at the start of each, one at its end with the duration, and what failed is an error.
    The id of an operation is that of the event at its start. Models and token counts are in the details as
    `model`, `input_tokens` and `output_tokens`. What is recorded by any other way in the code of a tool or of
    a flow's method has it as its parent.

    One listener serves all that its process runs, at the same time too; a second one would record all twice.
    Nothing raises into the host.

    Args:
        content: record inputs, prompts, outputs, and the arguments and results of tools.
        logger: whose entries they are; the ready `execution_logger` by default.
    """

    def __init__(self, *, content: bool = False, logger: ExecutionLogger | None = None) -> None:
        self._content = content
        self._operations = Operations(logger)
        super().__init__()
        if _scope_here not in scopes:
            scopes.append(_scope_here)

    def setup_listeners(self, crewai_event_bus: Any) -> None:
        """Register for all events that begin or end something."""
        for kind in set(_subclasses(BaseEvent)):
            type_ = kind.model_fields["type"].default
            if type_ in SCOPE_STARTING_EVENTS:
                crewai_event_bus.on(kind)(self._on_start)
            elif type_ in SCOPE_ENDING_EVENTS:
                crewai_event_bus.on(kind)(self._on_end)
            elif type_ in _FAULTS:
                crewai_event_bus.on(kind)(self._on_fault)

    # Coroutines, because those are called by one thread in the order of the events, and others by ten.

    async def _on_start(self, _: Any, event: Any) -> None:
        self._begin(event)

    async def _on_end(self, _: Any, event: Any) -> None:
        self._end(event)

    async def _on_fault(self, _: Any, event: Any) -> None:
        self._note(event)

    @never_raises("the start of an operation of CrewAI's")
    def _begin(self, event: Any) -> None:
        kind, operation_id = event.type.removesuffix("_started"), operation_id_of(event.event_id)
        outer, parent_id = self._operations.get(event.parent_event_id), None
        if event.parent_event_id is not None:
            parent_id = operation_id_of(event.parent_event_id)
        here = not_left(innermost.get())
        if here is not None and here.operation_id is not None and here.scope == parent_id:
            parent_id = here.operation_id  # entered by the host within that
        around = {} if outer is None or outer.block is None else outer.block.fields
        task_id = self._operations.task_id_in(here) or around.get("task_id") or operation_id
        agent_name = _agent(event) or around.get("agent_name")
        block = block_in(here, operation_id, {"task_id": task_id, "agent_name": agent_name})
        category = _CATEGORIES.get(kind.partition("_")[0], LogCategory.WORKFLOW).value
        operation = Operation(kind, _name(event, kind), category, block, operation_id, parent_id, outer=outer)
        operation.began_at, operation.key = event.timestamp.timestamp(), event.event_id
        self._operations.begin(event.event_id, operation, self._details(event, kind, "input"), enters=False)

    @never_raises("the end of an operation of CrewAI's")
    def _end(self, event: Any) -> None:
        operation = self._operations.get(event.started_event_id)
        # CrewAI takes it to be the innermost one, whose end it may not have told.
        while operation is not None and not event.type.startswith(operation.kind):
            operation = operation.outer
        if operation is None or self._operations.leave(operation.key) is None:
            self._note(event)
            return
        details, error = self._details(event, "", "output"), _error(event)
        duration_ms = round((event.timestamp.timestamp() - operation.began_at) * 1000)
        ended = "" if error else _ENDS.get(event.type.rpartition("_")[2], "")
        self._operations.ended(operation, details, error, ended, duration_ms)

    @never_raises("an event of CrewAI's")
    def _note(self, event: Any) -> None:
        if (error := _error(event)) is not None:
            details = {"kind": event.type, **self._details(event, "", "input"), "error": text_of(error)}
            within = self._operations.get(event.parent_event_id)
            message = f"{event.type}: {details['error']}"
            self._operations.note(within, LogLevel.WARNING, LogCategory.TOOL, message, details)

    def _details(self, event: Any, kind: str, content: str) -> dict[str, Any]:
        details: dict[str, Any] = {"kind": kind} if kind else {}
        known = {title: getattr(event, title, None) for title in ("tool_name", "model", "total_tokens")}
        details |= {title: value for title, value in known.items() if value}
        if usage := getattr(event, "usage", None):
            details |= token_counts(usage)
        if self._content:
            names = _INPUTS if content == "input" else _OUTPUTS
            values = (getattr(event, name, None) for name in names)
            details |= next(({content: value} for value in values if value is not None), {})
        return details


def _subclasses(kind: type[BaseEvent]) -> Iterator[type[BaseEvent]]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)


def _scope_here() -> str | None:
    event_id = get_current_parent_id()
    return None if event_id is None else operation_id_of(event_id)


def _agent(event: Any) -> str | None:
    known = getattr(event, "agent_info", None) or {}
    role = event.agent_role or getattr(getattr(event, "agent", None), "role", None) or known.get("role")
    return None if role is None else text_of(role).strip()


def _name(event: Any, kind: str) -> str:
    if kind == "task":  # without a name of its own CrewAI calls it by its description, which is a prompt
        return text_of(getattr(event.task, "name", None) or kind)
    names = (getattr(event, name, None) for name in _NAMES)
    return text_of(next(filter(None, names), None) or _agent(event) or kind).strip()


def _error(event: Any) -> Any:
    """What has gone wrong: an exception, or a text; None if nothing has."""
    failure = getattr(event, "failure", None)
    error = getattr(event, "error", None) or getattr(failure, "message", None) or failure
    return error or (event.type if event.type.endswith(("_failed", "_error")) else None)
