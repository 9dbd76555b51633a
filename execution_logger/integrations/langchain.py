"""LangChain and LangGraph, recorded: a callback handler. Needs the extra `langchain`.

>>> graph.invoke(inputs, {"callbacks": [OperationCallbackHandler()]})

The parent of an operation is the run that LangChain names. The context only tells what it cannot know: what
is around the outermost call, and operations of the host's own within a node.
"""

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextvars import Token
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from execution_logger.api.context import Block, block_here, innermost, leave, operation_here
from execution_logger.api.logger import ExecutionLogger, execution_logger
from execution_logger.api.operations import ERROR_CHARS, cancellations
from execution_logger.diagnostics import InternalErrors
from execution_logger.entry.entry import OPERATION_TEXTS, LogCategory, LogEntry, LogLevel
from execution_logger.text import text_of

TaskId = Callable[[Mapping[str, Any]], Any]
"""Tells the run of an outermost call from the metadata of its config, where `configurable` is, too."""

_HIDDEN = "langsmith:hidden"
"""The tag of what a framework does for itself."""

_OF_STEPS = ("graph:step:", "seq:step:")
"""What tags begin with that only count."""

_OF_FRAMEWORKS = ("ls_", "lc_", "langgraph_", "checkpoint_")
"""What the keys of metadata begin with that are not the host's."""

_MOST_RUNS = 10_000
"""Under way in a handler: one whose end never came is forgotten when so many newer ones have begun."""

_CATEGORIES: Mapping[str, LogCategory] = {
    "model": LogCategory.AGENT,
    "tool": LogCategory.TOOL,
    "retriever": LogCategory.TOOL,
    "chain": LogCategory.WORKFLOW,
}

_TEXTS: Mapping[str, Mapping[str, str]] = {
    "zh": {**OPERATION_TEXTS["zh"], "interrupted": "{} 已中断", "retried": "{} 将重试: {}"},
    "en": {**OPERATION_TEXTS["en"], "interrupted": "{} interrupted", "retried": "{} to be retried: {}"},
}

_NOTHING: Mapping[str, Any] = {}
_MODEL = ("model_name", "model", "model_id")
_INPUT = ("input_tokens", "prompt_tokens")
_OUTPUT = ("output_tokens", "completion_tokens")

_errors = InternalErrors()


@dataclass(slots=True, eq=False)
class _Run:
    """A run of LangChain's that has begun, in its words: a call of a chain, a node, a model, a tool.

    Attributes:
        kind: a key of `_CATEGORIES`.
        outer: the block that it began in.
        block: what its code runs in; `outer` itself if the run is left out.
        parent_id: the operation that it is within.
        began_at: by `time.perf_counter`.
        token: leaves the block; None if it was not entered.
        is_recorded: the entry at its start is.
        raised: `id()` of what a run within it has raised, whose traceback is there.
    """

    kind: str
    name: str
    outer: Block
    block: Block
    parent_id: str | None
    began_at: float
    token: Token[Block | None] | None = None
    is_recorded: bool = False
    raised: int = 0

    @property
    def is_hidden(self) -> bool:
        """Nothing of it is recorded; what is within it is within its parent."""
        return self.block is self.outer


