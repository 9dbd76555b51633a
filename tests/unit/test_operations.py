"""Operations: where entries stand in the tree of their run."""

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any
from uuid import UUID

import pytest
from celery.exceptions import Ignore, Retry
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id

from execution_logger import ExecutionLogger, LogEntry, Settings
from execution_logger.api import context as context_module
from execution_logger.api import logger as logger_module
from execution_logger.testing import capture_entries

logger = ExecutionLogger(Settings(language="en"))


@pytest.fixture
def entries() -> Iterator[list[LogEntry]]:
    """What is recorded in the test."""
    with capture_entries(logger) as captured:
        yield captured


class Hostile(trace.NonRecordingSpan):
    """A span whose context is broken."""

    def __init__(self) -> None:
        super().__init__(trace.INVALID_SPAN_CONTEXT)

    def get_span_context(self) -> trace.SpanContext:
        """Fails."""
        raise RuntimeError("no context")


def tree_of(entries: list[LogEntry]) -> list[tuple[str, str | None]]:
    """Each entry's message, and the name of the operation within which it was recorded."""
    names: dict[str | None, str] = {}
    for entry in entries:
        if entry.operation_id is not None:
            names.setdefault(entry.operation_id, entry.message.split()[0])
    return [(entry.message, names.get(entry.parent_id)) for entry in entries]


def note(message: str) -> LogEntry:
    """An entry that is no operation."""
    return logger.sync.info(None, "agent", message)


