"""From the calls that a framework reports to operations: what the ways in from agents have in common."""

import functools
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from contextvars import Token
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec

from uuid_utils import NAMESPACE_OID, UUID, uuid5

from execution_logger.api.context import Block, innermost, leave
from execution_logger.api.logger import ExecutionLogger, execution_logger
from execution_logger.api.operations import ERROR_CHARS, cancellations
from execution_logger.diagnostics import InternalErrors
from execution_logger.entry.entry import OPERATION_TEXTS, LogEntry, LogLevel
from execution_logger.text import text_of

MOST_OPEN = 10_000
"""Under way in a framework: one whose end never came is forgotten when so many newer ones have begun."""

_TEXTS: Mapping[str, Mapping[str, str]] = {
    "zh": {**OPERATION_TEXTS["zh"], "interrupted": "{} 已中断", "retried": "{} 将重试: {}"},
    "en": {**OPERATION_TEXTS["en"], "interrupted": "{} interrupted", "retried": "{} to be retried: {}"},
}

_LEVELS: Mapping[str, str] = {"failed": LogLevel.ERROR.value, "cancelled": LogLevel.WARNING.value}
_INFO = LogLevel.INFO.value  # a member of an enumeration is slower to encode
_NOTHING: Mapping[str, Any] = {}
_INPUT, _OUTPUT = ("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")

_errors = InternalErrors()
_P = ParamSpec("_P")


def never_raises(where: str) -> Callable[[Callable[_P, None]], Callable[_P, None]]:
    """Keep what goes wrong in a function of ours from the framework, and count it."""

    def decorate(function: Callable[_P, None]) -> Callable[_P, None]:
        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> None:
            try:
                function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - it is no mistake of the host's
                _errors.record(where, error)

        return call

    return decorate


@dataclass(slots=True, eq=False)
class FrameworkBlock(Block):
    """What the code of a framework's operation runs in, which tells it from a block of the host's."""


def block_in(outer: Block | None, operation_id: str, fields: Mapping[str, Any]) -> FrameworkBlock:
    """The block of an operation that begins in this one, or outside any."""
    if outer is None:
        return FrameworkBlock(fields, operation_id, None, None)
    return FrameworkBlock(
        {**outer.fields, **fields},
        operation_id,
        outer.run,
        outer,
        task_id=outer.task_id,
        run_goes_on=outer.run_goes_on,
    )


def within(block: Block | None) -> Block | None:
    """The innermost block that the host has entered in this one, and in no other operation's; or this one."""
    found, walked = None, innermost.get()
    while walked is not None and walked is not block:
        if type(walked) is FrameworkBlock:
            found = None
        elif found is None and not walked.is_left:
            found = walked
        walked = walked.outer
    return block if walked is not block or found is None else found


@dataclass(slots=True, eq=False)
class Operation:
    """An operation of a framework's that has begun.

    Attributes:
        kind: what the framework calls it.
        block: fills in the columns of its entries; None outside any.
        operation_id: its own; None if it is left out.
        parent_id: the operation that it is within.
        task_id: its run, where the block does not tell it.
        agent_name: the agent, where the block does not tell it.
        trace: ids of the trace and the span, of OpenTelemetry's.
        outer: what it is within, if that is the framework's as well.
        began_at: seconds, by `time.perf_counter`.
        token: leaves the block; None if it was not entered.
        is_recorded: the entry at its start is.
        raised: `id()` of what an operation within it has raised, whose traceback is there.
        key: what the framework knows it by.
        details: kept for the entry at its end.
    """

    kind: str
    name: str
    category: str
    block: Block | None
    operation_id: str | None
    parent_id: str | None
    task_id: Any = None
    agent_name: Any = None
    trace: tuple[str | None, str | None] = (None, None)
    outer: "Operation | None" = None
    began_at: float = field(default_factory=time.perf_counter)
    token: Token[Block | None] | None = None
    is_recorded: bool = False
    raised: int = 0
    key: Hashable = None
    details: dict[str, Any] = field(default_factory=dict)


