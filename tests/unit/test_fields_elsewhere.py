"""Blocks that are left in another context than they were entered in, as generators are."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from contextvars import Context, copy_context
from typing import Any

import httpx
import pytest
import trio
from fastapi import Depends, FastAPI

from execution_logger import ExecutionLogger
from execution_logger.api.context import block_here, context, innermost
from execution_logger.testing import MemoryDelivery

MakeLogger = Callable[..., ExecutionLogger]
Stream = Callable[[], AsyncIterator[int]]


def context_fields() -> Mapping[str, Any]:
    """What is filled in here."""
    return block_here().fields


@pytest.fixture
def delivery() -> MemoryDelivery:
    """Where the entries of a test go."""
    return MemoryDelivery()


@pytest.fixture
def logger(make_logger: MakeLogger, delivery: MemoryDelivery) -> ExecutionLogger:
    """A logger that delivers there."""
    return make_logger(delivery, language="en")


@pytest.fixture
def stream(logger: ExecutionLogger) -> Stream:
    """A host's stream: it times its work, and fills in fields for it."""

    async def numbers() -> AsyncIterator[int]:
        async with logger.timed_operation("t", "agent", "stream"):
            with logger.context(step="outer"), logger.context(part="inner"):
                for number in range(3):
                    yield number

    return numbers


def told(logger: ExecutionLogger, delivery: MemoryDelivery) -> list[tuple[str, str]]:
    """Level and message of each entry."""
    logger.sync.flush()
    return [(entry["level"], entry["message"]) for entry in delivery.entries]


CANCELLED = [("info", "stream started"), ("warning", "stream cancelled")]


async def test_a_stream_that_is_broken_off(
    logger: ExecutionLogger, delivery: MemoryDelivery, stream: Stream
) -> None:
    """It is cancelled, nothing is raised, and who has read it logs without its fields."""
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    async for _ in stream():
        break
    gc.collect()
    await asyncio.sleep(0)  # the loop makes a task that closes it
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
    assert told(logger, delivery) == CANCELLED
    assert (context_fields(), problems) == ({}, [])


async def test_a_stream_that_another_task_closes(
    logger: ExecutionLogger, delivery: MemoryDelivery, stream: Stream
) -> None:
    """As a server does when its client has gone."""
    opened = stream()
    assert await anext(opened) == 0
    assert context_fields() == {"step": "outer", "part": "inner"}
    await asyncio.create_task(opened.aclose())  # type: ignore[attr-defined]
    assert context_fields() == {}
    assert told(logger, delivery) == CANCELLED


def test_a_stream_that_another_task_of_trios_closes(
    logger: ExecutionLogger, delivery: MemoryDelivery, stream: Stream
) -> None:
    """The same there."""

    async def read() -> dict[str, Any]:
        opened: Any = stream()
        async with aclosing(opened):
            await anext(opened)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(opened.aclose)
            return dict(context_fields())

    assert trio.run(read) == {}
    assert told(logger, delivery) == CANCELLED


async def test_streams_that_are_broken_off_leave_nothing_behind(stream: Stream) -> None:
    """A worker reads thousands of them in one task."""
    for _ in range(50):
        opened = stream()
        await anext(opened)
        await asyncio.create_task(opened.aclose())  # type: ignore[attr-defined]
        with context(step="mine"):
            assert context_fields() == {"step": "mine"}
            block = innermost.get()
            assert block is not None
            assert block.outer is None


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_dependency_of_fastapi(
    logger: ExecutionLogger,
    delivery: MemoryDelivery,
    is_async: bool,  # noqa: FBT001
) -> None:
    """A plain one is entered in one thread and left in another: all goes as if it were not."""

    def plain() -> Iterator[None]:
        with logger.timed_operation("t", "api", "request"), logger.context(step="request"):
            yield

    async def with_async() -> AsyncIterator[None]:
        async with logger.timed_operation("t", "api", "request"):
            with logger.context(step="request"):
                yield

    app = FastAPI()

    @app.get("/", dependencies=[Depends(with_async if is_async else plain)])
    async def answer() -> str:
        return "fine"

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        assert [(await client.get("/")).status_code for _ in range(2)] == [200, 200]
    assert told(logger, delivery) == [("info", "request started"), ("info", "request completed")] * 2


@contextmanager
def entered(within: Context, **fields: Any) -> Iterator[Callable[[], object]]:
    """Enter a block there; what it gives leaves it, in the context of the caller."""
    block = context(**fields)
    within.run(block.__enter__)
    yield lambda: block.__exit__(None, None, None)


def test_a_block_that_is_left_in_a_copy_of_its_context() -> None:
    """In both of them its fields are gone."""
    first = copy_context()
    with entered(first, step="a") as leave:
        second = first.run(copy_context)
        second.run(leave)
    assert [dict(each.run(context_fields)) for each in (first, second)] == [{}, {}]


def test_generators_that_take_turns_end_in_any_order() -> None:
    """The one that began first ends first, and its fields do not come back with the end of the other."""

    def steps(name: str) -> Iterator[None]:
        with context(**{name: 1}):
            yield

    with context(base=1):
        first, second = steps("a"), steps("b")
        next(first)
        next(second)
        first.close()  # type: ignore[attr-defined]
        second.close()  # type: ignore[attr-defined]
        assert context_fields() == {"base": 1}
    assert context_fields() == {}


async def test_what_a_block_has_started_keeps_its_fields() -> None:
    """A task that goes on after the block is of the same run."""
    is_over = asyncio.Event()

    async def work() -> dict[str, Any]:
        await is_over.wait()
        return dict(context_fields())

    with context(task_id="1"):
        task = asyncio.create_task(work())
    is_over.set()
    assert await task == {"task_id": "1"}
