"""What the commands have in common that run a process of Celery in the foreground."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence

from execution_logger.worker.supervisor import Supervisor, stop_at_end_of_input

LEVELS = ("debug", "info", "warning", "error", "critical")
LOG_FORMAT = "[%(asctime)s: %(levelname)s/Supervisor] %(message)s"  # as Celery's lines look


def run_supervised(
    module: Sequence[str],
    after_crash: Callable[[], object] = lambda: None,
    *,
    stop_at_eof: bool,
    name: str = "the worker",
    look_after: Callable[[], object] = lambda: None,
) -> int:
    """Run a module and its options as a process that is started again when it dies; its exit code.

    On Windows it is run once. See `Supervisor` for the other parameters.
    """
    if stop_at_eof:
        stop_at_end_of_input()
    # -P: it runs the installed package, and not what lies in the current folder.
    process = [sys.executable, "-P", "-m", *module]
    if sys.platform == "win32":  # without the signals that a supervisor needs
        return subprocess.Popen(process, stdin=subprocess.PIPE).wait()  # noqa: S603 - our own command
    return asyncio.run(Supervisor(process, after_crash, name=name, look_after=look_after).run())
