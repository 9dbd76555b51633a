"""Operations: blocks of code, and whole runs, with an entry at their beginning and one at their end.

Both entries of an operation have one `operation_id`, and what is recorded within it has that as its
`parent_id`: the operations of a run are a tree, and its other entries are the leaves.
"""

import asyncio
import concurrent.futures
import functools
import inspect
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Token
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from uuid import UUID, uuid5

from uuid_utils import uuid7

from execution_logger.api.context import (
    Block,
    as_dict,
    block_here,
    innermost,
    leave,
    merged,
    new_block,
    operation_here,
)
from execution_logger.entry.entry import OPERATION_TEXTS, RUN_STATE, LogEntry, LogLevel, RunState, TreeIds
from execution_logger.text import is_hostile, text_of

ERROR_CHARS = 100
"""Of an error, in a message; the details have all of it."""

_STATES: Mapping[str, RunState] = {
    "started": RunState.RUNNING,
    "completed": RunState.DONE,
    "cancelled": RunState.CANCELLED,
    "failed": RunState.FAILED,
}

_GOES_ON: Mapping[str, str] = {"zh": "{} 继续", "en": "{} goes on"}

_RUNS = UUID("0199f4c2-6a0e-7d11-9c53-3f1c7a6be2d4")
"""The name space of the ids of runs that end in another process: both know the run's `task_id` alone."""

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])


Record = Callable[[LogLevel, str, int | None, Any, TreeIds, bool], LogEntry]
"""Records an entry of the operation: at a level, with a message, a duration, details and its ids.

The last one: however many entries the run has.
"""


