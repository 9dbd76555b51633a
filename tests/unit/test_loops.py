"""Waiting works in every event loop: asyncio's, trio's, by way of anyio, and without one."""

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
import pytest
import trio

from doubles import DEADLINE_SECONDS, BlockedDelivery
from execution_logger import ExecutionLogger
from execution_logger.api.operations import cancellations
from execution_logger.errors import DeliveryError
from execution_logger.shipping.flush import running_library, wait_in_loop
from execution_logger.testing import MemoryDelivery

MakeLogger = Callable[..., ExecutionLogger]
Run = Callable[[Callable[[], Awaitable[Any]]], Any]

SHORT_SECONDS = 0.05
MUCH_LATER_SECONDS = 5.0
"""A wait that should have taken `SHORT_SECONDS` and was not cut short takes longer than this."""


def run_by_hand(function: Callable[[], Awaitable[Any]]) -> Any:
    """Run a coroutine that never suspends, as there is no loop that could wake it."""
    coroutine: Any = function()
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    raise AssertionError("it has suspended")


RUNS: dict[str, Run] = {
    "trio": trio.run,
    "anyio on trio": partial(anyio.run, backend="trio"),
    "anyio on asyncio": partial(anyio.run, backend="asyncio"),
    "asyncio": lambda function: asyncio.run(function()),  # type: ignore[arg-type]
    "no loop": run_by_hand,
}


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in one of the loops."""
    return RUNS[request.param]


@pytest.fixture
def blocked(make_logger: MakeLogger) -> Iterator[ExecutionLogger]:
    """A logger whose delivery hangs with one entry, as long as the test lasts."""
    delivery = BlockedDelivery()
    logger = make_logger(delivery, batch_size=1)
    logger.sync.info("t", "agent", "hello")
    delivery.wait_until_entered()
    yield logger
    delivery.open()


def test_flush_and_shutdown_deliver(make_logger: MakeLogger, run: Run) -> None:
    """Whatever loop the host runs."""
    delivery = MemoryDelivery()
    logger = make_logger(delivery)

    async def log() -> tuple[bool, bool]:
        await logger.info("t", "agent", "first")
        flushed = await logger.flush(DEADLINE_SECONDS)
        await logger.info("t", "agent", "second")
        return flushed.complete, (await logger.shutdown(DEADLINE_SECONDS)).complete

    assert run(log) == (True, True)
    assert [entry["message"] for entry in delivery.entries] == ["first", "second"]


def test_the_lifespan_delivers_at_its_end(make_logger: MakeLogger, run: Run) -> None:
    """Also of an application that runs on trio."""
    delivery = MemoryDelivery()
    logger = make_logger(delivery)

    async def serve() -> None:
        async with logger.lifespan():
            await logger.info("t", "agent", "hello")

    run(serve)
    assert [entry["message"] for entry in delivery.entries] == ["hello"]


@pytest.mark.parametrize("how", ["flush", "shutdown"])
def test_a_wait_keeps_to_its_time(blocked: ExecutionLogger, run: Run, how: str) -> None:
    """A delivery that hangs costs the timeout and nothing more."""
    report = run(partial(getattr(blocked, how), SHORT_SECONDS))
    assert SHORT_SECONDS <= report.elapsed_seconds < MUCH_LATER_SECONDS
    assert not report.complete


def test_trio_goes_on_meanwhile(blocked: ExecutionLogger) -> None:
    """Other tasks have their turns, and a wait that is cancelled ends at once."""

    async def flush_and_be_cancelled() -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(blocked.flush, DEADLINE_SECONDS)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return "cancelled"

    assert trio.run(flush_and_be_cancelled) == "cancelled"


def test_an_answer_after_the_end_of_the_loop_is_nobodys() -> None:
    """The wait was over, and so is trio's run: nothing is called in it, and nothing is logged."""
    future: Future[None] = Future()
    trio.run(wait_in_loop, future, 0.0)
    future.set_result(None)


def test_a_delivery_that_cannot_be_made_stops_nothing(run: Run) -> None:
    """The start of a host waits for it, and goes on without it."""

    def make() -> MemoryDelivery:
        raise DeliveryError("not now")

    logger = ExecutionLogger(make_delivery=make)

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(logger.lifespan())

    run(serve)


def test_the_library_is_found(run: Run) -> None:
    """By the names that anyio uses."""

    async def library() -> str | None:
        return running_library()

    expected = {RUNS["trio"]: "trio", RUNS["anyio on trio"]: "trio", RUNS["no loop"]: None}
    assert run(library) == expected.get(run, "asyncio")


def test_cancellations_are_known() -> None:
    """Those of trio, too, which has an exception of its own, and those of code without an event loop."""
    without_loop = concurrent.futures.CancelledError
    assert cancellations() == (asyncio.CancelledError, without_loop, GeneratorExit, trio.Cancelled)
