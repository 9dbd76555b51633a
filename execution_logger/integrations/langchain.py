"""LangChain and LangGraph, recorded: a callback handler. Needs the extra `langchain`.

>>> graph.invoke(inputs, {"callbacks": [OperationCallbackHandler()]})

The parent of an operation is the run that LangChain names. The context only tells what it cannot know: what
is around the outermost call, and operations of the host's own within a node.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from execution_logger.api.context import Block, innermost, not_left, operation_here
from execution_logger.api.logger import ExecutionLogger
from execution_logger.api.operations import ERROR_CHARS
from execution_logger.entry.entry import LogCategory, LogLevel
from execution_logger.integrations.operations import (
    FrameworkBlock,
    Operation,
    Operations,
    block_in,
    first_of,
    never_raises,
    token_counts,
    within,
)
from execution_logger.text import text_of

TaskId = Callable[[Mapping[str, Any]], Any]
"""Tells the run of an outermost call from the metadata of its config, where `configurable` is, too."""

_HIDDEN = "langsmith:hidden"
"""The tag of what a framework does for itself."""

_OF_STEPS = ("graph:step:", "seq:step:")
"""What tags begin with that only count."""

_OF_FRAMEWORKS = ("ls_", "lc_", "langgraph_", "checkpoint_")
"""What the keys of metadata begin with that are not the host's."""

_CATEGORIES: Mapping[str, LogCategory] = {
    "model": LogCategory.AGENT,
    "tool": LogCategory.TOOL,
    "retriever": LogCategory.TOOL,
    "chain": LogCategory.WORKFLOW,
}

_MODEL = ("model_name", "model", "model_id")


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
        self._operations = Operations(logger)

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

    @never_raises("a retry of LangChain's")
    def on_retry(self, retry_state: Any, *, run_id: UUID, **_: Any) -> None:
        """Record a failed attempt within a run."""
        run, outcome = self._operations.get(run_id), retry_state.outcome
        error = None if outcome is None else outcome.exception()
        text = text_of("" if error is None else error)
        message = self._operations.text("retried", "?" if run is None else run.name, text[:ERROR_CHARS])
        details = {"attempt": retry_state.attempt_number, "error": text}
        self._operations.note(run, LogLevel.WARNING, LogCategory.RETRY, message, details)

    @never_raises("an event of LangChain's")
    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **_: Any) -> None:
        """Record an event of the host's own, with its data."""
        run = self._operations.get(run_id)
        self._operations.note(run, LogLevel.INFO, LogCategory.WORKFLOW, name, {"data": data})

    @never_raises("the start of a run of LangChain's")
    def _begin(self, kind: str, serialized: Any, given: Any, about: Mapping[str, Any]) -> None:
        run_id, parent = about["run_id"], self._operations.get(about.get("parent_run_id"))
        outer = within(parent.block) if parent else not_left(innermost.get())
        parent_id = outer.operation_id if parent and outer else operation_here()
        name = _name(kind, serialized, about)
        run = Operation(kind, name, _CATEGORIES[kind].value, outer, None, parent_id, outer=parent)
        if _HIDDEN in (about.get("tags") or ()):  # what is within it is within its parent
            self._operations.keep(run_id, run)
            return
        run.operation_id = str(run_id)
        run.block = self._block(outer, about)
        details = _known(run, about)
        if self._content:
            details["input"] = about.get("inputs") or given
        # Models run no code of the host's, and those of one batch begin before the first has ended.
        self._operations.begin(run_id, run, details, enters=kind != "model")

    @never_raises("the end of a run of LangChain's")
    def _end(self, about: Mapping[str, Any], error: BaseException | None = None, output: Any = None) -> None:
        run = self._operations.leave(about["run_id"])
        if run is None or run.operation_id is None:
            return
        self._operations.get(about.get("parent_run_id"))
        event = _event(error)
        details = _usage(output) if error is None and run.kind == "model" else {}
        if self._content and (output is not None or event == "interrupted"):
            details["output"] = output if error is None else error.args
        self._operations.ended(run, details, error, event)

    def _block(self, outer: Block | None, about: Mapping[str, Any]) -> FrameworkBlock:
        """What the code of a run runs in: filled in are the run as we know it, and the agent or the node."""
        run_id, metadata = str(about["run_id"]), about.get("metadata") or {}
        task_id = self._operations.task_id_in(outer)
        if task_id is None:
            task_id = self._task_id(metadata)
        fields = {"task_id": run_id if task_id is None else task_id}
        if agent_name := metadata.get("lc_agent_name") or metadata.get("langgraph_node"):
            fields["agent_name"] = agent_name
        return block_in(outer, run_id, fields)


class _Unknown(Exception):  # noqa: N818 - it stands for what is not imported
    """An exception of LangGraph's, where that is not in use: nothing is one."""


def _event(error: BaseException | None) -> str:
    """What an error of LangGraph's is that is none."""
    langgraph = sys.modules.get("langgraph.errors")
    if isinstance(error, getattr(langgraph, "GraphInterrupt", _Unknown)):
        return "interrupted"
    if isinstance(error, getattr(langgraph, "GraphBubbleUp", _Unknown)):
        return "completed"  # a command for the graph around this one
    return ""


def _named_run(metadata: Mapping[str, Any]) -> Any:
    return metadata.get("task_id") or metadata.get("thread_id")


def _name(kind: str, serialized: Any, about: Mapping[str, Any]) -> str:
    known = serialized if isinstance(serialized, dict) else {}
    return text_of(about.get("name") or known.get("name") or (known.get("id") or [kind])[-1])


def _known(run: Operation, about: Mapping[str, Any]) -> dict[str, Any]:
    """The details that are known at the start."""
    details: dict[str, Any] = {"kind": run.kind}
    if run.kind == "tool":
        details["tool_name"] = run.name
    metadata = about.get("metadata") or {}
    if run.kind == "model":
        details |= _model(about.get("invocation_params") or {}, {"model": metadata.get("ls_model_name")})
    if tags := [tag for tag in about.get("tags") or () if not tag.startswith(_OF_STEPS)]:
        details["tags"] = tags
    hosts = {key: metadata[key] for key in metadata if not key.startswith(_OF_FRAMEWORKS)}
    if run.outer is None and hosts:
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
    return {**_model(*models, output), **token_counts(*told)}


def _model(*places: Mapping[str, Any]) -> dict[str, Any]:
    model = first_of(_MODEL, *places)
    return {} if model is None else {"model": model}