def test_operations_that_a_framework_tells_of_elsewhere(
    entries: list[LogEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says is under way here is around what has begun in it, and within what it has begun in."""
    under_way: list[str] = []
    monkeypatch.setattr(context_module, "scopes", [lambda: under_way[-1] if under_way else None])
    monkeypatch.setattr(logger_module, "scopes", context_module.scopes)
    task, tool = str(UUID(int=1)), str(UUID(int=2))
    with logger.sync.timed_operation("r", "agent", "outer") as outer:
        note("before")
        under_way.append(task)
        note("in the task")
        with logger.sync.timed_operation("r", "agent", "inner") as inner, logger.context(step="plan"):
            note("in the inner one")
            under_way.append(tool)
            note("in the tool")
            under_way.pop()
            note("again in the inner one")
        under_way.pop()
        note("after")
    parents = {entry.message: entry.parent_id for entry in entries}
    assert parents == {
        "outer started": None,
        "before": outer.operation_id,
        "in the task": task,
        "inner started": task,
        "in the inner one": inner.operation_id,
        "in the tool": tool,
        "again in the inner one": inner.operation_id,
        "inner completed": task,
        "after": outer.operation_id,
        "outer completed": None,
    }


def test_outside_of_any_operation_an_entry_stands_alone(entries: list[LogEntry]) -> None:
    """It has no ids."""
    note("alone")
    assert (entries[0].operation_id, entries[0].parent_id) == (None, None)


def test_both_entries_of_an_operation_have_its_id(entries: list[LogEntry]) -> None:
    """It is known while the block runs, too."""
    with logger.timed_operation("r", "agent", "search") as timer:
        pass
    assert [entry.operation_id for entry in entries] == [timer.operation_id] * 2
    assert [entry.parent_id for entry in entries] == [None, None]


def test_nested_operations_are_a_tree(entries: list[LogEntry]) -> None:
    """Each entry is a child of the innermost operation."""
    with logger.timed_operation("r", "workflow", "outer"):
        note("one")
        with logger.timed_operation("r", "agent", "inner"):
            note("two")
        note("three")
    note("four")
    assert tree_of(entries) == [
        ("outer started", None),
        ("one", "outer"),
        ("inner started", "outer"),
        ("two", "inner"),
        ("inner completed", "outer"),
        ("three", "outer"),
        ("outer completed", None),
        ("four", None),
    ]


def test_a_failed_and_a_cancelled_operation_end_in_their_places(entries: list[LogEntry]) -> None:
    """As those that end well."""

    async def body() -> None:
        async with logger.timed_operation("r", "workflow", "outer"):
            with pytest.raises(ValueError, match="no"):
                async with logger.timed_operation("r", "agent", "bad"):
                    raise ValueError("no")
            with pytest.raises(asyncio.CancelledError):
                async with logger.timed_operation("r", "agent", "late"):
                    raise asyncio.CancelledError

    asyncio.run(body())
    assert tree_of(entries)[2::2] == [("bad failed: no", "outer"), ("late cancelled", "outer")]


def test_what_an_operation_starts_has_it_as_parent(entries: list[LogEntry]) -> None:
    """Coroutines, groups of tasks, and threads that were given the context."""

    async def child(name: str) -> None:
        await asyncio.sleep(0)
        note(name)

    async def body() -> None:
        async with logger.timed_operation("r", "workflow", "outer"):
            await asyncio.gather(child("gathered"), child("gathered"))
            async with asyncio.TaskGroup() as group:
                group.create_task(child("in a group"))
            await asyncio.to_thread(note, "in a thread")
            given = contextvars.copy_context()
            thread = threading.Thread(target=given.run, args=(note, "in a thread with the context"))
            thread.start()
            thread.join()

    asyncio.run(body())
    inner = tree_of(entries)[1:-1]
    assert len(inner) == 5
    assert {parent for _, parent in inner} == {"outer"}


def test_a_task_that_goes_on_after_the_operation_keeps_its_parent(entries: list[LogEntry]) -> None:
    """That is where it comes from."""

    async def body() -> None:
        may_log = asyncio.Event()

        async def late() -> None:
            await may_log.wait()
            note("late")

        async with logger.timed_operation("r", "workflow", "outer"):
            task = asyncio.create_task(late())
            await asyncio.sleep(0)
        may_log.set()
        await task

    asyncio.run(body())
    assert tree_of(entries)[-1] == ("late", "outer")


def test_tasks_beside_each_other_share_no_operation(entries: list[LogEntry]) -> None:
    """Each has its own."""

    async def work(name: str, barrier: asyncio.Barrier) -> None:
        async with logger.timed_operation(name, "agent", name):
            await barrier.wait()
            note(f"of {name}")
            await barrier.wait()

    async def body() -> None:
        barrier = asyncio.Barrier(2)
        await asyncio.gather(work("a", barrier), work("b", barrier))

    asyncio.run(body())
    assert {pair for pair in tree_of(entries) if pair[0].startswith("of")} == {("of a", "a"), ("of b", "b")}


# Context that is filled in ---------------------------------------------------------------------


def test_context_and_operations_go_together(entries: list[LogEntry]) -> None:
    """In any order."""
    around = logger.context(task_id="r", customer=7)
    with around, logger.timed_operation(None, "agent", "outer"), logger.context(step="s"):
        note("here")
    here = entries[1]
    assert (here.task_id, here.step, here.details) == ("r", "s", {"customer": 7})
    assert here.parent_id == entries[0].operation_id


def test_a_bound_logger_is_within_the_operation(entries: list[LogEntry]) -> None:
    """Operations belong to the code, not to a logger."""
    with logger.timed_operation("r", "agent", "outer"):
        logger.bind(task_id="r").sync.info(None, "agent", "bound")
    assert entries[1].parent_id == entries[0].operation_id


# Ids that callers pass --------------------------------------------------------------------------

PASSED = "0192d5a0-0000-7000-8000-000000000001"


def test_ids_that_are_passed_win(entries: list[LogEntry]) -> None:
    """Frameworks know the parents of what they report."""
    with logger.timed_operation("r", "agent", "outer"):
        logger.sync.info("r", "agent", "x", operation_id=PASSED, parent_id=PASSED.upper(), more=1)
    assert (entries[1].operation_id, entries[1].parent_id, entries[1].details) == (
        PASSED,
        PASSED,
        {"more": 1},
    )


@pytest.mark.parametrize("value", ["12", 12, None, "x" * 36, object(), ["a"]])
def test_what_is_no_uuid_stays_in_the_details(entries: list[LogEntry], value: Any) -> None:
    """A host may mean something else by the word."""
    logger.sync.info("r", "agent", "x", parent_id=value)
    assert entries[0].parent_id is None
    assert "parent_id" in (entries[0].details or {})


# OpenTelemetry ----------------------------------------------------------------------------------


def test_an_active_span_is_named(entries: list[LogEntry]) -> None:
    """Whatever the code that began it; without one there is nothing to name."""
    tracer = TracerProvider().get_tracer("host")
    note("before")
    with tracer.start_as_current_span("request") as span, logger.timed_operation("r", "agent", "search"):
        note("within")
    note("after")
    expected = span.get_span_context()
    named = (format_trace_id(expected.trace_id), format_span_id(expected.span_id))
    assert [(entry.trace_id, entry.span_id) for entry in entries] == [
        (None, None),
        *[named] * 3,
        (None, None),
    ]
    assert entries[2].parent_id == entries[1].operation_id


@pytest.mark.parametrize("span", [None, object(), trace.INVALID_SPAN, Hostile()])
def test_a_span_of_any_kind_hurts_no_call(entries: list[LogEntry], span: Any) -> None:
    """Others set them, too."""
    token = otel_context.attach(trace.set_span_in_context(span))
    try:
        note("within")
    finally:
        otel_context.detach(token)
    assert entries[0].trace_id is None


# Runs -------------------------------------------------------------------------------------------


def states(entries: list[LogEntry]) -> list[Any]:
    """What each entry says of the state of its run."""
    return [(entry.details or {}).get("run_state") for entry in entries]


def test_a_run_tells_its_beginning_and_its_end(entries: list[LogEntry]) -> None:
    """And fills in its name."""
    with logger.sync.run("r-1") as run:
        note("in it")
    assert states(entries) == ["running", None, "done"]
    assert {entry.task_id for entry in entries} == {"r-1"}
    assert entries[1].parent_id == run.operation_id
    assert entries[2].duration_ms is not None


def test_a_run_that_fails_and_one_that_is_cancelled(entries: list[LogEntry]) -> None:
    """The last entry says so."""

    def nightly() -> None:
        with logger.run("r-1", "nightly") as run:
            run.set_details({"customers": 3})
            raise ArithmeticError("nothing to divide by")

    with pytest.raises(ArithmeticError):
        nightly()
    # The second one is for code without an event loop.
    for kind in (asyncio.CancelledError, concurrent.futures.CancelledError):
        with pytest.raises(kind), logger.run("r-2"):
            raise kind
    assert states(entries) == ["running", "failed", *["running", "cancelled"] * 2]
    assert entries[1].details == {"error": "nothing to divide by", "customers": 3, "run_state": "failed"}
    assert entries[1].message == "nightly failed: nothing to divide by"


def test_a_run_within_itself_is_an_operation_of_it(entries: list[LogEntry]) -> None:
    """Else its end would be taken for that of the whole."""
    with logger.run("r-1", "outer"), logger.timed_operation(None, "agent", "step"):
        with logger.run("r-1", "again"):
            note("deep")
        with logger.run("r-2", "other"):
            note("of another run")
    marks = [(entry.task_id, state) for entry, state in zip(entries, states(entries), strict=True) if state]
    assert marks == [("r-1", "running"), ("r-2", "running"), ("r-2", "done"), ("r-1", "done")]
    assert ("deep", "again") in tree_of(entries)


def test_a_run_ends_in_another_block(entries: list[LogEntry]) -> None:
    """Which knows nothing but its name; it is one operation, and what has begun within it is there."""
    with logger.run("r-1", "report", ends=False, customers=3):
        note("sent")
    assert states(entries) == ["running", None]
    with logger.timed_operation("r-1", "agent", "write"):
        logger.sync.end_run("r-1", "report", details={"pages": 12})
    begin, sent, _, end, _ = entries
    assert sent.parent_id == begin.operation_id == end.operation_id
    assert (end.task_id, end.parent_id, end.duration_ms, end.message) == (
        "r-1",
        None,
        None,
        "report completed",
    )
    assert (begin.details, end.details) == (
        {"customers": 3, "run_state": "running"},
        {"pages": 12, "run_state": "done"},
    )


async def test_how_a_run_ends_elsewhere(entries: list[LogEntry]) -> None:
    """By an exception, or by a text; an exception in the block that begins it is an end already."""
    ends: list[tuple[Any, str, str, Any]] = [
        (None, "done", "info", None),
        (ArithmeticError("nothing to divide by"), "failed", "error", "nothing to divide by"),
        ("no answer", "failed", "error", "no answer"),
        ("", "failed", "error", ""),
        (asyncio.CancelledError(), "cancelled", "warning", None),
    ]
    for error, state, level, text in ends:
        end = await logger.end_run("r-1", "nightly", error=error, roadmap_id="m", attempt=2)
        assert (end.details or {}).get("run_state") == state
        assert (end.level, (end.details or {}).get("error")) == (level, text)
        assert (end.roadmap_id, (end.details or {})["attempt"]) == ("m", 2)
    entries.clear()
    with pytest.raises(ArithmeticError), logger.run("r-1", "nightly", ends=False):
        raise ArithmeticError
    assert states(entries) == ["running", "failed"]
    assert entries[1].duration_ms is not None


def test_runs_that_end_elsewhere_are_told_apart_by_their_names(entries: list[LogEntry]) -> None:
    """In any process, of whatever type the name is; one without a name is an operation of its own."""
    names: list[Any] = ["r-1", "r-2", "half \ud800", 7, Strange(), None]
    for name in names:
        with logger.run(name, ends=False):
            pass
        logger.sync.end_run(name)
    begun, ended = entries[::2], entries[1::2]
    for one, other in list(zip(begun, ended, strict=True))[:4]:
        assert one.operation_id == other.operation_id
    assert len({one.operation_id for one in begun}) == len(names)
    assert begun[0].operation_id == "082b878a-f0a9-5827-961d-0c0f4703c6ab"  # as every other version has it


def test_a_run_that_is_filled_in_ends_elsewhere(entries: list[LogEntry]) -> None:
    """By the context or by a bound logger, at either end."""
    bound = logger.bind(task_id="r-1")
    with logger.context(task_id="r-1"), logger.run(None, ends=False):
        bound.sync.end_run(None)
    with bound.run(None, ends=False):
        logger.sync.end_run("r-1")
    assert len({entry.operation_id for entry in entries}) == 1
    assert states(entries) == ["running", "done"] * 2


def test_what_a_block_has_gathered_that_does_not_end_its_run(entries: list[LogEntry]) -> None:
    """Nobody who ends it knows of that: it is recorded within the run, and only if there is something."""
    with logger.run("r-1", "report", ends=False) as run:
        run.set_details({"tasks": 3})
    begin, gathered = entries
    assert (gathered.message, gathered.details) == ("report goes on", {"tasks": 3})
    assert (gathered.task_id, gathered.parent_id, gathered.operation_id) == ("r-1", begin.operation_id, None)
    failing = logger.run("r-2", ends=False)
    failing.set_details({"tasks": 3})
    with pytest.raises(ArithmeticError), failing:
        raise ArithmeticError("no")
    assert entries[-1].details == {"tasks": 3, "error": "no", "run_state": "failed"}


@pytest.mark.parametrize("kind", [Ignore, Retry])
def test_a_task_of_celerys_that_goes_on_in_another_one_ends_no_run(
    entries: list[LogEntry], kind: type[Exception]
) -> None:
    """It says so by an exception."""
    with pytest.raises(kind), logger.run("r-1", ends=False):
        raise kind
    assert states(entries) == ["running"]


def test_the_state_of_a_run_is_kept_however_much_is_said_besides(entries: list[LogEntry]) -> None:
    """Where there is no room for all details, it is not the state that is cut off."""
    with logger.run("r-1") as run:
        run.set_details({"one": "x" * 400_000, "other": "y" * 400_000})
    logger.sync.end_run("r-1", error="no", details={"one": "x" * 400_000, "other": "y" * 400_000})
    assert states(entries) == ["running", "done", "failed"]
    assert (entries[-1].details or {})["error"] == "no"


def test_within_a_run_that_ends_elsewhere(entries: list[LogEntry]) -> None:
    """A block of the same name is an operation of it, whether it would end the run or not."""
    with logger.run("r-1", "outer", ends=False), logger.run("r-1", "inner", ends=False):
        note("deep")
    with logger.run("r-1", "outer"), logger.run("r-1", "inner", ends=False):
        pass
    assert [entry.message for entry in entries] == [
        *("outer started", "inner started", "deep", "inner completed"),
        *("outer started", "inner started", "inner completed", "outer completed"),
    ]
    assert states(entries) == ["running", None, None, None, "running", None, None, "done"]


# Functions --------------------------------------------------------------------------------------


@logger.operation
def plain(value: int) -> int:
    """A function of a host."""
    note("in plain")
    return value + 1


@logger.operation("named", category="tool", agent_name="researcher", attempt=2)
async def coroutine(value: int) -> int:
    """Another one."""
    await asyncio.sleep(0)
    note("in coroutine")
    return value + 1


def test_a_function_is_an_operation(entries: list[LogEntry]) -> None:
    """Named after it."""
    with logger.run("r-1"):
        assert plain(1) == 2
    assert tree_of(entries)[1:-1] == [
        ("plain started", "run"),
        ("in plain", "plain"),
        ("plain completed", "run"),
    ]
    assert {entry.task_id for entry in entries} == {"r-1"}
    assert (entries[1].category, entries[1].step) == ("workflow", "plain")


def test_a_coroutine_is_an_operation(entries: list[LogEntry]) -> None:
    """With the fields that the decorator was given."""
    with logger.context(task_id="r-1"):
        assert asyncio.run(coroutine(1)) == 2
    assert tree_of(entries) == [("named started", None), ("in coroutine", "named"), ("named completed", None)]
    started = entries[0]
    assert (started.category, started.agent_name, started.details) == ("tool", "researcher", {"attempt": 2})


def test_each_call_is_an_operation_of_its_own(entries: list[LogEntry]) -> None:
    """At the same time, too."""

    async def both() -> None:
        await asyncio.gather(coroutine(1), coroutine(2))

    asyncio.run(both())
    assert len({entry.operation_id for entry in entries} - {None}) == 2


def test_a_decorated_method_and_its_name(entries: list[LogEntry]) -> None:
    """It is still what it was."""

    class Agent:
        @logger.operation
        def act(self, goal: str) -> str:
            """Acts."""
            return goal

    assert Agent().act("x") == "x"
    assert (Agent.act.__name__, Agent.act.__doc__) == ("act", "Acts.")
    assert [entry.message for entry in entries] == ["act started", "act completed"]


@logger.operation
def numbers() -> Generator[Any, Any, str]:
    """A generator that is sent values and errors."""
    try:
        sent = yield 1
        note(f"sent {sent}")
        try:
            yield 2
        except KeyError:
            note("thrown")
            yield 3
        return "returned"
    finally:
        note("closing")


def test_a_generator_is_within_its_operation_only_while_it_runs(entries: list[LogEntry]) -> None:
    """What its consumer records meanwhile is not within it."""

    def consume() -> Generator[Any, Any, None]:
        result = yield from numbers()
        note(f"result {result}")

    generator = consume()
    assert next(generator) == 1
    note("consumer")
    assert generator.send("a") == 2
    assert generator.throw(KeyError("x")) == 3
    assert list(generator) == []
    assert tree_of(entries) == [
        ("numbers started", None),
        ("consumer", None),
        ("sent a", "numbers"),
        ("thrown", "numbers"),
        ("closing", "numbers"),
        ("numbers completed", None),
        ("result returned", None),
    ]


def test_a_generator_that_is_broken_off_is_cancelled(entries: list[LogEntry]) -> None:
    """When it is closed."""
    for _ in numbers():
        break
    gc.collect()
    assert tree_of(entries)[-2:] == [("closing", "numbers"), ("numbers cancelled", None)]


@logger.operation
async def pages() -> AsyncGenerator[Any]:
    """A stream."""
    try:
        note("page 1")
        yield 1
        await asyncio.sleep(0)
        try:
            yield 2
        except KeyError:
            note("thrown")
            yield 3
    finally:
        note("closing")


def test_an_async_generator_is_within_its_operation_only_while_it_runs(entries: list[LogEntry]) -> None:
    """As a plain generator."""

    async def body() -> None:
        iterator = pages()
        assert await anext(iterator) == 1
        note("consumer")
        assert await anext(iterator) == 2
        assert await iterator.athrow(KeyError("x")) == 3
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)

    asyncio.run(body())
    assert tree_of(entries) == [
        ("pages started", None),
        ("page 1", "pages"),
        ("consumer", None),
        ("thrown", "pages"),
        ("closing", "pages"),
        ("pages completed", None),
    ]


def test_an_async_generator_that_is_broken_off_is_cancelled(entries: list[LogEntry]) -> None:
    """The loop closes it."""

    async def body() -> None:
        async for _ in pages():
            break

    asyncio.run(body())
    assert tree_of(entries)[-2:] == [("closing", "pages"), ("pages cancelled", None)]


def test_an_error_in_a_generator_is_its_operations_error(entries: list[LogEntry]) -> None:
    """In both kinds."""

    @logger.operation
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("no")

    @logger.operation
    async def failing_too() -> AsyncIterator[int]:
        yield 1
        raise ValueError("no")

    async def body() -> None:
        async for _ in failing_too():
            pass

    with pytest.raises(ValueError, match="no"):
        list(failing())
    with pytest.raises(ValueError, match="no"):
        asyncio.run(body())
    assert [entry.message for entry in entries if entry.level == "error"] == [
        "failing failed: no",
        "failing_too failed: no",
    ]


@logger.operation
def stepping() -> Iterator[int]:
    """A generator with a block of its own around its steps."""
    with logger.timed_operation("r", "agent", "block"), logger.context(step="s"):
        note("one")
        yield 1
        note("two")
        yield 2
    note("after")


@logger.operation
async def stepping_too() -> AsyncIterator[int]:
    """The same, asynchronous."""
    async with logger.timed_operation("r", "agent", "block"):
        with logger.context(step="s"):
            note("one")
            yield 1
            note("two")
            yield 2
    note("after")


async def consumed(iterator: AsyncIterator[int]) -> None:
    """Read all of it, and record in between."""
    async for _ in iterator:
        note("consumer")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_block_that_a_generator_has_entered_lasts_from_step_to_step(
    entries: list[LogEntry], kind: str
) -> None:
    """And not in the code of who takes its values."""
    if kind == "sync":
        for _ in stepping():
            note("consumer")
    else:
        asyncio.run(consumed(stepping_too()))
    name = "stepping" if kind == "sync" else "stepping_too"
    assert tree_of(entries) == [
        (f"{name} started", None),
        ("block started", name),
        ("one", "block"),
        ("consumer", None),
        ("two", "block"),
        ("consumer", None),
        ("block completed", name),
        ("after", name),
        (f"{name} completed", None),
    ]
    assert {entry.message: entry.step for entry in entries}["two"] == "s"


def test_what_can_be_called_without_a_name_is_named_for_its_kind(entries: list[LogEntry]) -> None:
    """A partial, and an object with `__call__`."""

    class Tool:
        def __call__(self, value: int) -> int:
            return value

    assert logger.operation(functools.partial(int, base=2))("11") == 3
    assert logger.operation()(Tool())(4) == 4
    assert [entry.message for entry in entries] == [
        "partial started",
        "partial completed",
        "Tool started",
        "Tool completed",
    ]


class AsyncTool:
    """An object that is called like a coroutine function, and is none."""

    async def __call__(self, value: int) -> int:
        """Fail for 0."""
        await asyncio.sleep(0)
        note("in tool")
        return 12 // value


def retried(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator such as many have: a plain function that returns a coroutine."""

    def call(*args: Any) -> Any:
        return function(*args)

    return call


@pytest.mark.parametrize("make", [AsyncTool, lambda: retried(AsyncTool()), lambda: staticmethod(AsyncTool())])
def test_what_returns_a_coroutine_is_an_operation_until_that_ends(
    entries: list[LogEntry], make: Callable[[], Callable[..., Any]]
) -> None:
    """And within it, and it fails with it."""
    tool = logger.operation("tool")(make())

    async def body() -> None:
        assert await tool(3) == 4
        with pytest.raises(ZeroDivisionError):
            await tool(0)
        note("outside")

    asyncio.run(body())
    assert tree_of(entries)[:3] == [("tool started", None), ("in tool", "tool"), ("tool completed", None)]
    assert [(entry.message[:11], entry.level) for entry in entries[5:]] == [
        ("tool failed", "error"),
        ("outside", "info"),
    ]


def test_a_task_that_a_function_returns_is_that_task(entries: list[LogEntry]) -> None:
    """It is no coroutine that waits for whoever awaits it: the operation ends when the function does."""

    @logger.operation
    def start() -> "asyncio.Task[None]":
        return asyncio.create_task(asyncio.sleep(0))

    async def body() -> None:
        task = start()
        assert [entry.message for entry in entries] == ["start started", "start completed"]
        await task

    asyncio.run(body())


@logger.operation
async def waiting() -> AsyncIterator[int]:
    """A stream whose first value never comes."""
    with logger.context(step="s"):
        await asyncio.Event().wait()
        yield 1


@logger.operation("waiting")
def waiting_too() -> Awaitable[Any]:
    """A plain function that returns a coroutine, which never ends."""
    return asyncio.Event().wait()


@pytest.mark.parametrize("make", [waiting_too, lambda: anext(waiting())])
def test_an_operation_that_is_collected_with_its_loop_is_cancelled(
    entries: list[LogEntry], make: Callable[[], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever that happens: what goes on there stays in its own block, and nothing is raised."""
    raised: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", raised.append)

    def begin_and_forget() -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # the task is destroyed while it waits
        loop.create_task(awaited(make))  # noqa: RUF006 - it is to be collected
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()

    with logger.timed_operation("r", "agent", "elsewhere"):
        begin_and_forget()
        gc.collect()
        note("in elsewhere")
    assert raised == []
    assert tree_of(entries) == [
        ("elsewhere started", None),
        ("waiting started", "elsewhere"),
        ("waiting cancelled", "elsewhere"),
        ("in elsewhere", "elsewhere"),
        ("elsewhere completed", None),
    ]


async def awaited(make: Callable[[], Awaitable[Any]]) -> None:
    """Made in the loop."""
    await make()


class Strange:
    """No host's run is called like this."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("no")

    __hash__ = None  # type: ignore[assignment]


def test_a_run_of_any_name_raises_nothing(entries: list[LogEntry]) -> None:
    """One that is called by another type's value is the same run; one without a name is that around it."""
    run = UUID("01a22505-c189-7200-be65-eeb94327379a")
    with logger.run(run), logger.run(str(run), "again"):  # type: ignore[arg-type]
        pass
    assert [(entry.details or {}).get("run_state") for entry in entries] == ["running", None, None, "done"]
    entries.clear()
    with logger.run("r"), logger.run(Strange()):  # type: ignore[arg-type]
        pass
    states = [(entry.details or {}).get("run_state") for entry in entries]
    assert states == ["running", "running", "done", "done"]
    entries.clear()
    with logger.context(task_id="r"), logger.run(None):
        note("in it")
    assert {entry.task_id for entry in entries} == {"r"}
    assert (entries[0].details, entries[-1].details) == ({"run_state": "running"}, {"run_state": "done"})


def test_sync_has_operations_too(entries: list[LogEntry]) -> None:
    """With the same decorator."""

    @logger.sync.operation("add", category="tool")
    def add(value: int) -> int:
        return value + 1

    assert add(1) == 2
    assert [entry.message for entry in entries] == ["add started", "add completed"]