class TimedOperation:
    """The timer of one block: a context manager, with or without `async`.

    Records an info entry at the start, and at the end an info entry with the duration and the
    timer's details. If the body raised, that is an error entry; if it was cancelled, a warning.
    What was raised goes on.
    """

    operation_id: str
    """A UUID, from its beginning on."""

    goes_on = False
    """Its end comes later than that of the block, unless that raises."""
    _is_recorded = False
    """An operation whose beginning is recorded gets an end, however many entries its run has by then."""
    _parent_id: str | None
    _block: Block
    _token: Token[Block | None]

    def __init__(self, record: Record, name: str, language: str) -> None:
        self._record = record
        self._name = text_of(name)
        self._texts = OPERATION_TEXTS[language]
        self._details: dict[str, Any] = {}
        self._began_at: float | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # in users' data, as its logger is: there is one block, which ends once

    @property
    def details(self) -> dict[str, Any]:
        """What `set_details` has gathered for the entry at the end."""
        return self._details

    def set_details(self, details: Mapping[str, Any]) -> None:
        """Add to the details of the entry at the end."""
        try:
            self._details.update(as_dict(details or {}))
        except BaseException as error:  # whatever it is instead of a dict, it is recorded too
            if not is_hostile(error):
                raise
            self._details["details"] = details

    def __enter__(self) -> Self:
        self._begin()
        self._token = innermost.set(self._block)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave(self._block, self._token)
        if self.goes_on and not _is_end(error):
            self._go_on()
        else:
            self._end(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    @contextmanager
    def around(self) -> Iterator[None]:
        """Begin and end with the block, whose code is within the operation only in `inside`."""
        self._begin()
        with self.ending():
            yield

    @contextmanager
    def ending(self) -> Iterator[None]:
        """End with the block."""
        try:
            yield
        except BaseException as error:
            self._end(error)
            raise
        self._end(None)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """One step of the operation's code; a block that it has entered goes on in the next one."""
        token = innermost.set(self._block)
        try:
            yield
        finally:
            last = innermost.get()
            try:
                innermost.reset(token)
            except ValueError:  # it is closed somewhere else, as by the garbage collector: see `leave`
                self._block.is_left = True
            else:
                self._block = last or self._block

    def _begin(self) -> None:
        self.operation_id = self._new_id()
        self._parent_id = operation_here()
        begun = self._write(LogLevel.INFO, "started", None, None)
        self._is_recorded = bool(begun.id)
        self._block = self._new_block()
        self._block.task_id = begun.task_id or self._block.task_id
        self._began_at = time.perf_counter()

    def _go_on(self) -> None:
        """Leave a block that does not end it."""

    def _end(self, error: BaseException | str | None) -> LogEntry:
        duration_ms, details = self._duration_ms(), self._details or None
        if error is None:
            return self._write(LogLevel.INFO, "completed", duration_ms, details)
        if _is_cancelled(error):
            return self._write(LogLevel.WARNING, "cancelled", duration_ms, details)
        text = text_of(error)
        details = merged(details, {"error": text})
        return self._write(LogLevel.ERROR, "failed", duration_ms, details, text[:ERROR_CHARS])

    def _duration_ms(self) -> int | None:
        """Of what has begun here."""
        return None if self._began_at is None else round((time.perf_counter() - self._began_at) * 1000)

    def _new_id(self) -> str:
        return str(uuid7())

    def _new_block(self) -> Block:
        return new_block({}, self.operation_id)

    def _write(
        self, level: LogLevel, event: str, duration_ms: int | None, details: Any, *more: str
    ) -> LogEntry:
        message = self._texts[event].format(self._name, *more)
        tree = (self.operation_id, self._parent_id, None, None)
        return self._record(level, message, duration_ms, details, tree, self._is_recorded)


class RunOperation(TimedOperation):
    """A whole run: what is recorded within it has its `task_id`, and its own entries tell its state.

    Within the same run it is an operation like any other: the outer one tells how the run goes.

    Args:
        record: records an entry of it.
        name: stands in its messages.
        language: of its messages.
        task_id: the run's name.
        end_run: see `LoggingCalls`.
        ends: whether the run ends with the block. Otherwise it ends in whatever process calls `end_run`, or
            with a block that raises: whoever was to end it may know nothing of it yet.
    """

    _is_within = False

    def __init__(
        self,
        record: Record,
        name: str,
        language: str,
        task_id: Any,
        end_run: Callable[[Any], int],
        *,
        ends: bool = True,
    ) -> None:
        super().__init__(record, name, language)
        self._task_id = task_id
        self._run = None if task_id is None else text_of(task_id)
        self._end_run = end_run
        self.goes_on = not ends
        self._text_between = _GOES_ON[language]

    def end(self, error: BaseException | str | None) -> LogEntry:
        """Record the end of a run that has begun in a block which did not end it."""
        self.operation_id = self._new_id()
        # The code that ends it may be within it, and it is not within itself.
        self._parent_id = None
        self._is_recorded = True
        return self._end(error)

    def _begin(self) -> None:
        self._is_within = self._run is not None and block_here().run == self._run
        self._is_recorded = not self._is_within
        self.goes_on = self.goes_on and not self._is_within
        super()._begin()

    def _go_on(self) -> None:
        """Record what the block has gathered for its end, which comes from somebody who does not know it."""
        self._count_left_out()
        if self._details:
            message = self._text_between.format(self._name)
            within = (None, self.operation_id, None, None)
            self._record(LogLevel.INFO, message, None, self._details, within, self._is_recorded)

    def _end(self, error: BaseException | str | None) -> LogEntry:
        if not self._is_within:
            self._count_left_out()
        return super()._end(error)

    def _count_left_out(self) -> None:
        if left_out := self._end_run(self._task_id):
            self.set_details({"left_out": left_out})

    def _new_id(self) -> str:
        if self._run is None or not self.goes_on:
            return super()._new_id()
        name = self._run.encode(errors="replace")  # there may be halves of characters in it
        return str(uuid5(_RUNS, name.decode()))

    def _new_block(self) -> Block:
        if self._run is None:
            return new_block({}, self.operation_id)
        return new_block({"task_id": self._task_id}, self.operation_id, self._run, run_goes_on=self.goes_on)

    def _write(
        self, level: LogLevel, event: str, duration_ms: int | None, details: Any, *more: str
    ) -> LogEntry:
        if not self._is_within:
            details = merged(details, {RUN_STATE: _STATES[event].value})
        return super()._write(level, event, duration_ms, details, *more)


def decorated(function: _F, begin: Callable[[], TimedOperation]) -> _F:
    """The function, each call of which is an operation; of a generator, from its first step to its end."""
    if inspect.isasyncgenfunction(function):
        wrapper: Callable[..., Any] = _async_generator(function, begin)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, begin)
    elif inspect.iscoroutinefunction(function):
        wrapper = _coroutine(function, begin)
    else:
        wrapper = _plain(function, begin)
    return cast("_F", functools.wraps(function)(wrapper))


