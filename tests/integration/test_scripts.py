"""The scripts that start a worker and Flower."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from server import free_port
from waiting import wait_until
from workers import WorkerProcess

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def environment(redis_url: str, postgres_url: str) -> dict[str, str]:
    """The tests' own Python counts as the active virtual environment."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "VIRTUAL_ENV": sys.prefix,
        "CELERY_BROKER_URL": redis_url,
        "DATABASE_URL": postgres_url,
    }


def test_the_worker_replaces_its_script(environment: dict[str, str]) -> None:
    """A service manager's SIGTERM reaches the worker, which ends in order."""
    command = (str(SCRIPTS / "start_celery_worker.sh"), "--hostname", "scripted@%h")
    environment["EXECUTION_LOGGER_WORKER_CONCURRENCY"] = "3"
    with WorkerProcess(command, environment=environment) as worker:
        assert "celery" in " ".join(psutil.Process(worker.pid).cmdline())
        assert "scripted@" in worker.output
        assert "concurrency: 3 (thread)" in worker.output
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait() == 0


def test_the_worker_listens_on_the_configured_queue(environment: dict[str, str]) -> None:
    """The queue of the senders and of the worker is one setting."""
    environment["EXECUTION_LOGGER_QUEUE"] = "other"
    with WorkerProcess((str(SCRIPTS / "start_celery_worker.sh"),), environment=environment) as worker:
        assert ".> other" in worker.output
        assert ".> logs" not in worker.output


def test_flower_shows_the_queue_and_leaves_the_workers_events_off(environment: dict[str, str]) -> None:
    """It needs no worker for that, and never makes one send events, which would nearly halve its speed."""
    port = str(free_port())
    command = (str(SCRIPTS / "start_flower.sh"), "--logging=info")
    flower = WorkerProcess(command, environment={**environment, "FLOWER_PORT": port})
    try:
        flower.start(ready="Visit me at")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            assert client.get("/healthcheck").text == "OK"
            wait_until(lambda: ">logs<" in "".join(client.get("/broker").text.split()))
        assert "--enable_events=False" in psutil.Process(flower.pid).cmdline()
    finally:
        flower.close()


def test_flower_says_when_it_is_not_installed(tmp_path: Path) -> None:
    """One line says what to install."""
    (tmp_path / "flower.py").write_text("raise ImportError")
    environment = {**os.environ, "VIRTUAL_ENV": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    script = SCRIPTS / "start_flower.sh"
    done = subprocess.run([script], check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install flower" in done.stderr
