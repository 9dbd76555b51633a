"""Fields that are filled in: by bind() for one logger, by context() for a block of code."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from execution_logger.entry.entry import TreeIds
from execution_logger.text import is_hostile

FILLED = ("task_id", "step", "agent_name", "roadmap_id", "concept_id")
"""Columns that bound fields fill in; every other bound field goes into `details`."""

_MOST_KEYS = 65_536
"""Of the shortest keys, some 262,144 bytes: the size of an entry unless a setting allows for more."""

TRACING = "opentelemetry.trace"
"""A host that uses it has it loaded."""

_TRACING_CONTEXT = "opentelemetry.context"

_NAMED = ("operation_id", "parent_id")

_NOTHING: Mapping[str, Any] = {}


@dataclass(slots=True, eq=False)
class Block:
    """A block of code that has been entered: what is filled in there, and the block around it.

    Attributes:
        fields: filled in for every call, those of the blocks around it among them.
        operation_id: the innermost operation's, which is the parent of what is recorded there.
        run: the `task_id` of the run that has begun around it.
        run_goes_on: that run ends elsewhere; in the processes that it goes on in, it has begun around them.
        outer: the block around it.
        is_left: it has ended.
        task_id: of the entries of the innermost operation; for records of other loggers, which have none.
        scope: the operation of a framework's that its own operation began in: see `scopes`.
    """

    fields: Mapping[str, Any]
    operation_id: str | None
    run: str | None
    outer: "Block | None"
    is_left: bool = False
    task_id: str | None = None
    scope: str | None = None
    run_goes_on: bool = False


innermost: ContextVar[Block | None] = ContextVar("execution_logger_fields", default=None)


def not_left(block: Block | None) -> Block | None:
    """This block, or the next one around it that has not been left."""
    while block is not None and block.is_left:
        block = block.outer
    return block


span_parents: list[Callable[[Any, str | None], str | None]] = []
"""Asked, where an OpenTelemetry span is active, whether its operation or that of the block is the inner one.

They are given the context of the span and the operation of the block, and return one of the two.
"""


scopes: list[Callable[[], str | None]] = []
"""Of frameworks whose operations enter no block, because they are told of in other threads.

Each tells the id of the one that is under way here.
"""


def scope_here() -> str | None:
    """The framework's operation that is under way here, if it tells."""
    return next((id_ for scope in scopes if (id_ := scope()) is not None), None)


def operation_in(block: Block) -> str | None:
    """The operation of the block, or that of a framework's that has begun within it."""
    scope = scope_here() if scopes else None
    return block.operation_id if scope is None or scope == block.scope else scope


def block_here() -> Block:
    """The innermost block that is entered here, or an empty one."""
    return not_left(innermost.get()) or Block(_NOTHING, None, None, None)


def operation_here() -> str | None:
    """The operation that what is recorded here is within: that of a block, or of a span that is one."""
    operation_id = operation_in(block_here())
    if not span_parents:
        return operation_id
    return with_trace((None, operation_id, None, None))[1]


@contextmanager
def context(**fields: Any) -> Iterator[None]:
    """Fill in `fields` for every call within the block, in the coroutines and tasks it starts too.

    The name and the habit are structlog's (`bound_contextvars`). A value that a call passes itself wins.
    """
    block = new_block(fields)
    token = innermost.set(block)
    try:
        yield
    finally:
        leave(block, token)


def new_block(
    fields: Mapping[str, Any],
    operation_id: str | None = None,
    run: str | None = None,
    *,
    run_goes_on: bool = False,
) -> Block:
    """A block within the one that is entered now; what it does not have of its own it has from that one."""
    outer = not_left(innermost.get())
    scope = scope_here() if scopes and operation_id is not None else None
    if outer is None:
        return Block(fields, operation_id, run, None, scope=scope, run_goes_on=run_goes_on)
    return Block(
        {**outer.fields, **fields},
        operation_id or outer.operation_id,
        run or outer.run,
        outer,
        task_id=outer.task_id,
        scope=outer.scope if operation_id is None else scope,
        run_goes_on=run_goes_on if run else outer.run_goes_on,
    )


def leave(block: Block, token: Token[Block | None]) -> None:
    """Go back to the block around it. What was started within it, and goes on, keeps its fields."""
    if innermost.get() is block:
        with suppress(ValueError):
            innermost.reset(token)
            return
    # A generator that is closed somewhere else, or not in the order of their beginnings: the context that it
    # has entered cannot be reset from here.
    block.is_left = True


def with_exception(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same with the exception that `exc_info` names, as in the standard library."""
    rest, exc_info = dict(extra), extra["exc_info"]
    if type(exc_info) is tuple:
        exc_info = exc_info[1] if len(exc_info) > 1 else None
    if type(exc_info) is bool or type(exc_info) is int:
        exc_info = sys.exception() if exc_info else None
    if exc_info is not None and not issubclass(type(exc_info), BaseException):
        exc_info = sys.exception()
        if exc_info is None:
            return extra  # somebody else's word for something else
    del rest["exc_info"]
    return rest if exc_info is None else {**rest, "exception": exc_info}


def with_ids(tree: TreeIds, extra: Mapping[str, Any]) -> tuple[TreeIds, Mapping[str, Any]]:
    """The ids with those that `extra` names, and what is left of it: a text that is no UUID stays there."""
    named = {key: id_ for key in _NAMED if key in extra and (id_ := _uuid(extra[key])) is not None}
    if not named:
        return tree, extra
    operation_id, parent_id, trace_id, span_id = tree
    ids = (named.get("operation_id", operation_id), named.get("parent_id", parent_id), trace_id, span_id)
    return ids, {key: value for key, value in extra.items() if key not in named}


def _uuid(value: Any) -> str | None:
    if type(value) is not str and type(value) is not UUID:
        return None
    try:
        return str(UUID(str(value)))
    except ValueError:
        return None


def with_trace(tree: TreeIds) -> TreeIds:
    """The ids with those of the OpenTelemetry span that is active here, or of a framework's operation."""
    if scopes and tree[0] is None and (parent := operation_in(block_here())) != tree[1]:
        tree = None, parent, *tree[2:]
    operation_id, parent_id, trace_id, _ = tree
    if trace_id is not None:
        return tree  # it is of a span itself
    try:
        if not sys.modules[_TRACING_CONTEXT].get_current():
            return tree  # nothing is active: to ask for a span that does not exist costs three times as much
        span = sys.modules[TRACING].get_current_span().get_span_context()
        if not span.is_valid:
            return tree
        ids = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    except Exception:  # noqa: BLE001 - it is being imported, or its span is of somebody's own making
        return tree
    if operation_id is None:  # an operation has its parent already
        for inner in span_parents:
            parent_id = inner(span, parent_id)
    return operation_id, parent_id, *ids


def merged(details: Any, *others: Mapping[str, Any]) -> Any:
    """`details` and what else belongs there; a key of `details` wins over one that comes later."""
    rest = {key: value for other in reversed(others) for key, value in other.items()}
    if not rest:
        return details
    if details is None:
        return rest
    try:
        return {**rest, **as_dict(details)}
    except BaseException as error:  # whatever it is instead of a dict, it is recorded too
        if not is_hostile(error):
            raise
        return {**rest, "details": details}


def as_dict(details: Any) -> dict[Any, Any]:
    """A mapping as a dict; of one that may have no end, as many keys as any entry has room for.

    Raises whatever its methods raise.
    """
    if type(details) is dict:
        return details
    return {key: details[key] for key in islice(details.keys(), _MOST_KEYS)}
