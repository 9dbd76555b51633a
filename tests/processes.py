"""Processes that the tests start, and end by their process id."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil

from waiting import wait_until

STOP_TIMEOUT_SECONDS = 20.0

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

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal `number` and wait; what does not end is killed, and that is an error."""
        if not self.is_running():
            return
        self.resume()
        self.send_signal(number)
        try:
            self.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(
                f"process {self.pid} did not end within {STOP_TIMEOUT_SECONDS:g} s of {number.name} "
                f"and was killed. Its output:\n{self.output}"
            ) from None

    def kill(self) -> None:
        """SIGKILL it and all its descendants, also those it left behind, and wait until they are gone."""
        tree = self._tree()
        _signal_each(tree, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(STOP_TIMEOUT_SECONDS)
        wait_until(lambda: all(_is_in(process, _ENDED) for process in tree), STOP_TIMEOUT_SECONDS)

    def pause(self) -> None:
        """SIGSTOP it and all its descendants, and wait until they are stopped."""
        tree = self._tree()
        _signal_each(tree, signal.SIGSTOP)
        wait_until(lambda: all(_is_in(process, (psutil.STATUS_STOPPED, *_ENDED)) for process in tree))

    def resume(self) -> None:
        """SIGCONT it and all its descendants."""
        _signal_each(self._tree(), signal.SIGCONT)

    def _tree(self) -> list[psutil.Process]:
        """Parent first: stopped first, it cannot start another child meanwhile."""
        if not self.is_running():
            return []
        parent = psutil.Process(self.pid)
        return [parent, *parent.children(recursive=True)]


class Container:
    """A container of a Docker engine, removed when it ends; its volume `/data` is kept."""

    def __init__(
        self, image: str, arguments: Sequence[str], *, ports: str, volume: str, variables: Mapping[str, str]
    ) -> None:
        """Run `image` with `arguments`; `ports` is `-p` of `docker run`, `variables` its environment."""
        options = ["--rm", "--detach", "--publish", ports, "--volume", f"{volume}:/data"]
        for name, value in variables.items():
            options += ["--env", f"{name}={value}"]
        self._id = docker("run", *options, image, *arguments)

    @property
    def output(self) -> str:
        """All that it has printed so far; nothing once it is removed."""
        return docker("logs", self._id, check=False)

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return docker("inspect", "--format", "{{.State.Running}}", self._id, check=False) == "true"

    def stop(self, number: signal.Signals) -> None:
        """Send the signal `number` and wait until it is gone."""
        self.resume()
        self._end(number)

    def kill(self) -> None:
        """SIGKILL it and wait until it is gone."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze every process in it."""
        docker("pause", self._id)

    def resume(self) -> None:
        """Let it go on, when it is frozen."""
        docker("unpause", self._id, check=False)

    def _end(self, number: signal.Signals) -> None:
        docker("kill", "--signal", number.name, self._id, check=False)
        wait_until(lambda: not docker("ps", "--all", "--quiet", "--filter", f"id={self._id}"), 20)


def docker(*arguments: str, check: bool = True) -> str:
    """The output of a docker command."""
    done = subprocess.run(
        ["docker", *arguments], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if check and done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)} failed: {done.stdout.strip()}")
    return done.stdout.strip()


def has_docker() -> bool:
    """Whether a Docker engine answers."""
    return bool(shutil.which("docker")) and docker("info", "--format", "{{.ID}}", check=False).count(" ") == 0


def _signal_each(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _is_in(process: psutil.Process, states: Sequence[str]) -> bool:
    try:
        return process.status() in states
    except psutil.NoSuchProcess:
        return True
