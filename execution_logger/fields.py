"""Fields that are filled in: by bind() for one logger, by context() for a block of code."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any

from execution_logger.text import HOSTILE

FILLED = ("task_id", "step", "agent_name", "roadmap_id", "concept_id")
"""Columns that bound fields fill in; every other bound field goes into `details`."""

_MOST_KEYS = 65_536
"""Of the shortest keys, some 262,144 bytes: the size of an entry unless a setting allows for more."""

_NOTHING: Mapping[str, Any] = {}

context_fields: ContextVar[Mapping[str, Any]] = ContextVar("execution_logger_fields", default=_NOTHING)


@contextmanager
def context(**fields: Any) -> Iterator[None]:
    """Fill in `fields` for every call within the block, in the coroutines and tasks it starts too.

    The name and the habit are structlog's (`bound_contextvars`). A value that a call passes itself wins.
    """
    token = context_fields.set({**context_fields.get(), **fields})
    try:
        yield
    finally:
        context_fields.reset(token)


def merged(details: Any, *others: Mapping[str, Any]) -> Any:
    """`details` and what else belongs there; a key of `details` wins over one that comes later."""
    rest = {key: value for other in reversed(others) for key, value in other.items()}
    if not rest:
        return details
    if details is None:
        return rest
    try:
        return {**rest, **as_dict(details)}
    except HOSTILE:  # whatever it is instead of a dict, it is recorded too
        return {**rest, "details": details}


def as_dict(details: Any) -> dict[Any, Any]:
    """A mapping as a dict; of one that may have no end, as many keys as any entry has room for.

    Raises whatever its methods raise.
    """
    if type(details) is dict:
        return details
    return {key: details[key] for key in islice(details.keys(), _MOST_KEYS)}
