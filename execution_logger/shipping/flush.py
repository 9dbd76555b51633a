"""Who waits until entries are sent or stored, how long, and in whatever event loop runs there."""

import asyncio
import concurrent.futures.thread
import math
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from execution_logger.shipping.thread import Shipper

# `concurrent.futures.thread`: a script that ends soon after its first call delivers while the interpreter
# exits, and what the delivery imports then (Celery, Redis) imports that module, which refuses to load late.

CONFIRMATION_SECONDS = 1.0
"""How long a shutdown waits for confirmations once everything is sent."""


@dataclass(frozen=True, slots=True)
class Report:
    """Where the entries are: what this call saw delivered, what still waits, what was dropped and why."""

    complete: bool
    """Whether all that was recorded before the call is delivered; or stored, if the call waited for that.

    So is the entry that tells what was dropped, if any was.
    """
    delivered: int
    """Entries delivered while the call waited."""
    waiting: int
    """Entries that have not been sent; they are kept, in memory or on disk."""
    elapsed_seconds: float
    unconfirmed: int = 0
    """Entries that were sent, and not confirmed by a worker yet."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Entries dropped since the process began, by reason."""
    last_error: str | None = None
    """Why the last attempt failed; None when it succeeded."""

    def __str__(self) -> str:
        parts = [f"{self.delivered} delivered", f"{self.waiting} waiting"]
        if self.unconfirmed:
            parts.append(f"{self.unconfirmed} unconfirmed")
        parts += [f"{count} dropped ({reason})" for reason, count in self.dropped.items()]
        text = f"{', '.join(parts)} after {self.elapsed_seconds:.2f} s"
        return f"{text}: {self.last_error}" if self.last_error and not self.complete else text


class Flush(Future[None]):
    """A flush or shutdown on its way, done when its entries are: wait in a thread or a loop for its report.

    Args:
        shipper: whose entries they are.
        delivered: how many were delivered before.
        ticket: the number of the newest entry that is waited for.
        began_at: monotonic seconds.
        deadline: until when it waits.
        until_stored: it waits until they are stored.
        then_stop: the thread has to end after them.
    """

    def __init__(
        self,
        shipper: "Shipper",
        delivered: int,
        ticket: int,
        began_at: float,
        deadline: float,
        *,
        until_stored: bool = False,
        then_stop: bool = False,
    ) -> None:
        super().__init__()
        # A running future cannot be cancelled: set_result() never meets one that asyncio gave up.
        self.set_running_or_notify_cancel()
        self.delivered_before = delivered
        self.ticket = ticket
        self.began_at = began_at
        self.deadline = self.expires_at = deadline
        """`expires_at` is brought forward when all is sent; who waits gives up at the deadline."""
        self.until_stored = until_stored
        self.then_stop = then_stop
        self.interruption: str | None = None
        """Why the caller may not wait."""
        self._shipper = shipper
        self._is_sent = False

    def wait(self) -> Report:
        """Wait in this thread until all is delivered or the timeout is over.

        Not in a signal handler that has interrupted a call: what it waits for comes after it.
        """
        if seconds := self._seconds_to_wait():
            concurrent.futures.wait([self], timeout=seconds)
        return self.report()

    async def wait_in_loop(self) -> Report:
        """The same in asyncio or trio: the loop goes on meanwhile."""
        if seconds := self._seconds_to_wait():
            await wait_in_loop(self, seconds)
        return self.report()

    def report(self) -> Report:
        """Where the entries are now."""
        return self._shipper.report(self)

    def is_answered(self, delivered: int, settled: int, now: float) -> bool:
        """Whether its entries are where they are to be, or it waits no longer."""
        if self.then_stop and not self._is_sent and delivered >= self.ticket:
            # All is sent. What is not confirmed soon is in the journal, or was never promised more.
            self._is_sent = True
            if not self.until_stored:
                self.expires_at = min(self.expires_at, now + CONFIRMATION_SECONDS)
        reached = settled if self.until_stored or self.then_stop else delivered
        return reached >= self.ticket or self.expires_at <= now

    def _seconds_to_wait(self) -> float:
        if self._shipper.waits_for_caller():
            self.interruption = "this thread was interrupted in a logging call, which has to end first"
            return 0.0
        if not self.done():
            self._shipper.drive(self.deadline)
        left = 0.0 if self.done() else self.deadline - self._shipper.now()
        return min(max(0.0, left), threading.TIMEOUT_MAX)


class Flushes:
    """Those on their way: added by the host's threads, answered by the shipper's."""

    def __init__(self) -> None:
        # Without a lock: a signal handler that waits in flush() may interrupt whoever held it. Each
        # change is one call of the list's own.
        self._flushes: list[Flush] = []

    def __bool__(self) -> bool:
        return bool(self._flushes)

    def add(self, flush: Flush) -> None:
        """Answer this one, too."""
        self._flushes.append(flush)

    def extend(self, ticket: int) -> None:
        """Let all wait for the entries up to this later ticket too."""
        for each in tuple(self._flushes):
            each.ticket = ticket

    def seconds_until_expired(self, now: float) -> float:
        """Seconds until one of them waits no longer; `inf` when nobody waits."""
        return max(0.0, min((each.expires_at for each in tuple(self._flushes)), default=math.inf) - now)

    def answer(self, delivered: int, settled: int, now: float) -> list[Flush]:
        """Answer those whose entries are sent, or stored, and those who wait no longer.

        Returns:
            The shutdowns among them, to be answered when the thread has ended.
        """
        answered = [each for each in tuple(self._flushes) if each.is_answered(delivered, settled, now)]
        for each in answered:
            self._flushes.remove(each)
            if not each.then_stop:
                each.set_result(None)
        return [each for each in answered if each.then_stop]


async def wait_in_loop(future: "Future[None]", timeout_seconds: float) -> None:
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


async def _wait_in_asyncio(future: "Future[None]", timeout_seconds: float) -> None:
    done = asyncio.wrap_future(future)
    try:
        await asyncio.wait([done], timeout=timeout_seconds)
    finally:
        done.cancel()  # or a thread that finishes later would call into a loop that is closed


async def _wait_in_trio(future: "Future[None]", timeout_seconds: float) -> None:
    trio = sys.modules["trio"]
    done, token = trio.Event(), trio.lowlevel.current_trio_token()

    def wake(_: object) -> None:
        with suppress(trio.RunFinishedError):  # the wait was given up, and the loop has ended
            token.run_sync_soon(done.set)

    future.add_done_callback(wake)
    with trio.move_on_after(timeout_seconds):
        await done.wait()
