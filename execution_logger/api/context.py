"""Fields that are filled in: by bind() for one logger, by context() for a block of code."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass
from itertools import islice
from typing import Any

from execution_logger.text import is_hostile

FILLED = ("task_id", "step", "agent_name", "roadmap_id", "concept_id")
"""Columns that bound fields fill in; every other bound field goes into `details`."""

_MOST_KEYS = 65_536
"""Of the shortest keys, some 262,144 bytes: the size of an entry unless a setting allows for more."""

_NOTHING: Mapping[str, Any] = {}


@dataclass(slots=True, eq=False)
class Block:
    """A `with context(...)` that has been entered: what it fills in, and the block around it."""

    fields: Mapping[str, Any]
    outer: "Block | None"
    is_left: bool = False


innermost: ContextVar[Block | None] = ContextVar("execution_logger_fields", default=None)


def not_left(block: Block | None) -> Block | None:
    """This block, or the next one around it that has not been left."""
    while block is not None and block.is_left:
        block = block.outer
    return block


def context_fields() -> Mapping[str, Any]:
    """What is filled in here."""
    block = not_left(innermost.get())
    return _NOTHING if block is None else block.fields


@contextmanager
def context(**fields: Any) -> Iterator[None]:
    """Fill in `fields` for every call within the block, in the coroutines and tasks it starts too.

    The name and the habit are structlog's (`bound_contextvars`). A value that a call passes itself wins.
    """
    block = Block({**context_fields(), **fields}, not_left(innermost.get()))
    token = innermost.set(block)
    try:
        yield
    finally:
        _leave(block, token)


def _leave(block: Block, token: Token[Block | None]) -> None:
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
    if type(exc_info) is bool:
        exc_info = sys.exception() if exc_info else None
    if exc_info is not None and not issubclass(type(exc_info), BaseException):
        return extra  # somebody else's word for something else
    del rest["exc_info"]
    return rest if exc_info is None else {**rest, "exception": exc_info}


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
