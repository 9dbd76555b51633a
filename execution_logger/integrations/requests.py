"""What the ways in from web frameworks have in common: the context of one request."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from uuid import uuid4

from execution_logger.api.context import context
from execution_logger.api.logger import ExecutionLogger
from execution_logger.api.operations import TimedOperation
from execution_logger.entry.entry import LogCategory

_REQUEST_ID = "X-Request-ID"
_MAX_ID_CHARS = 128

_RequestT = TypeVar("_RequestT")

TaskId = str | Callable[[_RequestT], str | None] | None
"""Tells the run of a request: the name of a header, or a function of the framework's request."""

Header = Callable[[str], str | None]


@contextmanager
def request_context(
    logger: ExecutionLogger,
    request: _RequestT,
    header: Header,
    *,
    method: str,
    path: str,
    operation: bool,
    task_id: TaskId[_RequestT],
) -> Iterator[TimedOperation | None]:
    """Fill in `method`, `path`, `request_id` and the run within the block, which is an operation on demand.

    The id is that of the header `X-Request-ID`, or a new one. Where nobody names a run, the request is one.

    Args:
        logger: records the operation.
        request: handed over to `task_id`.
        header: finds a header's value by its name.
        method: as `GET`.
        path: without the query, which may hold secrets.
        operation: whether the block is one.
        task_id: tells the run.
    """
    request_id = _passed(header(_REQUEST_ID)) or uuid4().hex
    run = _passed(header(task_id)) if isinstance(task_id, str) else task_id(request) if task_id else None
    with context(task_id=run or request_id, method=method, path=path, request_id=request_id):
        if not operation:
            yield None
            return
        with logger.timed_operation(None, LogCategory.API, f"{method} {path}") as timer:
            yield timer


def _passed(value: str | None) -> str | None:
    """An id that the client has sent, if it looks like one."""
    return value if value and len(value) <= _MAX_ID_CHARS and value.isprintable() else None
