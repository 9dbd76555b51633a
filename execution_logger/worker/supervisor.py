"""Keeps the worker running: a lost Redis, a message or the memory killer may end it. Needs POSIX."""

import asyncio
import os
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress

from execution_logger.broker.connection import Backoff
from execution_logger.diagnostics import our_logger

logger = our_logger("execution_logger.supervisor")

WRONG_USAGE = 2  # the exit code of what would end in the same way again: wrong options, wrong settings
CAUSE_REMOVED = 10  # that of what has found, and moved aside, what ended the one before
STOP_SECONDS = 15.0
"""Longer than any batch takes to be written or put back; with a broker that hangs Celery takes minutes."""

_LONGEST_PAUSE_SECONDS = 30.0
_STABLE_SECONDS = 60.0


class Supervisor:
    """Runs a command and runs it again whenever it ends abnormally, with growing pauses.

    The process gets its signals from here only: a Ctrl-C of the terminal would reach Celery twice, which
    means "at once" to it.

    Args:
        command: of the process; its standard input ends when this process does, however that is.
        after_crash: the command to run the next times.
        stop_seconds: after a signal the process is killed if it has not ended by then.
        backoff: the pauses; they start again after a minute without a crash, and when its cause is gone.
    """

    def __init__(
        self,
        command: Sequence[str],
        after_crash: Sequence[str],
        *,
        stop_seconds: float = STOP_SECONDS,
        backoff: Backoff | None = None,
    ) -> None:
        self._command = command
        self._after_crash = after_crash
        self._stop_seconds = stop_seconds
        self._backoff = backoff or Backoff(_LONGEST_PAUSE_SECONDS)
        self._process: Process | None = None
        self._signal: signal.Signals | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Return the exit code of the process when it ended because it should: by a signal or by itself."""
        # Celery ends in order at the first two, at once at the third. They are ours until the loop is closed.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            asyncio.get_running_loop().add_signal_handler(number, self._pass_on, number)
        command = self._command
        while True:
            began_at, code = time.monotonic(), await self._run_once(command)
            if self._stopping.is_set() or code in (0, WRONG_USAGE):
                return code if code >= 0 else 128 - code
            if code == CAUSE_REMOVED or time.monotonic() - began_at > _STABLE_SECONDS:
                self._backoff.reset()
            pause_seconds = self._backoff.next_pause_seconds()
            logger.error("the worker %s; it starts again in %.1f s", _describe(code), pause_seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_seconds)
                return 0
            command = self._after_crash

    async def _run_once(self, command: Sequence[str]) -> int:
        self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, process_group=0)
        if self._signal is not None:  # it came while the process was being started
            self._process.send_signal(self._signal)
        return await self._process.wait()

    def _pass_on(self, number: signal.Signals) -> None:
        self._signal = number
        self._stopping.set()
        # To the main process alone: its children would die at once and take their batches along.
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
        asyncio.get_running_loop().call_later(self._stop_seconds, self._kill)

    def _kill(self) -> None:
        """End a process that does not stop, as Celery while a broker hangs; its batches come again."""
        if self._process is not None and self._process.returncode is None:
            logger.warning("the worker has not stopped after %g s, and is killed", self._stop_seconds)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _describe(code: int) -> str:
    if code >= 0:
        return "has moved aside what ended it" if code == CAUSE_REMOVED else f"ended with exit code {code}"
    return f"was killed by {next((each.name for each in signal.Signals if each == -code), f'signal {-code}')}"