def _plain(function: Callable[..., Any], begin: Callable[[], TimedOperation]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with begin() as operation:
            result = function(*args, **kwargs)
            if not inspect.iscoroutine(result):
                return result
            # Of an object with an async `__call__`, or a wrapper around a coroutine function.
            operation.goes_on = True
        return _awaited(operation, result)

    return call


async def _awaited(operation: TimedOperation, result: Awaitable[_T]) -> _T:
    with operation.ending(), operation.inside():
        return await result


def _coroutine(function: Callable[..., Any], begin: Callable[[], TimedOperation]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with begin():
            return await function(*args, **kwargs)

    return call


# A generator's code runs in the context of whoever asks for its next value: that is within the operation only
# while a step lasts.


def _generator(function: Callable[..., Any], begin: Callable[[], TimedOperation]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        operation = begin()
        with operation.around():
            return (yield from _Steps(operation, function(*args, **kwargs)))

    return call


class _Steps(Generator[Any, Any, Any]):
    def __init__(self, operation: TimedOperation, generator: Generator[Any, Any, Any]) -> None:
        self._operation = operation
        self._generator = generator

    def send(self, value: Any) -> Any:
        with self._operation.inside():
            return self._generator.send(value)

    def throw(self, *error: Any) -> Any:
        with self._operation.inside():
            return self._generator.throw(*error)


def _async_generator(function: Callable[..., Any], begin: Callable[[], TimedOperation]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        operation = begin()
        with operation.around():
            generator = function(*args, **kwargs)
            step = generator.asend(None)
            while True:
                try:
                    value = await _inside(operation, step)
                except StopAsyncIteration:
                    return
                try:
                    step = generator.asend((yield value))
                except GeneratorExit:
                    await _inside(operation, generator.aclose())
                    raise
                except BaseException as error:  # noqa: BLE001 - it is the generator's to handle
                    step = generator.athrow(error)

    return call


async def _inside(operation: TimedOperation, step: Awaitable[_T]) -> _T:
    with operation.inside():
        return await step


def _is_end(error: BaseException | None) -> bool:
    """Whether a block ends what would go on after it: Celery's tasks hand it over by exceptions, too."""
    celery = sys.modules.get("celery.exceptions")
    handing_over = () if celery is None else (celery.Ignore, celery.Retry)
    return error is not None and not isinstance(error, handing_over)


def _is_cancelled(error: BaseException | str) -> bool:
    """Whether nothing else has happened, in any of several tasks either."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_cancelled, error.exceptions))
    return isinstance(error, cancellations())


def cancellations() -> tuple[type[BaseException], ...]:
    """What is raised in a body that is cancelled, or an iterator that is broken off.

    Code without an event loop, too, says by an exception of `concurrent.futures` that it was cancelled.
    """
    trio = sys.modules.get("trio")
    of_trio = () if trio is None else (trio.Cancelled,)
    return asyncio.CancelledError, concurrent.futures.CancelledError, GeneratorExit, *of_trio
