"""A run that crosses a web application, Celery tasks, a thread and a sub-task is one tree in the database."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

import httpx
import pytest
import redis

from processes import LocalProcess
from rows import fetch
from server import free_port
from servers import RedisServer
from waiting import wait_until
from workers import WorkerProcess

TREE = [
    ("request 开始", None),
    ("request 完成", None),
    ("research 开始", "request"),
    ("search 开始", "research"),
    ("asking the index", "search"),
    ("search 完成", "research"),
    ("summarize 开始", "research"),
    ("writing", "summarize"),
    ("summarize 完成", "research"),
    ("research 完成", "request"),
]
"""Of each entry the message, and the operation within which it was recorded."""

CELERY = (sys.executable, "-m", "celery", "-A", "integration.bound_host")
HOST = (*CELERY, "worker", "-l", "INFO", "--without-mingle")


@pytest.fixture
def environment(redis_server: RedisServer, redis_url: str, database_url: str) -> dict[str, str]:
    """Of the library and of the host, each with a broker of its own."""
    return {
        "CELERY_BROKER_URL": redis_url,
        "DATABASE_URL": database_url,
        "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS": "2",
        "EXECUTION_LOGGER_FLUSH_INTERVAL_SECONDS": "0.1",
        "EXECUTION_LOGGER_VISIBILITY_TIMEOUT_SECONDS": "10",
        "HOST_BROKER": redis_server.url(1),
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }


class Web:
    """The host's web application under uvicorn; killed at the end of the block."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "uvicorn", "integration.bound_host:web", "--port", str(self.port)]
        self.process = LocalProcess(
            command, output=folder / "web.txt", environment={**os.environ, **environment}, folder=folder
        )

    def begin(self, task_id: str) -> None:
        """Ask for a run, as soon as it serves."""
        wait_until(lambda: "Uvicorn running" in self.process.output, 30, message=lambda: self.process.output)
        httpx.post(f"http://127.0.0.1:{self.port}/runs/{task_id}", timeout=60).raise_for_status()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        print(self.process.output)


def tree_of(database_url: str, task_id: str) -> list[tuple[str, str | None]]:
    """That of a run, by time."""
    statement = "SELECT * FROM execution_logs WHERE task_id = $1 ORDER BY created_at, id"
    rows = fetch(database_url, statement, task_id)
    names: dict[object, str | None] = {
        row["operation_id"]: row["message"].split()[0] for row in rows if row["operation_id"]
    }
    names[None] = None
    # Batches of several processes come in any order: a parent may not be stored yet.
    return [(row["message"], names.get(row["parent_id"], "not stored yet")) for row in rows]


def wait_for_tasks(url: str, count: int) -> None:
    """Until so many tasks of the host's have ended."""
    with redis.Redis.from_url(url) as client:
        wait_until(lambda: len(client.keys("celery-task-meta-*")) == count, 60)


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_a_run_is_one_tree(environment: dict[str, str], database_url: str, tmp_path: Path, pool: str) -> None:
    """In every pool of Celery's."""
    command = (*HOST, "-Q", "research,summarize", "-P", pool, "-c", "2")
    with (
        WorkerProcess(environment=environment),
        WorkerProcess(command, environment=environment),
        Web(environment, tmp_path) as web,
    ):
        web.begin("run-1")
        wait_until(lambda: len(tree_of(database_url, "run-1")) >= len(TREE), 60)
        web.process.stop()
    # With a free place in the pool a sub-task may be over before its sender is.
    assert sorted(tree_of(database_url, "run-1"), key=str) == sorted(TREE, key=str)


@pytest.mark.slow
def test_each_process_is_killed_once(environment: dict[str, str], database_url: str, tmp_path: Path) -> None:
    """In between, with all entries still on the disk: the web application, the host's workers, and ours."""
    late = {**environment, "EXECUTION_LOGGER_FLUSH_INTERVAL_SECONDS": "600"}
    with Web(late, tmp_path) as web:
        web.begin("run-1")
    for count, queue in enumerate(("research", "summarize"), start=1):
        with WorkerProcess((*HOST, "-Q", queue, "-c", "1"), environment=late) as worker:
            wait_for_tasks(environment["HOST_BROKER"], count)
            worker.kill()
    with WorkerProcess(environment=environment) as ours:
        recover = [sys.executable, "-m", "execution_logger.cli", "recover"]
        subprocess.run(recover, env={**os.environ, **late}, check=True, timeout=300)
        ours.kill()
        ours.start()
        wait_until(lambda: len(tree_of(database_url, "run-1")) >= len(TREE), 60)
    assert sorted(tree_of(database_url, "run-1"), key=str) == sorted(TREE, key=str)


def test_a_task_that_is_killed_or_called_off(environment: dict[str, str], database_url: str) -> None:
    """The worker's main process says it: nobody else can."""

    def celery(*words: str) -> str:
        command, variables = (*CELERY, *words), {**os.environ, **environment}
        return subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout

    def wait_for(message: str, task_id: str) -> None:
        wait_until(
            lambda: any(message in each for each, _ in tree_of(database_url, task_id)),
            message=lambda: str(tree_of(database_url, task_id)),
        )

    command = (*HOST, "-Q", "celery", "-P", "prefork", "-c", "1")
    with WorkerProcess(environment=environment), WorkerProcess(command, environment=environment):
        wait_for("die 失败: Worker exited prematurely", celery("call", "die").strip())
        wait_for("take_long 开始", task_id := celery("call", "take_long").strip())
        celery("control", "terminate", "SIGTERM", task_id)
        wait_for("take_long 失败: SystemExit(", task_id)
        wait_for("take_long 已撤销: terminated by 15", task_id)
