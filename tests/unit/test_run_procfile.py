"""The runner of the example hosts: all processes begin, and end, in order."""

import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import LocalProcess
from waiting import wait_until

RUNNER = Path(__file__).resolve().parents[2] / "examples" / "run_procfile.py"
PARENT = """
    import signal, subprocess, sys
    child = subprocess.Popen([sys.executable, "child.py"], stdin=subprocess.PIPE)
    signal.signal(signal.SIGTERM, lambda *_: child.stdin.close())
    child.wait()
    print("in order")
"""
CHILD = """
    import signal, sys
    signal.signal(signal.SIGTERM, lambda *_: print("killed"))
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def running(folder: Path, procfile: str, *names: str) -> Iterator[LocalProcess]:
    """The runner, on this Procfile."""
    (folder / "Procfile").write_text(textwrap.dedent(procfile))
    (folder / "parent.py").write_text(textwrap.dedent(PARENT))
    (folder / "child.py").write_text(textwrap.dedent(CHILD))
    command = [sys.executable, str(RUNNER), "Procfile", *names]
    process = LocalProcess(command, output=folder / "output.txt", folder=folder)
    try:
        yield process
    finally:
        process.kill()


def test_what_a_process_has_started_ends_when_it_says_so(tmp_path: Path) -> None:
    """A signal is for the first process of a line: the children of a pool have work in hand."""
    procfile = f"""
        # web: nothing
        worker: {sys.executable} parent.py
        other: sleep 1000
    """
    with running(tmp_path, procfile) as runner:
        wait_until(lambda: "worker | ready" in runner.output, message=lambda: runner.output)
        runner.send_signal(signal.SIGINT)
        assert runner.wait() == 0
    assert "worker | in order" in runner.output
    assert "worker | ended, exit code 0" in runner.output
    assert "other  | ended, exit code -15" in runner.output
    assert "killed" not in runner.output


def test_when_one_ends_all_do(tmp_path: Path) -> None:
    """Half a host is none; the exit code says that nobody asked for it."""
    with running(tmp_path, "web: sleep 1000\nbroken: sh -c 'exit 3'\n") as runner:
        assert runner.wait() == 1
    assert "broken | ended, exit code 3" in runner.output
    assert "web    | ended, exit code -15" in runner.output


def test_lines_are_chosen_by_their_names(tmp_path: Path) -> None:
    """One that is not there is an error, with those that are not."""
    with running(tmp_path, "web: echo it\nother: echo other\n", "web") as runner:
        runner.wait()
    assert "web | it" in runner.output
    assert "other" not in runner.output
    with running(tmp_path, "web: echo it\n", "web", "wep") as runner:
        assert runner.wait() == 1
    assert "not in Procfile: wep" in runner.output
