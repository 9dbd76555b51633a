"""LlamaIndex, recorded: a handler of its spans and events. Needs the extra `llama-index`.

>>> OperationSpanHandler().install()    # once; it is at work from here on

The parent of an operation is the span that LlamaIndex names. The context only tells what it cannot know:
what is around the outermost call, and operations of the host's own within a span.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span import BaseSpan
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from pydantic import PrivateAttr

from execution_logger.api.context import innermost, not_left, operation_here
from execution_logger.api.logger import ExecutionLogger
from execution_logger.entry.entry import LogCategory
from execution_logger.integrations.operations import (
    Operation,
    Operations,
    block_in,
    never_raises,
    operation_id_of,
    token_counts,
    within,
)
from execution_logger.text import text_of

_KINDS: Mapping[str, str] = {
    "BaseLLM": "model",
    "MultiModalLLM": "model",
    "BaseTool": "tool",
    "BaseRetriever": "retriever",
    "BaseEmbedding": "embedding",
    "BaseWorkflowAgent": "agent",
}
"""Of the instances of these classes; all others are workflow."""

_CATEGORIES: Mapping[str, LogCategory] = {
    "model": LogCategory.AGENT,
    "agent": LogCategory.AGENT,
    "tool": LogCategory.TOOL,
    "retriever": LogCategory.TOOL,
    "embedding": LogCategory.TOOL,
}

_ANSWER_BEGINS = frozenset({"LLMChatStartEvent", "LLMCompletionStartEvent"})
_ANSWER_ENDS = frozenset({"LLMChatEndEvent", "LLMCompletionEndEvent"})
_UUID_CHARS = 36


@dataclass(slots=True, eq=False)
class _Span(Operation):
    """A span that has begun.

    Attributes:
        answers: of models, that have begun and not ended: one that streams ends after its span.
        counts: what the answers have told of tokens.
        result: of the span, which has ended.
        event: what no error tells of its end.
    """

    answers: int = 0
    counts: list[Mapping[str, Any]] = field(default_factory=list)
    result: Any = None
    has_ended: bool = False
    event: str = ""


class OperationSpanHandler(BaseSpanHandler[BaseSpan]):
    """Makes each span an operation: engines, agents, steps of workflows, models, tools, retrievers.

    There is an entry at its start, one at its end with the duration, and what failed is an error. The call of
    a model that streams ends with its last word. Models and token counts are in the details as
    `model`, `input_tokens` and `output_tokens`. What is recorded by any other way in the code of a span has
    it as its parent. Left out are spans of private methods; what is within one is within its parent.

    One handler serves any number of calls at the same time, sync and async. Nothing raises into the host.

    Args:
        content: record prompts, outputs, and the arguments and results of tools.
        logger: whose entries they are; the ready `execution_logger` by default.
    """

    _content: bool = PrivateAttr()
    _operations: Operations = PrivateAttr()

    def __init__(self, *, content: bool = False, logger: ExecutionLogger | None = None) -> None:
        super().__init__()
        self._content = content
        self._operations = Operations(logger)

    @classmethod
    def class_name(cls) -> str:
        """Its name, to LlamaIndex."""
        return cls.__name__

    def install(self, dispatcher: Any = None) -> None:
        """Be told by this dispatcher from here on; by default by the one of all LlamaIndex."""
        dispatcher = dispatcher or get_dispatcher()
        dispatcher.add_span_handler(self)
        dispatcher.add_event_handler(_Events(self._on_event))

    def new_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any = None,
        parent_span_id: str | None = None,
        tags: Any = None,  # noqa: ARG002 - LlamaIndex's signature
        **_: Any,
    ) -> None:
        """Record the start; LlamaIndex is to keep nothing."""
        self._begin(id_, bound_args, instance, parent_span_id)

    def prepare_to_exit_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,  # noqa: ARG002 - as above
        instance: Any = None,  # noqa: ARG002 - as above
        result: Any = None,
        **_: Any,
    ) -> None:
        """Record the end."""
        self._end(id_, result)

    def prepare_to_drop_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,  # noqa: ARG002 - as above
        instance: Any = None,  # noqa: ARG002 - as above
        err: BaseException | None = None,
        **_: Any,
    ) -> None:
        """Record that it has failed, or was cancelled."""
        self._fail(id_, err)

    @never_raises("the start of a span of LlamaIndex's")
    def _begin(self, id_: str, bound: inspect.BoundArguments, instance: Any, parent_key: str | None) -> None:
        parent = self._operations.get(parent_key)
        outer = within(parent.block) if parent else not_left(innermost.get())
        parent_id = outer.operation_id if parent and outer else operation_here()
        called, operation_id = id_[: -_UUID_CHARS - 1], operation_id_of(id_[-_UUID_CHARS:])
        cls: Any = type(instance)
        kind = _kind(cls)
        name = instance.metadata.get_name() if kind == "tool" else called
        category = _CATEGORIES.get(kind, LogCategory.WORKFLOW).value
        span = _Span(kind, text_of(name), category, outer, None, parent_id, outer=parent)
        if instance is not None and _is_private(called):
            self._operations.keep(id_, span)
            return
        span.operation_id = operation_id
        fields = {"task_id": self._operations.task_id_in(outer) or operation_id}
        if kind == "agent":
            fields["agent_name"] = instance.name
        span.block = block_in(outer, operation_id, fields)
        details = {
            "kind": kind,
            **({"tool_name": span.name} if kind == "tool" else {}),
            **_model(kind, instance),
        }
        if self._content:
            details["input"] = bound.arguments
        self._operations.begin(id_, span, details)

    @never_raises("the end of a span of LlamaIndex's")
    def _end(self, id_: str, result: Any) -> None:
        span = self._leave(id_)
        if span is None:
            return
        span.result, span.has_ended = result, True
        if span.answers:
            self._operations.keep(id_, span)
        else:
            self._ended(span)

    @never_raises("the end of a span of LlamaIndex's")
    def _fail(self, id_: str, error: BaseException | None) -> None:
        if (span := self._leave(id_)) is not None:
            self._ended(span, error or "")

    @never_raises("an event of LlamaIndex's")
    def _on_event(self, event: Any) -> None:
        kind, key = event.class_name(), event.span_id
        span = self._operations.get(key)
        if not isinstance(span, _Span):
            return
        error = None
        if kind in _ANSWER_BEGINS:
            span.answers += 1
        elif kind in _ANSWER_ENDS:
            span.answers -= 1
            span.counts.append(_usage(event.response))
            span.result = event.response if span.has_ended else None
        elif kind == "ExceptionEvent":
            span.answers, error = 0, event.exception
        elif kind == "SpanCancelledEvent":
            span.event = "cancelled"
        if span.has_ended and not span.answers:
            self._operations.leave(key)
            self._ended(span, error)

    def _leave(self, id_: str) -> _Span | None:
        span = self._operations.leave(id_)
        return span if isinstance(span, _Span) and span.operation_id is not None else None

    def _ended(self, span: _Span, error: Any = None) -> None:
        details = token_counts(*span.counts)
        if self._content and span.result is not None:
            details["output"] = span.result
        self._operations.ended(span, details, error, "" if error else span.event)


class _Events(BaseEventHandler):
    _tell: Any = PrivateAttr()

    def __init__(self, tell: Any) -> None:
        super().__init__()
        self._tell = tell

    def handle(self, event: Any, **_: Any) -> None:
        self._tell(event)


@lru_cache(1024)
def _kind(type_: type) -> str:
    kinds = (
        _KINDS.get(each.__name__) for each in type_.__mro__ if each.__module__.startswith("llama_index.")
    )
    return next(filter(None, kinds), "span")


def _is_private(called: str) -> bool:
    method = called.rpartition(".")[2]
    return method.startswith("_") and not method.startswith("__")


def _model(kind: str, instance: Any) -> dict[str, Any]:
    if kind not in {"model", "embedding"}:
        return {}
    model = getattr(instance, "model", None) or getattr(instance, "model_name", None)
    model = model or getattr(getattr(instance, "metadata", None), "model_name", None)
    return {"model": model} if model else {}


def _usage(response: Any) -> Mapping[str, Any]:
    """What an answer tells of tokens: it is where the provider puts it."""
    raw = getattr(response, "raw", None)
    usage = raw.get("usage") if isinstance(raw, dict) else getattr(raw, "usage", None)
    usage = usage or getattr(response, "additional_kwargs", None) or {}
    return usage if isinstance(usage, dict) else dict(getattr(usage, "__dict__", {}))
