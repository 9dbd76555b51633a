"""What a test must give back: threads, child processes, files and sockets, and what signals do."""

import gc
import os
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Self

import psutil

from waiting import wait_until

_DESCRIPTORS = Path("/dev/fd")
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


@dataclass(frozen=True)
class Resources:
    """The threads, child processes, descriptors and signal handlers of this process, each described."""

    held: dict[object, str]

    @classmethod
    def now(cls) -> Self:
        """Those of this moment."""
        return cls({**_threads(), **_children(), **_descriptors(), **_handlers()})

    def check_given_back(self, timeout_seconds: float = 5.0) -> None:
        """Fail when more is held than these; what ends shortly after a test is waited for.

        Raises:
            AssertionError: naming all that is still held.
        """
        if not self._new():
            return
        # A logger with entries that could not be sent keeps its journal open as long as it is there.
        gc.collect()
        try:
            wait_until(lambda: not self._new(), timeout_seconds)
        except TimeoutError:
            raise AssertionError("the test leaves behind: " + "; ".join(self._new())) from None

    def _new(self) -> list[str]:
        return [text for key, text in Resources.now().held.items() if key not in self.held]


def _threads() -> dict[object, str]:
    return {thread: f"thread {thread.name}" for thread in threading.enumerate()}


def _handlers() -> dict[object, str]:
    """Of the signals that end a program: whose Ctrl-C a test has taken, the next one waits for in vain."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    return {(number, signal.getsignal(number)): f"a handler of {number.name}" for number in numbers}


def _children() -> dict[object, str]:
    """Without the two processes that `multiprocessing` starts once and keeps."""
    found: dict[object, str] = {}
    # To ask psutil is to read about every process of the machine: not after each of thousands of tests.
    for child in psutil.Process().children() if _has_children() else ():
        try:
            command = " ".join(child.cmdline())
        except psutil.Error:
            command = "(ended, but nobody waited for it)"
        if not any(helper in command for helper in _HELPERS):
            found[child] = f"process {child.pid} {command}"
    return found


def _has_children() -> bool:
    """As the kernel says, ended ones included; where it cannot be asked (Windows), there may be some."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    except AttributeError:
        return True
    return True


def _descriptors() -> dict[object, str]:
    """Files, sockets and pipes; none where the system does not list them (Windows).

    Without standard input and output, which pytest replaces, and without the pipes to the two
    processes that `multiprocessing` keeps.
    """
    helpers = {**vars(resource_tracker._resource_tracker), **vars(forkserver._forkserver)}
    kept = {0, 1, 2, helpers["_fd"], helpers["_forkserver_alive_fd"]}
    found: dict[object, str] = {}
    for link in _DESCRIPTORS.iterdir() if _DESCRIPTORS.is_dir() else ():
        number = int(link.name)
        with suppress(OSError):  # the one that listed the folder is closed by now
            status = os.fstat(number)
            if number not in kept:
                found[number, status.st_dev, status.st_ino] = f"descriptor {number} {_target(link)}"
    return found


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return "(unknown)"
