"""The worker processes that the other tests rely on, with the smallest Celery application."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from waiting import wait_until
from workers import WorkerProcess

SMALL_APPLICATION = """
import os
from celery import Celery

app = Celery(broker=os.environ["BROKER"], backend=os.environ["BROKER"])

@app.task(name="add")
def add(a, b):
    return a + b
"""

CELERY = (sys.executable, "-m", "celery", "-A", "small")
COMMAND = (*CELERY, "worker", "-c", "1", "-l", "INFO", "--without-mingle")


@pytest.fixture
def worker(redis_url: str) -> Iterator[WorkerProcess]:
    """A worker of the small application that is not started yet."""
    worker = WorkerProcess(COMMAND, environment={"BROKER": redis_url})
    (worker.folder / "small.py").write_text(SMALL_APPLICATION)
    yield worker
    worker.close()


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_works_and_starts_again_after_its_death(worker: WorkerProcess, pool: str) -> None:
    """It is ready when `start()` returns, and a killed one leaves no child alive."""
    worker.command = (*COMMAND, "-P", pool)
    worker.start()
    assert call(worker, "add", 2, 3).endswith(": 5")
    children = psutil.Process(worker.pid).children(recursive=True)
    worker.kill()
    assert not any(is_alive(child) for child in children)
    worker.start()
    assert call(worker, "add", 3, 4).endswith(": 7")
    assert worker.output.count("ready.") == 2


def test_a_worker_that_cannot_start_says_why() -> None:
    """What it printed is in the error."""
    with pytest.raises(RuntimeError, match="no_such_module"):
        WorkerProcess((sys.executable, "-m", "no_such_module"), environment={}).__enter__()


def test_a_stopped_worker_has_ended(worker: WorkerProcess) -> None:
    """A paused one ends too: it is resumed for that."""
    worker.start()
    worker.pause()
    worker.stop()
    assert worker.process.wait() == 0
    assert "ready." in worker.output


def test_children_of_a_main_process_that_died_alone_end_as_well(worker: WorkerProcess) -> None:
    """`kill()` ends the whole group, also when nobody is left to ask."""
    worker.start()
    children = psutil.Process(worker.pid).children(recursive=True)
    worker.process.send_signal(signal.SIGKILL)
    assert worker.process.wait() == -signal.SIGKILL
    worker.kill()
    wait_until(lambda: not any(is_alive(child) for child in children))


def call(worker: WorkerProcess, task: str, *arguments: int) -> str:
    """Have the worker do a task; the line that it logs about its result."""
    command = [*CELERY, "call", task, f"--args={list(arguments)}"]
    done = subprocess.run(
        command, check=True, cwd=worker.folder, env=worker.environment, capture_output=True, text=True
    )
    succeeded = f"{done.stdout.strip()}] succeeded in"
    wait_until(lambda: succeeded in worker.output, message=lambda: worker.output)
    return next(line for line in worker.output.splitlines() if succeeded in line)


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; an orphan that ended stays a zombie for a while."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
