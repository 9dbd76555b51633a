"""Waiting for another thread in whatever event loop runs here: asyncio's, trio's, or none."""

import asyncio
import concurrent.futures
import sys
from contextlib import suppress


async def wait_in_loop(future: "concurrent.futures.Future[None]", timeout_seconds: float) -> None:
    """Wait until the future is done, at most so long. The loop goes on meanwhile.

    Without a loop, or in one that nobody knows here, the calling thread waits.
    """
    library = running_library()
    if library == "trio":
        await _wait_in_trio(future, timeout_seconds)
    elif library == "asyncio":
        await _wait_in_asyncio(future, timeout_seconds)
    else:
        concurrent.futures.wait([future], timeout=timeout_seconds)


def running_library() -> str | None:
    """The name of the library whose event loop runs the caller; found as anyio finds it."""
    if (sniffio := sys.modules.get("sniffio")) is not None:
        with suppress(sniffio.AsyncLibraryNotFoundError):
            return str(sniffio.current_async_library())
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return "asyncio"
    return None


def cancellations() -> tuple[type[BaseException], ...]:
    """What is raised in a body that is cancelled, or an iterator that is broken off."""
    trio = sys.modules.get("trio")
    of_trio = () if trio is None else (trio.Cancelled,)
    return asyncio.CancelledError, GeneratorExit, *of_trio


async def _wait_in_asyncio(future: "concurrent.futures.Future[None]", timeout_seconds: float) -> None:
    done = asyncio.wrap_future(future)
    try:
        await asyncio.wait([done], timeout=timeout_seconds)
    finally:
        done.cancel()  # or a thread that finishes later would call into a loop that is closed


async def _wait_in_trio(future: "concurrent.futures.Future[None]", timeout_seconds: float) -> None:
    trio = sys.modules["trio"]
    done, token = trio.Event(), trio.lowlevel.current_trio_token()

    def wake(_: object) -> None:
        with suppress(trio.RunFinishedError):  # the wait was given up, and the loop has ended
            token.run_sync_soon(done.set)

    future.add_done_callback(wake)
    with trio.move_on_after(timeout_seconds):
        await done.wait()
