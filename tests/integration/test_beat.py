"""Beat against real brokers, with a job that is due every second."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import RedisServer
from waiting import wait_until
from workers import WorkerProcess

COMMAND = (sys.executable, "-P", "-m", "execution_logger.cli", "beat")

WITH_A_JOB = """
import sys
from execution_logger.cli import beat, main

create_client = beat.create_client

def create_app_with_a_job(settings):
    app = create_client(settings)
    job = {"task": "a.job", "schedule": 1.0, "options": {"queue": "jobs", "ignore_result": True}}
    app.conf.beat_schedule = {"job": job}
    return app

beat.create_client = create_app_with_a_job
main(["beat"])
"""
"""The command as it is, except for its schedule."""


class Site:
    """A Beat, and the queue that it sends to."""

    def __init__(self, folder: Path) -> None:
        self.redis = RedisServer()
        environment = {
            "CELERY_BROKER_URL": self.redis.url(),
            "DATABASE_URL": "sqlite:///unused.db",
            "EXECUTION_LOGGER_SERVICE_DIRECTORY": str(folder),
        }
        command = (sys.executable, "-P", "-c", WITH_A_JOB)
        self.beat = WorkerProcess(command, environment=environment)

    def sent(self) -> int:
        """How many jobs are in the queue."""
        with self.redis.client() as client:
            return int(client.llen("jobs"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site whose broker is not there yet."""
    site = Site(tmp_path)
    yield site
    site.beat.close()
    site.redis.close()


def test_beat_waits_for_a_broker_that_is_away(site: Site) -> None:
    """At its start and in the middle; each time it goes on by itself, and a signal ends it at once."""
    site.beat.start(ready="Connection error")
    site.redis.start()
    wait_until(site.sent, 20)
    site.redis.kill()
    wait_until(lambda: "waits for the broker, the next attempt is in" in site.beat.output, 20)
    site.redis.start()
    before = site.sent()
    wait_until(lambda: site.sent() > before, 30)
    site.redis.pause()
    site.beat.process.send_signal(signal.SIGTERM)
    assert site.beat.process.wait(5) == 0
    site.redis.resume()
    assert "Traceback" not in site.beat.output
    assert not list(site.beat.folder.glob("celerybeat*")), "nothing is left in the current folder"


@pytest.fixture
def environment(redis_url: str, tmp_path: Path) -> dict[str, str]:
    """What the command needs."""
    return {
        "CELERY_BROKER_URL": redis_url,
        "DATABASE_URL": "sqlite:///unused.db",
        "EXECUTION_LOGGER_SERVICE_DIRECTORY": str(tmp_path),
    }


def test_a_second_beat_is_refused_for_as_long_as_the_first_one_lives(environment: dict[str, str]) -> None:
    """The lock is the process's own: it is free as soon as that is dead."""
    beat = WorkerProcess(COMMAND, environment=environment)
    try:
        beat.start(ready="beat: Starting...")
        second = subprocess.run(
            COMMAND,
            check=False,
            env=beat.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert second.returncode == 2
        assert "Beat runs already (" in second.stderr
        beat.kill()
        beat.start(ready="beat: Starting...")
        beat.process.send_signal(signal.SIGTERM)
        assert beat.process.wait() == 0
    finally:
        beat.close()


def test_beat_does_not_outlive_the_process_that_started_it(environment: dict[str, str]) -> None:
    """Nobody would know of it, and the next one would be refused."""
    with subprocess.Popen(
        [*COMMAND, "--stop-at-eof"], env={**os.environ, **environment}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as beat:  # fmt: skip
        assert beat.stdout is not None
        assert beat.stdin is not None
        while b"beat: Starting..." not in beat.stdout.readline():
            assert beat.poll() is None
        beat.stdin.close()
        assert beat.wait(60) == 0
