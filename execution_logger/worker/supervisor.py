"""Keeps the worker's process running, and passes on what it is told to.

A Redis that goes away, a malformed message or the kernel's memory killer can end a worker; nobody
would notice until the queue is full. Needs POSIX signals.
"""

import asyncio
import os
import signal
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from execution_logger.broker.backoff import Backoff
from execution_logger.diagnostics import our_logger

logger = our_logger("execution_logger.supervisor")

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGQUIT") if hasattr(signal, name))
"""What is passed on: Celery ends in order at the first SIGTERM or SIGINT, at once at SIGQUIT."""

LONGEST_PAUSE_SECONDS = 30.0

STOP_SECONDS = 15.0
"""Longer than any batch takes to be written or put back; with a broker that hangs Celery takes minutes."""

WRONG_USAGE = 2
"""The exit code of what would end in the same way again: wrong options, wrong settings."""

_STABLE_SECONDS = 60.0


class Supervisor:
    """Runs a command and runs it again whenever it ends abnormally, with growing pauses.

    The process gets its signals from here only, because a Ctrl-C that the terminal sends to
    everybody would reach Celery twice, which means "at once" to it.

    Args:
        command: of the process; its standard input ends when this process does, however that is.
        name: of the process, in the log.
        after_crash: called in a thread after each abnormal end; what it returns is true when it has
            removed a cause, and then the pauses start again, too.
        look_after: called in a thread again and again while the process runs, `look_after_seconds` apart.
        stop_seconds: after a signal the process is killed if it has not ended by then.
        backoff: the pauses; they start again after a minute without a crash.
    """

    def __init__(
        self,
        command: Sequence[str],
        after_crash: Callable[[], object],
        *,
        name: str = "the worker",
        look_after: Callable[[], object] = lambda: None,
        look_after_seconds: float = 10.0,
        stop_seconds: float = STOP_SECONDS,
        backoff: Backoff | None = None,
    ) -> None:
        self._command = command
        self._after_crash = after_crash
        self._name = name
        self._look_after = look_after
        self._look_after_seconds = look_after_seconds
        self._stop_seconds = stop_seconds
        self._backoff = backoff or Backoff(LONGEST_PAUSE_SECONDS)
        self._process: Process | None = None
        self._stop_signal: signal.Signals | None = None
        self._stopping = asyncio.Event()
        self._last_failure = ""

    async def run(self) -> int:
        """Return the exit code of the process when it ended because it should: by a signal or by itself."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._pass_on, number)
        looking_after = asyncio.create_task(self._keep_looking_after())
        try:
            return await self._run_until_normal_end()
        finally:
            looking_after.cancel()
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    async def _run_until_normal_end(self) -> int:
        while True:
            began_at = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set() or code in (0, WRONG_USAGE):
                return code if code >= 0 else 128 - code
            if time.monotonic() - began_at > _STABLE_SECONDS:
                self._backoff.reset()
            if await self._unless_stopped(_in_thread(partial(self._without_failing, self._after_crash))):
                self._backoff.reset()
            pause_seconds = self._backoff.next_pause_seconds()
            logger.error("%s %s; it starts again in %.1f s", self._name, _describe(code), pause_seconds)
            if await self._is_stopped_within(pause_seconds):
                return 0

    async def _keep_looking_after(self) -> None:
        while True:
            await asyncio.sleep(self._look_after_seconds)
            await _in_thread(partial(self._without_failing, self._look_after))

    def _without_failing(self, look: Callable[[], object]) -> object:
        """What the look returns; None when it fails, which is said once."""
        try:
            result, said = look(), ""
        except Exception as error:  # noqa: BLE001 - nothing in the queue may end the supervisor
            result, said = None, f"{type(error).__name__}: {error}"
        if said and said != self._last_failure:
            logger.error("the queue cannot be looked after: %s", said)
        self._last_failure = said
        return result

    async def _run_once(self) -> int:
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, process_group=0)
        if self._stop_signal is not None:  # it came while the process was being started
            self._process.send_signal(self._stop_signal)
        try:
            return await self._process.wait()
        finally:
            self._process = None

    async def _unless_stopped(self, future: "asyncio.Future[object]") -> object:
        """The result of the future; None when a signal comes first."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        either: list[asyncio.Future[Any]] = [future, stopping]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        return future.result() if future.done() else None

    async def _is_stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _pass_on(self, number: signal.Signals) -> None:
        self._stop_signal = number
        self._stopping.set()
        # To the main process alone: its children would die at once and take their batches along.
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
        asyncio.get_running_loop().call_later(self._stop_seconds, self._kill)

    def _kill(self) -> None:
        """End a process that does not stop, as Celery while a broker hangs; its batches come again."""
        if self._process is not None and self._process.returncode is None:
            logger.warning("%s has not stopped after %g s, and is killed", self._name, self._stop_seconds)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _in_thread(function: Callable[[], object]) -> "asyncio.Future[object]":
    """Run in a thread that nobody waits for at the end: a broker that hangs must not hold up a stop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[object] = loop.create_future()

    def settle(result: object, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except Exception as failure:  # noqa: BLE001 - it is the future's
            error = failure
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="execution-logger-queue", daemon=True).start()
    return future


def _describe(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-code}"


def stop_at_end_of_input() -> None:
    """Shut this process down, as by SIGTERM, once its standard input ends: who started it is gone.

    Without this a supervisor that is killed leaves a worker behind that nobody knows of.
    """

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="execution-logger-input", daemon=True).start()
