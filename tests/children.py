"""Child processes of unit tests: a script of its own, or a fork of the test."""

import os
import pickle
import select
import subprocess
import sys
import textwrap
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


def in_fork(function: Callable[[], _T]) -> _T:
    """What `function` returns in a fork of this process, which then ends without any clean-up.

    Raises:
        AssertionError: it raised, or did not return in time.
    """
    reading, writing = os.pipe()
    process_id = os.fork()
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
