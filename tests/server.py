"""What the tests' servers have in common."""

import os
import random
import shutil
import signal
import socket
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

import redis

from containers import docker, has_docker
from processes import Running
from waiting import wait_until

START_TIMEOUT_SECONDS = 30.0
_PORTS_A_PROCESS = 1_000


class MissingServerError(RuntimeError):
    """This machine has no such server."""


class Server(ABC):
    """What the servers have in common: a port, a folder, and a process that comes and goes."""

    program: ClassVar[str]
    places: ClassVar[tuple[str, ...]] = ()
    package: ClassVar[str]
    image: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self) -> None:
        self._binaries = self.find_binaries()
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="execution-logger-"))
        self._running: Running | None = None

    @classmethod
    def find_binaries(cls) -> Path | None:
        """The folder of the server's programs, or None when a container must do.

        Raises:
            MissingServerError: neither is to be had; the message says what to install.
        """
        places = [place for pattern in cls.places for place in sorted(Path("/").glob(pattern), reverse=True)]
        for folder in [*map(Path, os.get_exec_path()), *places]:
            if os.access(folder / cls.program, os.X_OK):
                return folder
        if has_docker():
            return None
        raise MissingServerError(
            f"{cls.program} is not installed and no Docker engine answers: "
            f"install the package {cls.package}, e.g. `apt-get install {cls.package}`"
        )

    def start(self) -> Self:
        """Start it, on the same port with the same data as before, and wait until it answers."""
        if self._running is not None:
            raise RuntimeError(f"{self.program} runs already on port {self.port}")
        self._running = self._launch_local() if self._binaries else self._launch_container()
        wait_until(self._has_started, START_TIMEOUT_SECONDS, message=lambda: self.output)
        return self

    def stop(self) -> None:
        """Shut it down in order, with its data written; nothing when it does not run."""
        running, self._running = self._running, None
        if running is not None:
            running.stop(self.stop_signal)

    def kill(self) -> None:
        """SIGKILL: what it had not written yet is lost."""
        running, self._running = self._running, None
        if running is not None:
            running.kill()

    def restart(self) -> None:
        """Stop it in order and start it again."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open, new ones are accepted by the kernel, nothing answers."""
        self._require().pause()

    def resume(self) -> None:
        """End a pause."""
        self._require().resume()

    @property
    def output(self) -> str:
        """All that it has printed since it was made, for the message of a failure."""
        return "" if self._running is None else self._running.output

    def close(self) -> None:
        """Stop it, when it runs, and remove its data."""
        try:
            self.stop()
        finally:
            if not self._binaries:
                docker("volume", "rm", self.folder.name, check=False)
            shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def url(self) -> str:
        """Its URL, as the settings take it."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it serves clients; raises OSError or RedisError as long as it does not."""

    @abstractmethod
    def _launch_local(self) -> Running: ...

    @abstractmethod
    def _launch_container(self) -> Running: ...

    def _has_started(self) -> bool:
        if not self._require().is_running():
            raise RuntimeError(f"{self.program} ended at its start. Its output:\n{self.output}")
        try:
            return self._answers()
        except (OSError, redis.RedisError):
            return False

    @property
    def is_running(self) -> bool:
        """Whether it was started and neither stopped nor killed since."""
        return self._running is not None

    def _require(self) -> Running:
        if self._running is None:
            raise RuntimeError(f"{self.program} does not run")
        return self._running


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on.

    It is below 32768, where kernels do not take the clients' ports from: a client that
    retries while the server is down could otherwise be given that port, or connect to itself.
    Processes that test side by side have ports of their own: a server that is down for a while must find
    its port free again.
    """
    first = 20_000 + _PORTS_A_PROCESS * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = random.randrange(first, first + _PORTS_A_PROCESS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
