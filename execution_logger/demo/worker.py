"""The worker of the demonstration: `execution-logger worker`, as a process of its own."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from execution_logger.errors import ExecutionLoggerError

_STOP_SECONDS = 15.0
_LINES_SHOWN = 15


class WorkerProcess:
    """Starts the worker, and ends it by its process id.

    Args:
        environment: with the settings.
        output: the file for what it prints.
    """

    def __init__(self, environment: Mapping[str, str], output: Path) -> None:
        self._output = output
        command = [sys.executable, "-P", "-m", "execution_logger.cli", "worker", "--stop-at-eof"]
        with output.open("wb") as file:
            # In a group of its own: a Ctrl-C is for us, and we end the worker in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """The last lines that it has printed."""
        lines = self._output.read_text(errors="replace").rstrip().splitlines()
        return "\n".join(lines[-_LINES_SHOWN:])

    def check(self) -> None:
        """Raise ExecutionLoggerError, with the last lines that it printed, when it has ended."""
        if (code := self._process.poll()) is not None:
            raise ExecutionLoggerError(f"the worker ended with exit code {code}:\n{self.output}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that is of no use."""
        with self._process:  # which closes its input, and waits for its end
            try:
                self._process.terminate()
                self._process.wait(_STOP_SECONDS)
            finally:
                self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
