"""Processes that the tests start, and end by their process id."""

import os
import pwd
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil

from waiting import PATIENCE, wait_until

STOP_TIMEOUT_SECONDS = 20.0 * PATIENCE

# An orphan stays a zombie until the machine's first process waits for it.
_ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


class Running(Protocol):
    """Something that was started: a process of this machine, or a container."""

    @property
    def output(self) -> str:
        """All that it has printed so far, for the message of a failure."""

    def is_running(self) -> bool:
        """Whether it has not ended yet."""

    def stop(self, number: signal.Signals) -> None:
        """Ask it to end with the signal `number`, and wait until it has."""

    def kill(self) -> None:
        """End it without asking, and all that it started (SIGKILL)."""

    def pause(self) -> None:
        """Freeze it, and all that it started: connections stay open and nothing answers (SIGSTOP)."""

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""


class LocalProcess:
    """A process of this machine, in a process group of its own, with its output in a file.

    The group keeps a Ctrl-C that is meant for pytest away from it; pytest's fixtures end it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        output: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        account: str | None = None,
    ) -> None:
        """Start `command` in `folder`; `account` is the user to run as, which takes root."""
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                process_group=0,
                user=account,
                group=account and pwd.getpwnam(account).pw_gid,
                extra_groups=account and [],
            )
        self._output = output

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def send_signal(self, number: signal.Signals) -> None:
        """Send the signal `number` to the process itself, and wait for nothing."""
        self._process.send_signal(number)

    def wait(self, timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> int:
        """The exit code, minus the signal's number when a signal ended it."""
        return self._process.wait(timeout_seconds)

    def stop(
        self, number: signal.Signals = signal.SIGTERM, timeout_seconds: float = STOP_TIMEOUT_SECONDS
    ) -> None:
        """Send the signal `number` and wait; what does not end is killed, and that is an error."""
        if not self.is_running():
            return
        self.resume()
        self.send_signal(number)
        try:
            self.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(
                f"process {self.pid} did not end within {timeout_seconds:g} s of {number.name} "
                f"and was killed. Its output:\n{self.output}"
            ) from None

    def kill(self) -> None:
        """SIGKILL it and all its descendants, also those it left behind, and wait until they are gone."""
        tree = self._frozen_tree()
        _signal_each(tree, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(STOP_TIMEOUT_SECONDS)
        wait_until(lambda: all(_is_in(process, _ENDED) for process in tree), STOP_TIMEOUT_SECONDS)

    def pause(self) -> None:
        """SIGSTOP it and all its descendants, and wait until they are stopped."""
        self._frozen_tree()

    def resume(self) -> None:
        """SIGCONT it and all its descendants."""
        if self.is_running():
            parent = psutil.Process(self.pid)
            _signal_each([*parent.children(recursive=True), parent], signal.SIGCONT)

    def _frozen_tree(self) -> list[psutil.Process]:
        """It and all its descendants, stopped; itself first, so that it starts none while they are listed."""
        if not self.is_running():
            return []
        parent = psutil.Process(self.pid)
        _freeze([parent])
        children = parent.children(recursive=True)
        _freeze(children)
        return [parent, *children]


def _signal_each(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _freeze(processes: Sequence[psutil.Process]) -> None:
    _signal_each(processes, signal.SIGSTOP)
    wait_until(lambda: all(_is_in(process, (psutil.STATUS_STOPPED, *_ENDED)) for process in processes))


def _is_in(process: psutil.Process, states: Sequence[str]) -> bool:
    try:
        return process.status() in states
    except psutil.NoSuchProcess:
        return True