class OperationCallbackHandler(BaseCallbackHandler):
    """Makes each run an operation: chains, graphs and their nodes, models, tools, retrievers.

    There is an entry at its start, one at its end with the duration, and what failed is an error; an
    interrupt of LangGraph's is none. Retries and custom events are entries within. Models and token counts
    are in the details as `model`, `input_tokens` and `output_tokens`.

    The id of an operation is its `run_id`. What is recorded by any other way in the code of a chain, a node
    or a tool has it as its parent: LangChain passes the context on to its threads and tasks.

    One handler serves any number of calls at the same time, of `invoke` and `ainvoke`, `stream` and `batch`.
    Nothing raises into the host.

    Args:
        content: record prompts, outputs, and the arguments and results of tools.
        task_id: tells the run of an outermost call from the metadata of its config, where the context has
            none; by default its `task_id`, or else its `thread_id`. What it does not tell is the `run_id`.
        logger: whose entries they are; the ready `execution_logger` by default.
    """

    run_inline = True  # in the executor that it would be called in, what it enters would be lost

    def __init__(
        self, *, content: bool = False, task_id: TaskId | None = None, logger: ExecutionLogger | None = None
    ) -> None:
        self._content = content
        self._task_id = task_id or _named_run
        self._logger = logger or execution_logger
        self._runs: OrderedDict[UUID, _Run] = OrderedDict()  # its methods need no lock, which a fork may keep

    def on_chain_start(self, serialized: Any, inputs: Any, **run: Any) -> None:
        """Record the start of a chain, a graph, a node."""
        self._begin("chain", serialized, inputs, run)

    def on_chat_model_start(self, serialized: Any, messages: Any, **run: Any) -> None:
        """Record the start of a chat model's call."""
        self._begin("model", serialized, messages, run)

    def on_llm_start(self, serialized: Any, prompts: Any, **run: Any) -> None:
        """Record the start of a model's call."""
        self._begin("model", serialized, prompts, run)

    def on_tool_start(self, serialized: Any, input_str: Any, **run: Any) -> None:
        """Record the start of a tool."""
        self._begin("tool", serialized, input_str, run)

    def on_retriever_start(self, serialized: Any, query: Any, **run: Any) -> None:
        """Record the start of a retriever."""
        self._begin("retriever", serialized, query, run)

    def on_chain_end(self, outputs: Any, **run: Any) -> None:
        """Record the end of a chain, a graph, a node."""
        self._end(run, output=outputs)

    def on_llm_end(self, response: Any, **run: Any) -> None:
        """Record the end of a model's call, with its token counts."""
        self._end(run, output=response)

    def on_tool_end(self, output: Any, **run: Any) -> None:
        """Record the end of a tool."""
        self._end(run, output=output)

    def on_retriever_end(self, documents: Any, **run: Any) -> None:
        """Record the end of a retriever."""
        self._end(run, output=documents)

    def on_chain_error(self, error: BaseException, **run: Any) -> None:
        """Record that a chain, a graph, a node has failed."""
        self._end(run, error)

    def on_llm_error(self, error: BaseException, **run: Any) -> None:
        """Record that a model's call has failed."""
        self._end(run, error)

    def on_tool_error(self, error: BaseException, **run: Any) -> None:
        """Record that a tool has failed."""
        self._end(run, error)

    def on_retriever_error(self, error: BaseException, **run: Any) -> None:
        """Record that a retriever has failed."""
        self._end(run, error)

    def on_retry(self, retry_state: Any, *, run_id: UUID, **_: Any) -> None:
        """Record a failed attempt within a run."""
        try:
            run, outcome = self._runs.get(run_id), retry_state.outcome
            error = None if outcome is None else outcome.exception()
            text = text_of("" if error is None else error)
            message = self._text("retried", "?" if run is None else run.name, text[:ERROR_CHARS])
            details = {"attempt": retry_state.attempt_number, "error": text}
            self._note(run, LogLevel.WARNING, LogCategory.RETRY, message, details)
        except Exception as failure:  # noqa: BLE001 - LangChain would log it each time
            _errors.record("a retry of LangChain's", failure)

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **_: Any) -> None:
        """Record an event of the host's own, with its data."""
        try:
            self._note(self._runs.get(run_id), LogLevel.INFO, LogCategory.WORKFLOW, name, {"data": data})
        except Exception as failure:  # noqa: BLE001 - as above
            _errors.record("an event of LangChain's", failure)

    def _begin(self, kind: str, serialized: Any, given: Any, about: Mapping[str, Any]) -> None:
        try:
            run_id, parent = about["run_id"], self._parent(about)
            outer = block_here() if parent is None else _innermost(parent.block)
            parent_id = operation_here() if parent is None else outer.operation_id
            run = _Run(kind, _name(kind, serialized, about), outer, outer, parent_id, time.perf_counter())
            if _HIDDEN not in (about.get("tags") or ()):
                run.block = self._block(outer, about)
                details = _known(run, about, is_outermost=parent is None)
                if self._content:
                    details["input"] = about.get("inputs") or given
                run.is_recorded = bool(self._write(run, LogLevel.INFO, "started", None, details).id)
                # Models run no code of the host's, and those of one batch begin before the first has ended.
                run.token = None if kind == "model" else innermost.set(run.block)
            self._keep(run_id, run)
        except Exception as failure:  # noqa: BLE001 - as above
            _errors.record("the start of a run of LangChain's", failure)

    def _end(self, about: Mapping[str, Any], error: BaseException | None = None, output: Any = None) -> None:
        try:
            run = self._runs.pop(about["run_id"], None)
            if run is None or run.is_hidden:
                return
            if run.token is not None:
                leave(run.block, run.token)
            level, event = _outcome(error)
            details, more = dict[str, Any](), tuple[str, ...]()
            if event == "failed":
                details["error"] = text = text_of(error)
                more = (text[:ERROR_CHARS],)
                if run.raised != id(error):
                    details["exception"] = error
                if (parent := self._parent(about)) is not None:
                    parent.raised = id(error)
            if error is None and run.kind == "model":
                details |= _usage(output)
            if self._content and (output is not None or event == "interrupted"):
                details["output"] = output if error is None else error.args
            duration_ms = round((time.perf_counter() - run.began_at) * 1000)
            self._write(run, level, event, duration_ms, details, *more)
        except Exception as failure:  # noqa: BLE001 - as above
            _errors.record("the end of a run of LangChain's", failure)

    def _parent(self, about: Mapping[str, Any]) -> _Run | None:
        """The run that this one is within, if the handler knows it: it may serve a part of a chain only."""
        parent = self._runs.get(about.get("parent_run_id") or about["run_id"])
        if parent is not None:
            self._keep(about["parent_run_id"], parent)
        return parent

    def _keep(self, run_id: UUID, run: _Run) -> None:
        self._runs[run_id] = run
        self._runs.move_to_end(run_id)
        while len(self._runs) > _MOST_RUNS:
            self._runs.popitem(last=False)

    def _block(self, outer: Block, about: Mapping[str, Any]) -> Block:
        """What the code of a run runs in: filled in are the run as we know it, and the agent or the node."""
        run_id, metadata = str(about["run_id"]), about.get("metadata") or {}
        bound = self._logger._bound.get("task_id")  # noqa: SLF001 - it is one of us
        task_id = bound if bound is not None else outer.fields.get("task_id")
        if task_id is None:
            task_id = self._task_id(metadata)
        fields = _Fields(outer.fields, task_id=run_id if task_id is None else task_id)
        if agent_name := metadata.get("lc_agent_name") or metadata.get("langgraph_node"):
            fields["agent_name"] = agent_name
        return Block(fields, run_id, outer.run, outer)

    def _write(
        self, run: _Run, level: LogLevel, event: str, duration_ms: int | None, details: Any, *more: str
    ) -> LogEntry:
        fields = run.block.fields
        # What is filled in at the end is what was at the start, in whatever context or thread that is.
        token = innermost.set(run.outer)
        try:
            return self._logger._record(  # noqa: SLF001 - it is one of us
                fields["task_id"], level.value, _CATEGORIES[run.kind].value,
                self._text(event, run.name, *more),
                run.name, fields.get("agent_name"), None, None, details or None, duration_ms, _NOTHING,
                (run.block.operation_id, run.parent_id, None, None), always=run.is_recorded,
            )  # fmt: skip
        finally:
            innermost.reset(token)

    def _note(self, run: _Run | None, level: LogLevel, category: str, message: str, details: Any) -> None:
        """Record an entry within a run."""
        token = innermost.set(block_here() if run is None else _innermost(run.block))
        try:
            self._logger.sync.log(None, level, category, message, details=details)
        finally:
            innermost.reset(token)

    def _text(self, event: str, *values: str) -> str:
        return _TEXTS[self._logger.settings.language][event].format(*values)


