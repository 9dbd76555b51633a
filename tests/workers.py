"""Real worker processes."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from processes import STOP_TIMEOUT_SECONDS, LocalProcess
from waiting import wait_until

START_TIMEOUT_SECONDS = 30.0

# Now and then a child of Celery's prefork pool waits so long for its parent to read what it has sent,
# which the parent, as it ends, does no more: 300 times 0.1 s (_ensure_messages_consumed, billiard/pool.py).
BILLIARD_SECONDS = 30.0

_HERE = Path(__file__).resolve().parent
APPLICATION = _HERE.parent / "tasks"

DOCUMENTED = (sys.executable, "-m", "celery", "-A", "tasks", "worker", "-Q", "logs", "--loglevel", "INFO")
"""The worker as deployments start it; add `-P prefork`, `-c 2`, ... behind it."""

CELERY = (*DOCUMENTED, "--without-mingle")
"""The same, without the second in which it waits for its neighbours to answer."""


class WorkerProcess:
    """A Celery worker, started as a process of its own in a temporary folder.

    The folder holds nothing but a link to `tasks/`: Celery puts the current folder first on
    the path, and the worker must run the installed package, not the one of the checkout.

    It is ready when it says so, which takes the log level INFO.

    >>> with WorkerProcess(environment={"CELERY_BROKER_URL": redis_url}) as worker:
    ...     worker.kill()
    ...     worker.start()
    """

    def __init__(self, command: Sequence[str] = CELERY, *, environment: Mapping[str, str]) -> None:
        """`environment` is added to the tests' own; nothing is started yet."""
        self.folder = Path(tempfile.mkdtemp(prefix="execution-logger-"))
        (self.folder / "tasks").symlink_to(APPLICATION)
        self.command = command
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        if not any("flower" in word for word in command):
            path = [str(_HERE / "without_flower"), self.environment.get("PYTHONPATH")]
            self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        self._processes: list[LocalProcess] = []

    def start(self, *, ready: str = "ready.") -> Self:
        """Start it, again after its end, and wait until it has printed `ready`."""
        output = self.folder / f"output-{len(self._processes)}.txt"
        self._processes.append(
            LocalProcess(self.command, output=output, environment=self.environment, folder=self.folder)
        )
        wait_until(lambda: self._has_printed(ready), START_TIMEOUT_SECONDS, message=lambda: self.output)
        return self

    @property
    def process(self) -> LocalProcess:
        """The process that was started last."""
        return self._processes[-1]

    @property
    def pid(self) -> int:
        """The process id of the worker's main process."""
        return self.process.pid

    @property
    def output(self) -> str:
        """All that it has printed, over all its starts."""
        return "".join(process.output for process in self._processes)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send SIGTERM to the main process, as service managers should, and wait for the end."""
        self.process.stop(number, self._stop_seconds)

    def kill(self) -> None:
        """SIGKILL the main process and all its children."""
        self.process.kill()

    def pause(self) -> None:
        """SIGSTOP the main process and all its children."""
        self.process.pause()

    def resume(self) -> None:
        """SIGCONT the main process and all its children."""
        self.process.resume()

    def close(self) -> None:
        """End it and remove its folder; pytest shows its output when the test failed."""
        try:
            for process in self._processes:
                process.stop(timeout_seconds=self._stop_seconds)
        finally:
            for process in self._processes:
                process.kill()
            print(self.output)
            shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _stop_seconds(self) -> float:
        is_prefork = "prefork" in (*self.command, self.environment.get("EXECUTION_LOGGER_WORKER_POOL"))
        return STOP_TIMEOUT_SECONDS + (BILLIARD_SECONDS if is_prefork else 0)

    def _has_printed(self, text: str) -> bool:
        if not self.process.is_running():
            raise RuntimeError(f"the worker ended at its start. Its output:\n{self.output}")
        return text in self.process.output