class OperationRecorder:
    """Records the entries of operations.

    Args:
        logger: whose entries they are; the ready `execution_logger` by default.
    """

    def __init__(self, logger: ExecutionLogger | None = None) -> None:
        self.logger = logger or execution_logger

    def started(self, operation: Operation, details: dict[str, Any]) -> None:
        """Record the start."""
        operation.is_recorded = bool(self._write(operation, "started", None, details).id)

    def ended(
        self,
        operation: Operation,
        details: dict[str, Any],
        error: object = None,
        event: str = "",
        duration_ms: int | None = None,
    ) -> None:
        """Record the end.

        Args:
            operation: has begun.
            details: of the entry; what goes there besides is added.
            error: what was raised, or what is said about it; None if all went well.
            event: "interrupted", or whatever else the error does not tell.
            duration_ms: the time from the start by default.
        """
        more = tuple[str, ...]()
        event = event or _outcome(error)
        if event == "failed":
            details["error"] = text = text_of(error)
            more = (text[:ERROR_CHARS],)
            _add_traceback(operation, details, error)
        if duration_ms is None:
            duration_ms = round((time.perf_counter() - operation.began_at) * 1000)
        self._write(operation, event, duration_ms, details, *more)

    def note(
        self, operation: Operation | None, level: str, category: str, message: str, details: Any
    ) -> None:
        """Record an entry within an operation, or within what is here."""
        inner = innermost.get() if operation is None else within(operation.block)
        token = innermost.set(inner)
        try:
            self.logger.sync.log(None, level, category, message, details=details)
        finally:
            innermost.reset(token)

    def text(self, event: str, *values: str) -> str:
        """What a message says, in the language of the settings."""
        return _TEXTS[self.logger.settings.language][event].format(*values)

    def task_id_in(self, block: Block | None) -> Any:
        """The run that the logger is bound to, or that is filled in in the block; else None."""
        bound = self.logger._bound.get("task_id")  # noqa: SLF001 - it is one of us
        return bound if bound is not None or block is None else block.fields.get("task_id")

    def _write(
        self, operation: Operation, event: str, duration_ms: int | None, details: Any, *more: str
    ) -> LogEntry:
        # What is filled in at the end is what was at the start, in whatever context or thread that is.
        token = innermost.set(operation.block)
        try:
            return self.logger._record(  # noqa: SLF001 - it is one of us
                operation.task_id, _LEVELS.get(event, _INFO), operation.category,
                self.text(event, operation.name, *more),
                operation.name, operation.agent_name, None, None, details or None, duration_ms, _NOTHING,
                (operation.operation_id, operation.parent_id, *operation.trace),
                always=operation.is_recorded,
            )  # fmt: skip
        finally:
            innermost.reset(token)


class Operations(OperationRecorder):
    """The operations that are under way in a framework, by its own ids.

    No method takes a lock, which a fork may keep.
    """

    def __init__(self, logger: ExecutionLogger | None = None) -> None:
        super().__init__(logger)
        self._open: OrderedDict[Hashable, Operation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, key: Hashable) -> Operation | None:
        """The one that is known by this id; it is at work, and not forgotten soon."""
        operation = self._open.get(key)
        if operation is not None:
            self.keep(key, operation)
        return operation

    def keep(self, key: Hashable, operation: Operation) -> None:
        """Know it by this id from now on."""
        self._open[key] = operation
        self._open.move_to_end(key)
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)

    def begin(
        self, key: Hashable, operation: Operation, details: dict[str, Any], *, enters: bool = True
    ) -> None:
        """Record the start; what is recorded here from now on is within it if it `enters` its block."""
        self.keep(key, operation)
        self.started(operation, details)
        if enters:
            operation.token = innermost.set(operation.block)

    def leave(self, key: Hashable) -> Operation | None:
        """Leave its block, and know it no more."""
        operation = self._open.pop(key, None)
        if operation is not None and operation.block is not None and operation.token is not None:
            leave(operation.block, operation.token)
            # Its last entry is filled in as its first one was, left or not.
            operation.block = replace(operation.block, is_left=False)
        return operation


def operation_id_of(id_: str) -> str:
    """An id of a framework's, if it is a UUID; else one made of it, the same in every process."""
    try:
        return str(UUID(id_))
    except ValueError:
        return str(uuid5(NAMESPACE_OID, id_))


def token_counts(*told: Mapping[str, Any]) -> dict[str, Any]:
    """The sums of what calls of models have counted, in the words of any provider."""
    counts: dict[str, Any] = {}
    for title, keys in (("input_tokens", _INPUT), ("output_tokens", _OUTPUT)):
        found = [first for each in told if (first := first_of(keys, each)) is not None]
        if found:
            counts[title] = sum(found)
    return counts


def first_of(keys: tuple[str, ...], *places: Mapping[str, Any]) -> Any:
    """The first value that one of these keys has; None if there is none."""
    values = (place.get(key) for place in places for key in keys)
    return next((value for value in values if value is not None), None)


def _outcome(error: object) -> str:
    if error is None:
        return "completed"
    return "cancelled" if isinstance(error, cancellations()) else "failed"


def _add_traceback(operation: Operation, details: dict[str, Any], error: object) -> None:
    """Where it was raised first: what it goes through afterwards has it in its own."""
    if isinstance(error, BaseException):
        if operation.raised != id(error):
            details["exception"] = error
        if operation.outer is not None:
            operation.outer.raised = id(error)