class _Unknown(Exception):  # noqa: N818 - it stands for what is not imported
    """An exception of LangGraph's, where that is not in use: nothing is one."""


def _outcome(error: BaseException | None) -> tuple[LogLevel, str]:
    """The level and the text of an end."""
    if error is None:
        return LogLevel.INFO, "completed"
    if isinstance(error, cancellations()):
        return LogLevel.WARNING, "cancelled"
    langgraph = sys.modules.get("langgraph.errors")
    if isinstance(error, getattr(langgraph, "GraphInterrupt", _Unknown)):
        return LogLevel.INFO, "interrupted"
    if isinstance(error, getattr(langgraph, "GraphBubbleUp", _Unknown)):
        return LogLevel.INFO, "completed"  # a command for the graph around this one
    return LogLevel.ERROR, "failed"


def _innermost(block: Block) -> Block:
    """The innermost block that the host has entered in this one, and not in another run; or this one."""
    found, walked = None, innermost.get()
    while walked is not None and walked is not block:
        if type(walked.fields) is _Fields:
            found = None
        elif found is None and not walked.is_left:
            found = walked
        walked = walked.outer
    return block if walked is None or found is None else found


class _Fields(dict[str, Any]):
    """Those of a run's block, which tell it from a block of the host's."""


def _named_run(metadata: Mapping[str, Any]) -> Any:
    return metadata.get("task_id") or metadata.get("thread_id")


