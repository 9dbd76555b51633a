"""Child processes of unit tests: a script of its own, or a fork of the test."""

import ctypes
import os
import pickle
import select
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from doubles import DEADLINE_SECONDS
from waiting import let_pass, wait_until

_T = TypeVar("_T")

_TASKS = Path("/proc/self/task")
_QUIET_SECONDS = 0.01
_NOBODY = 65_534


def run_script(
    source: str | Path, *arguments: object, code: int = 0, environment: dict[str, str] | None = None
) -> str:
    """Run a Python script, or a file with one, to its end and return what it printed.

    It can import the tests' helpers. Its end must be the exit code `code`. Its arguments are `sys.argv[1:]`.
    """
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    script = [str(source)] if isinstance(source, Path) else ["-c", textwrap.dedent(source)]
    process = subprocess.run(
        [sys.executable, *script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert process.returncode == code, process.stdout
    return process.stdout


def fork_in_c() -> int:
    """What `os.fork` returns, of a fork that runs none of Python's hooks, as uWSGI's and mod_wsgi's.

    It comes when all other threads sleep: a child that inherits one's wait for the interpreter may wait for
    that thread at its next step, whatever it runs.
    """
    wait_until(_is_quiet)
    return int(ctypes.PyDLL(None).fork())


FORKS = (os.fork, fork_in_c) if _TASKS.is_dir() else (os.fork,) if hasattr(os, "fork") else ()
"""Forks that Python hears of, and forks that it does not hear of."""


def _is_quiet() -> bool:
    """Whether no other thread does anything for a moment in which it might."""
    before = _switches()
    let_pass(_QUIET_SECONDS)
    return before == _switches()


def _switches() -> dict[str, str]:
    """How often the other threads of this process have gone to sleep or woken up."""
    found = {}
    for task in _TASKS.iterdir():
        if task.name != str(threading.get_native_id()):
            with suppress(OSError):  # it has ended
                found[task.name] = (task / "status").read_text().partition("\nvoluntary_ctxt_switches")[2]
    return found


def in_fork(function: Callable[[], _T], fork: Callable[[], int] | None = None) -> _T:
    """What `function` returns in a fork of this process, which then ends without any clean-up.

    Args:
        function: what the child does.
        fork: how it is forked, by `os.fork` unless something else is said.

    Raises:
        AssertionError: it raised, or did not return in time.
    """
    reading, writing = os.pipe()
    process_id = (fork or os.fork)()
    if process_id == 0:
        _answer(function, writing)
    os.close(writing)
    try:
        answer: _T = _read(reading)
        return answer
    finally:
        os.close(reading)
        os.kill(process_id, 9)
        os.waitpid(process_id, 0)


def close_to_this_process(folder: Path) -> None:
    """Let nothing in a folder be reached by this process: a fork, which is root no longer then."""
    folder.chmod(0)
    if os.geteuid() == 0:
        os.setuid(_NOBODY)


def _answer(function: Callable[[], Any], writing: int) -> None:
    try:
        answer = pickle.dumps((True, function()))
    except BaseException:  # noqa: BLE001 - it is raised in the parent
        answer = pickle.dumps((False, traceback.format_exc()))
    os.write(writing, answer)
    os._exit(0)


def _read(reading: int) -> Any:
    ready, *_ = select.select([reading], [], [], DEADLINE_SECONDS)
    assert ready, "the child hangs"
    succeeded, answer = pickle.loads(os.read(reading, 1_000_000))
    assert succeeded, answer
    return answer
