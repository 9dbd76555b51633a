"""The scripts: what starts the services, prepares Redis, and tries the whole system."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from rows import count_rows, upgrade_database
from server import free_port
from servers import RedisServer
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


def run(environment: dict[str, str], name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a script to its end."""
    return subprocess.run(
        [SCRIPTS / name, *arguments], check=False, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_beat_is_started_in_the_place_of_its_script(environment: dict[str, str]) -> None:
    """A service manager's SIGTERM reaches Beat, which ends in order."""
    beat = WorkerProcess((str(SCRIPTS / "start_celery_beat.sh"),), environment=environment)
    try:
        beat.start(ready="beat: Starting...")
        assert psutil.Process(beat.pid).cmdline()[-1] == "beat"
        beat.process.send_signal(signal.SIGTERM)
        assert beat.process.wait() == 0
    finally:
        beat.close()


def test_beat_says_when_nothing_is_installed(tmp_path: Path) -> None:
    """One line says what to install."""
    done = run({"VIRTUAL_ENV": str(tmp_path), "PATH": "/usr/bin:/bin"}, "start_celery_beat.sh")
    assert done.returncode == 1
    assert "pip install '.[worker]'" in done.stderr


@pytest.fixture
def bad_redis(environment: dict[str, str]) -> Iterator[RedisServer]:
    """One that loses what is queued, with a password and a user who may not configure it."""
    with RedisServer(appendonly="no", maxmemory="50mb", maxmemory_policy="allkeys-lru") as server:
        with server.client() as client:
            client.acl_setuser("mere", enabled=True, passwords=["+mere"], keys=["*"], channels=["*"],
                               commands=["+@all", "-config"])  # fmt: skip
            client.config_set("requirepass", "p:w/d")
        environment["CELERY_BROKER_URL"] = f"redis://:p%3Aw%2Fd@127.0.0.1:{server.port}/0"
        yield server


def test_redis_is_checked_and_made_fit(environment: dict[str, str], bad_redis: RedisServer) -> None:
    """Each finding says what to do; what was done is shown, and a second time there is nothing to do."""
    checked = run(environment, "check_redis_env.py")
    assert checked.returncode == 1
    assert f"redis://127.0.0.1:{bad_redis.port}/0" in checked.stdout
    assert "allkeys-lru" in checked.stdout
    assert "set maxmemory-policy noeviction" in checked.stderr
    assert "set appendonly yes" in checked.stderr

    planned = run(environment, "init_redis.sh", "--dry-run", "--maxmemory", "64mb")
    assert planned.returncode == 0
    assert "maxmemory-policy allkeys-lru -> noeviction (not set: --dry-run)" in planned.stdout
    assert run(environment, "check_redis_env.py").returncode == 1

    done = run(environment, "init_redis.sh", "--maxmemory", "64mb")
    assert "appendonly no -> yes\n" in done.stdout
    assert "maxmemory-policy allkeys-lru -> noeviction\n" in done.stdout
    assert f"maxmemory {50 * 2**20} -> {64 * 2**20}\n" in done.stdout
    assert done.returncode == 1, "a server without redis.conf forgets it"
    assert "has no redis.conf: its next restart forgets" in done.stderr
    again = run(environment, "init_redis.sh", "--maxmemory", "64mb")
    assert (again.returncode, again.stderr) == (0, "")
    assert "->" not in again.stdout
    fit = run(environment, "check_redis_env.py")
    assert (fit.returncode, fit.stderr) == (0, "")
    texts = [checked, planned, done, again, fit]
    assert not any("p:w/d" in text or "p%3A" in text for each in texts for text in (each.stdout, each.stderr))


def test_what_may_not_be_set_is_said(environment: dict[str, str], bad_redis: RedisServer) -> None:
    """As with Redis that somebody else looks after."""
    environment["CELERY_BROKER_URL"] = f"redis://mere:mere@127.0.0.1:{bad_redis.port}/0"
    done = run(environment, "init_redis.sh")
    assert done.returncode == 1
    assert "appendonly: cannot be read (NOPERM" in done.stderr
    assert "set it to yes where this Redis is configured" in done.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://127.0.0.1:1/0", "Connection refused"),
        ("sentinel://127.0.0.1:26379", "needs redis:// or rediss://"),
        ("redis://:secret[@host", "must be a URL such as"),
    ],
)
def test_a_redis_that_cannot_be_prepared_is_named(environment: dict[str, str], url: str, said: str) -> None:
    """In one line, without its password."""
    done = run({**environment, "CELERY_BROKER_URL": url}, "init_redis.sh")
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_the_whole_system_is_tried(environment: dict[str, str], redis_server: RedisServer) -> None:
    """From an empty database to rows and a page; afterwards nothing of it is left."""
    done = run(environment, "test_celery_system.py")
    assert done.returncode == 0, done.stdout
    steps = [line.split()[:2] for line in done.stdout.splitlines()[:-1]]
    assert steps == [
        ["ok", name] for name in ("broker", "database", "worker", "beat", "batch", "flower", "clean")
    ]
    assert "50 calls were rows" in done.stdout
    assert count_rows(environment["DATABASE_URL"]) == 0
    with redis_server.client() as client:
        assert not [key for key in client.scan_iter() if "trial" in key or "task-meta" in key]
    own = re.compile(r"\btrial-[0-9a-f]{8}")  # browsers have words that begin so, too
    assert not [each for each in psutil.process_iter(["cmdline"]) if own.search(str(each.info["cmdline"]))]


def test_a_system_that_does_not_work_is_told_step_by_step(environment: dict[str, str]) -> None:
    """What needs the broken part is not tried; the rest is."""
    upgrade_database(environment["DATABASE_URL"])
    done = run({**environment, "CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}, "test_celery_system.py")
    assert done.returncode == 1
    steps = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert steps["broker"].startswith("failed")
    assert "Connection refused" in steps["broker"]
    assert steps["database"].startswith("ok")
    assert steps["worker"].startswith("skipped")
    assert steps["worker"].endswith("broker does not work")