def _name(kind: str, serialized: Any, about: Mapping[str, Any]) -> str:
    known = serialized if isinstance(serialized, dict) else {}
    return text_of(about.get("name") or known.get("name") or (known.get("id") or [kind])[-1])


def _known(run: _Run, about: Mapping[str, Any], *, is_outermost: bool) -> dict[str, Any]:
    """The details that are known at the start."""
    details: dict[str, Any] = {"kind": run.kind}
    if run.kind == "tool":
        details["tool_name"] = run.name
    metadata = about.get("metadata") or {}
    if run.kind == "model":
        told = {"model": metadata.get("ls_model_name")}
        details |= _found("model", _MODEL, about.get("invocation_params") or {}, told)
    if tags := [tag for tag in about.get("tags") or () if not tag.startswith(_OF_STEPS)]:
        details["tags"] = tags
    hosts = {key: metadata[key] for key in metadata if not key.startswith(_OF_FRAMEWORKS)}
    if is_outermost and hosts:
        details["metadata"] = hosts
    return details


def _usage(response: Any) -> dict[str, Any]:
    """The model and the token counts, as the messages tell them or the provider's own words."""
    messages = [
        message
        for choices in response.generations
        for choice in choices
        if (message := getattr(choice, "message", None)) is not None
    ]
    output = response.llm_output or {}
    told = [each for message in messages if (each := getattr(message, "usage_metadata", None))]
    told = told or [each for key in ("token_usage", "usage") if (each := output.get(key))][:1]
    models = [getattr(message, "response_metadata", None) or {} for message in messages]
    usage = _found("model", _MODEL, *models, output)
    for title, keys in (("input_tokens", _INPUT), ("output_tokens", _OUTPUT)):
        counts = [count for each in told if (count := _found(title, keys, each))]
        if counts:
            usage[title] = sum(count[title] for count in counts)
    return usage


def _found(title: str, keys: tuple[str, ...], *places: Mapping[str, Any]) -> dict[str, Any]:
    """The first of these keys that has a value."""
    values = (place.get(key) for place in places for key in keys)
    return next(({title: value} for value in values if value is not None), {})
