"""Child processes of unit tests: a script of its own, or a fork of the test."""

import ctypes
import os
import pickle
import select
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from doubles import DEADLINE_SECONDS

_T = TypeVar("_T")


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

    A child that inherits another thread's request for the interpreter waits for that thread at its next step,
    whatever it runs: here no thread may ask for it for that moment.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        time.sleep(0)  # who has asked already gets it
        return int(ctypes.PyDLL(None).fork())
    finally:
        sys.setswitchinterval(interval)


FORKS = (os.fork, fork_in_c) if hasattr(os, "fork") else ()
"""Forks that Python hears of, and forks that it does not hear of."""


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
