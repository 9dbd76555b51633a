"""The name of a process: unique, fit for a file, and telling people which one it is."""

import os
import re
import socket

import pytest

from children import in_fork, run_script
from execution_logger.journal.process import file_name, is_child, process_name


def test_it_tells_the_host_and_the_process() -> None:
    """For whoever finds it in a ledger or on a disk."""
    name = process_name()
    assert f"-{os.getpid()}-" in name
    assert name.startswith(file_name(socket.gethostname()))


def test_no_two_are_the_same() -> None:
    """Not even of one process, whose number another one may have had before it."""
    assert len({process_name() for _ in range(1000)}) == 1000


def test_a_forked_child_has_one_of_its_own() -> None:
    """With its own number."""
    assert in_fork(lambda: f"-{os.getpid()}-" in process_name())


def test_a_process_knows_the_names_of_its_children() -> None:
    """And those of no others: not its own, its parent's or its grandchildren's."""
    child, grandchild = in_fork(lambda: (process_name(), in_fork(process_name)))
    assert is_child(child)
    assert not any(is_child(name) for name in (process_name(), grandchild, f"other{child}", "", "damaged"))
    assert not in_fork(lambda: is_child(child))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_however_it_has_started_them(method: str) -> None:
    """A server that forks on its behalf is not their parent."""
    printed = run_script(
        f"""
        import multiprocessing
        from execution_logger.journal.process import is_child, process_name
        if __name__ == "__main__":
            with multiprocessing.get_context("{method}").Pool(1) as pool:
                print(is_child(pool.apply(process_name)), is_child(process_name()))
        """
    )
    assert printed.splitlines() == ["True False"]


@pytest.mark.parametrize(
    "host", ["web-1.example.com", "", "..", "a/b\\c", "Büro 学", "x" * 300, "\0\n", "CON:", "~root"]
)
def test_any_host_makes_a_name_for_a_file(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of at most 100 characters that every file system and every log takes, and never a hidden one."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    name = process_name()
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", name)


@pytest.mark.parametrize(
    ("text", "name"),
    [("logs", "logs"), ("a b", "a_b"), ("..", "_"), (".hidden", "hidden"), ("", "_"), ("x" * 50, "x" * 40)],
)
def test_a_text_as_a_part_of_a_files_name(text: str, name: str) -> None:
    """Nothing of it can lead to another folder."""
    assert file_name(text) == name
