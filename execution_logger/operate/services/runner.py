"""The process behind a service of `manage`: `python -m execution_logger.operate.services.runner`.

It starts the service's command as its child and keeps the log and the record. The child's standard input
ends when this process does, however that is, and the commands that are run here end with it.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from execution_logger.operate.services.log import FILE_BYTES, Log
from execution_logger.operate.services.record import Claim

RECORD_NAME = "record.json"
LOG_NAME = "log"

RUNS_ALREADY = 75
"""The exit code of a second runner of a service (EX_TEMPFAIL)."""

_STARTS = "UTC: manage] starts "
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_MOST_LINE_BYTES = 65_536


class Runner:
    """Runs a command to its end, in a folder of its own.

    Args:
        folder: for the log and the record.
        about: what the command works on, for people.
        command: what it is; it ends at a SIGTERM.
        file_bytes: see `Log`.
    """

    def __init__(
        self, folder: Path, about: str, command: Sequence[str], *, file_bytes: int = FILE_BYTES
    ) -> None:
        self._folder = folder
        self._about = about
        self._command = command
        self._file_bytes = file_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._was_stopped = False

    def run(self) -> int:
        """Return the exit code of the command, or at once when the folder's runner is there already."""
        for number in _SIGNALS:
            signal.signal(number, self._stop)
        claim = Claim.take(self._folder / RECORD_NAME, self._about)
        if claim is None:
            return RUNS_ALREADY
        log = Log(self._folder / LOG_NAME, file_bytes=self._file_bytes)
        try:
            code = self._run(log)
        finally:
            log.close()
        claim.finish(exit_code=code, was_stopped=self._was_stopped)
        return code

    def _run(self, log: Log) -> int:
        log.write(f"[{_now()} {_STARTS}{self._about}")
        with subprocess.Popen(  # noqa: S603 - the command of a service
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as self._process:
            if self._was_stopped:  # the signal came while the process was being started
                self._process.terminate()
            assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
            while piece := self._process.stdout.readline(_MOST_LINE_BYTES):
                log.write(piece.decode(errors="backslashreplace").rstrip("\n"))
        code = self._process.returncode
        ending = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
        log.write(f"[{_now()} UTC: manage] {ending}")
        return code

    def _stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's signature
        self._was_stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()


def since_start(lines: Sequence[str]) -> Sequence[str]:
    """The last lines of a log without those of an earlier run."""
    starts = [number for number, line in enumerate(lines) if _STARTS in line]
    return lines[starts[-1] :] if starts else lines


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


if __name__ == "__main__":
    sys.exit(Runner(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]).run())
