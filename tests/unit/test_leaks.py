"""The check that every test runs under must notice what it is for."""

import socket
import subprocess
import sys
import tempfile
import threading

import pytest

from leaks import Resources


def test_a_thread_is_noticed() -> None:
    """Its name is in the message."""
    before, end = Resources.now(), threading.Event()
    thread = threading.Thread(target=end.wait, name="left-over")
    thread.start()
    with pytest.raises(AssertionError, match="thread left-over"):
        before.check_given_back(timeout_seconds=0)
    end.set()
    thread.join()
    before.check_given_back(timeout_seconds=0)


def test_a_child_process_is_noticed() -> None:
    """Its command is in the message."""
    before = Resources.now()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with process, pytest.raises(AssertionError, match=r"process \d+ .*input\(\)"):
        before.check_given_back(timeout_seconds=0)
    before.check_given_back(timeout_seconds=0)


def test_an_open_file_is_noticed() -> None:
    """Its path is in the message."""
    before = Resources.now()
    with tempfile.NamedTemporaryFile(prefix="left-over"), pytest.raises(AssertionError, match="left-over"):
        before.check_given_back(timeout_seconds=0)
    before.check_given_back(timeout_seconds=0)


def test_an_open_socket_is_noticed() -> None:
    """It counts also when it is not connected."""
    before = Resources.now()
    with socket.socket(), pytest.raises(AssertionError, match="descriptor"):
        before.check_given_back(timeout_seconds=0)
    before.check_given_back(timeout_seconds=0)


def test_what_ends_shortly_after_the_test_is_waited_for() -> None:
    """A thread that is on its way out is no leak."""
    before, end = Resources.now(), threading.Event()
    threading.Thread(target=end.wait).start()
    timer = threading.Timer(0.05, end.set)
    timer.start()
    before.check_given_back()
    assert not timer.is_alive()
