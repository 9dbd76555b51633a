"""The example host, started as its users start it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from processes import LocalProcess
from scraping import parse
from server import free_port
from waiting import wait_until
from workers import WorkerProcess

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def environment(redis_url: str, database_url: str) -> dict[str, str]:
    """Where host and worker meet."""
    return {"CELERY_BROKER_URL": redis_url, "DATABASE_URL": database_url}


@pytest.fixture
def host(environment: dict[str, str], tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of the running example; its folder holds nothing but a link to the examples."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "examples.fastapi_app:app", "--port", str(port)]
    process = LocalProcess(
        command, output=tmp_path / "output.txt", environment={**os.environ, **environment}, folder=tmp_path
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        try:
            wait_until(lambda: "Uvicorn running" in process.output, 30, message=lambda: process.output)
            yield client
            process.stop()
        finally:
            process.kill()
            print(process.output)


def test_a_run_of_the_fastapi_example_is_read_back(host: httpx.Client, environment: dict[str, str]) -> None:
    """What the workflow logged comes back from the database, complete and newest first."""

    def read_run() -> dict[str, Any]:
        found: dict[str, Any] = host.get(f"/runs/{task_id}").raise_for_status().json()
        return found

    with WorkerProcess(environment=environment):
        task_id = host.post("/runs", params={"topic": "asyncio"}).raise_for_status().json()["task_id"]
        wait_until(lambda: read_run()["summary"]["total_logs"] == 5, 20)
    run = read_run()
    assert run["summary"]["category_stats"] == {"workflow": 2, "agent": 2, "tool": 1}
    assert [step["message"] for step in run["steps"]] == [
        "Planned", "3 sources", "outline 完成", "outline 开始", "Planning asyncio",
    ]  # fmt: skip
    assert run["steps"][2]["details"] == {"chapters": 3}
    assert run["steps"][2]["duration_ms"] >= 50
    assert host.get("/health").json()["waiting"] == 0
    metrics = parse(host.get("/metrics", follow_redirects=True).raise_for_status().text)
    assert metrics["execution_logger_entries_accepted_total"] == 5
