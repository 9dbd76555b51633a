"""`runs`, `tail`, `export` and `status` against real servers, also such as stop."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import pytest

from doubles import DEADLINE_SECONDS
from execution_logger import ExecutionLogger, Settings
from processes import LocalProcess
from rows import fetch, upgrade_database
from servers import PostgresServer, RedisServer
from waiting import wait_until
from workers import WorkerProcess

COMMAND = (sys.executable, "-P", "-m", "execution_logger.cli")

START = "2026-11-22T02:00:00Z"
INSERT = f"""
    INSERT INTO execution_logs (id, task_id, level, category, message, details, created_at)
    SELECT gen_random_uuid(), $1, 'info', 'agent', n::text, '{{"k": "v"}}',
        timestamptz '{START}' + n * interval '1 ms'
    FROM generate_series($2::int, $3::int) n
"""


def run(database_url: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        check=False,
        env={**os.environ, "DATABASE_URL": database_url, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def insert(url: str, task_id: str, first: int, last: int) -> None:
    """Store entries whose messages are their numbers, a millisecond apart."""
    fetch(url, INSERT, task_id, first, last)


class Following:
    """`execution-logger tail ... --follow` in a process of its own."""

    def __init__(self, folder: Path, database_url: str, *arguments: str) -> None:
        self._output = folder / "output.txt"
        self.process = LocalProcess(
            [*COMMAND, "tail", *arguments, "--follow", "--json"],
            output=self._output,
            environment={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                "DATABASE_URL": database_url,
                # A busy machine is no outage.
                "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS": "30",
            },
        )

    @property
    def messages(self) -> list[int]:
        """The numbers that were shown."""
        return [
            int(json.loads(line)["message"])
            for line in self.process.output.splitlines()
            if line.startswith("{") and line.endswith("}")
        ]

    @property
    def remarks(self) -> list[str]:
        """All other lines."""
        return [line for line in self.process.output.splitlines() if not line.startswith("{")]

    def wait_for(self, messages: list[int]) -> None:
        """Wait until exactly these were shown, in any order."""
        wait_until(
            lambda: len(self.messages) >= len(messages),
            20,
            message=lambda: self.process.output,
            pause_seconds=0.05,
        )
        assert sorted(self.messages) == sorted(messages)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()


def test_following_goes_on_through_a_restart_of_the_database(
    own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Nothing is missed and nothing shown twice; the outage is said once; Ctrl-C ends it in order."""
    url = own_postgres_server.url()
    upgrade_database(url)
    insert(url, "t", 100, 102)
    with Following(tmp_path, url, "t", "--lines", "2") as following:
        following.wait_for([101, 102])
        insert(url, "t", 103, 500)
        following.wait_for([*range(101, 501)])
        own_postgres_server.stop()
        wait_until(lambda: following.remarks, 20)
        own_postgres_server.start()
        insert(url, "t", 1, 5)
        insert(url, "t", 501, 505)
        following.wait_for([*range(1, 6), *range(101, 506)])
        wait_until(lambda: len(following.remarks) == 2, message=lambda: str(following.remarks))
        following.process.send_signal(signal.SIGINT)
        assert following.process.wait() == 130
        assert len(following.remarks) == 3, following.remarks
        outage, end, interrupted = following.remarks
        assert outage.endswith("It goes on when the database answers.")
        assert end == "execution-logger: the database answers again."
        assert interrupted == "execution-logger: interrupted"


def test_following_a_run_while_it_is_logged(
    redis_server: RedisServer, redis_url: str, database_url: str, tmp_path: Path
) -> None:
    """From before its first call, through a real worker, while another process's entries come late."""
    worker = WorkerProcess(environment={"CELERY_BROKER_URL": redis_url, "DATABASE_URL": database_url})
    early = ExecutionLogger(Settings(broker_url=redis_url, queue="away"))
    logger = ExecutionLogger(Settings(broker_url=redis_url, batch_size=10))
    with Following(tmp_path, database_url, "t") as following, worker:
        for number in range(5):
            early.sync.info("t", "c", str(1000 + number))
        assert early.sync.flush(DEADLINE_SECONDS).complete
        for number in range(100):
            logger.sync.info("t", "c", str(number))
        assert logger.sync.flush(DEADLINE_SECONDS).complete
        following.wait_for([*range(100)])
        with redis_server.client() as client:
            client.rename("away", "logs")
        following.wait_for([*range(100), *range(1000, 1005)])
    assert following.messages[:100] == [*range(100)]
    for each in (early, logger):
        each.sync.shutdown()


def peak_of_export(database_url: str, name: str, folder: Path) -> int:
    """Export a run as CSV; the most memory that it takes."""
    process = subprocess.Popen(
        [*COMMAND, "export", name, "--format", "csv", "--output", folder / f"{name}.csv"],
        env={**os.environ, "DATABASE_URL": database_url},
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss


def test_a_large_run_is_exported_with_little_memory(database_url: str, tmp_path: Path) -> None:
    """Whole and in order, in both formats; ten times the entries take no more memory."""
    insert(database_url, "small", 1, 3000)
    insert(database_url, "large", 1, 60_000)
    peaks = [peak_of_export(database_url, name, tmp_path) for name in ("small", "large")]
    with (tmp_path / "large.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [int(row["message"]) for row in csv.DictReader(file)] == [*range(1, 60_001)]
    assert peaks[1] < peaks[0] * 1.15


def test_an_export_stops_with_its_reader(database_url: str) -> None:
    """`| head` gets its line, and nobody a traceback."""
    insert(database_url, "t", 1, 5000)
    script = f"{' '.join(COMMAND)} export t | head -n 1"
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "DATABASE_URL": database_url},
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert json.loads(done.stdout)["message"] == "1"
    assert done.stderr == ""


def test_a_disk_that_is_full_leaves_no_half_of_a_file(database_url: str, tmp_path: Path) -> None:
    """What was there stays."""
    insert(database_url, "t", 1, 5000)
    path = tmp_path / "run.ndjson"
    path.write_text("before")

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [*COMMAND, "export", "t", "--output", str(path)],
        check=False,
        env={**os.environ, "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        preexec_fn=small_files,
        timeout=300,
    )
    assert done.returncode == 3
    assert done.stderr == f"execution-logger: {path} cannot be written: File too large\n"
    assert [file.name for file in tmp_path.iterdir()] == ["run.ndjson"]
    assert path.read_text() == "before"


HOSTS_TABLE = """
    CREATE TABLE execution_logs (
        id varchar(36) PRIMARY KEY, task_id varchar(36), level varchar(10), category varchar(20),
        message text, details json, created_at timestamp
    )
"""


def test_a_hosts_own_table_is_read(postgres_url: str) -> None:
    """With texts as ids, local times, no step and no index."""
    fetch(postgres_url, HOSTS_TABLE)
    upgrade_database(postgres_url)
    fetch(
        postgres_url,
        "INSERT INTO execution_logs SELECT n::text, 'run-' || n % 3, "
        "CASE n WHEN 7 THEN 'error' ELSE 'info' END, 'agent', n::text, "
        " '{\"step\": \"s\"}', timestamp '2026-11-22 10:00:00' + n * interval '1 s' "
        "FROM generate_series(1, 9) n",
    )
    zone = {"EXECUTION_LOGGER_TIME_ZONE": "Asia/Shanghai"}
    found = json.loads(run(postgres_url, "runs", "--json", **zone).stdout)
    assert [entry["task_id"] for entry in found["runs"]] == ["run-0", "run-2", "run-1"]
    assert found["runs"][2]["first_at"] == "2026-11-22T02:00:01+00:00"
    assert (found["runs"][2]["errors"], found["runs"][2]["last_step"]) == (1, "s")
    lines = run(postgres_url, "tail", "run-1", **zone).stdout.splitlines()
    assert lines[1].startswith("02:00:01.000 INFO     s ")
    assert run(postgres_url, "export", "run-1", **zone).stdout.count("\n") == 3


@pytest.fixture
def large_table(database_url: str) -> str:
    """A database with 300,000 rows of 3,000 runs, and one of 10,000 that is the newest."""
    fetch(
        database_url,
        "INSERT INTO execution_logs (id, task_id, level, category, message, created_at) "
        "SELECT gen_random_uuid(), 'run-' || n / 5000 * 50 + n % 50, "
        "CASE WHEN n = 77 THEN 'error' ELSE 'info' END, 'agent', 'm', "
        f" '{START}'::timestamptz + n * interval '1 s' FROM generate_series(1, 300000) n",
    )
    fetch(
        database_url,
        "INSERT INTO execution_logs (id, task_id, level, category, message, created_at) "
        "SELECT gen_random_uuid(), 'long', 'info', 'agent', 'm', "
        f"'{START}'::timestamptz + (300000 + n) * interval '1 s' FROM generate_series(1, 10000) n",
    )
    fetch(database_url, "ANALYZE execution_logs")
    return database_url


def test_runs_of_a_large_table_are_found_by_its_indexes(large_table: str) -> None:
    """Nothing that is recent or belongs to one run takes a look at all rows."""
    scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'execution_logs'"
    (before,) = fetch(large_table, scans)
    found = json.loads(run(large_table, "runs", "--json", "--limit", "3").stdout)
    assert [entry["task_id"] for entry in found["runs"]] == ["long", "run-3000", "run-2999"]
    assert run(large_table, "tail", "long", "--level", "error").returncode == 0
    assert run(large_table, "tail", "run-1").returncode == 0
    assert fetch(large_table, scans) == [before]
    found = json.loads(run(large_table, "runs", "--json", "--errors").stdout)
    assert [(entry["task_id"], entry["errors"]) for entry in found["runs"]] == [("run-27", 1)]
    assert found["is_complete"]


def read_status(environment: dict[str, str]) -> tuple[dict[str, Any], float]:
    """What `status --json` says, and how many seconds it takes for that."""
    began = time.monotonic()
    done = run(environment["DATABASE_URL"], "status", "--json", "--timeout", "60", **environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found, time.monotonic() - began


@pytest.fixture
def servers(
    own_redis_server: RedisServer, own_postgres_server: PostgresServer
) -> tuple[RedisServer, PostgresServer]:
    """Two that may be harmed."""
    upgrade_database(own_postgres_server.url())
    return own_redis_server, own_postgres_server


def test_status_tells_the_age_of_what_is_not_written(servers: tuple[RedisServer, PostgresServer]) -> None:
    """In the queue, where no journal of this machine has it; what hangs hides nothing else."""
    redis, postgres = servers
    environment = {"CELERY_BROKER_URL": redis.url(), "DATABASE_URL": postgres.url()}
    logger = ExecutionLogger(Settings(broker_url=redis.url(), journal=False))
    entry = logger.sync.info("t", "c", "m")
    assert logger.sync.flush(DEADLINE_SECONDS).complete
    found, _ = read_status(environment)
    assert found["journal"]["facts"]["entries"] == 0
    assert found["broker"]["facts"]["oldest"] == str(entry.created_at)
    assert found["unwritten"]["facts"]["oldest"] == str(entry.created_at)
    redis.pause()
    postgres.pause()
    found, seconds = read_status(environment)
    assert "Timeout" in found["broker"]["error"]
    assert "no answer" in found["database"]["error"]
    assert found["journal"]["error"] is None
    assert found["database"]["facts"]["table"] == "execution_logs"
    assert seconds < 60, "it hangs with what it asks"
    postgres.resume()
    redis.resume()
    logger.sync.shutdown()


def test_watching_outlives_what_it_watches(
    servers: tuple[RedisServer, PostgresServer], tmp_path: Path
) -> None:
    """Both servers go and come back; Ctrl-C ends it in order."""
    redis, postgres = servers
    environment = {"CELERY_BROKER_URL": redis.url(), "DATABASE_URL": postgres.url(), "PYTHONUNBUFFERED": "1"}
    watching = LocalProcess(
        [*COMMAND, "status", "--watch", "0.5", "--json"],
        output=tmp_path / "output.txt",
        environment={**os.environ, **environment},
    )

    def silent_parts() -> set[str] | None:
        lines = watching.output.splitlines()
        parts = json.loads(lines[-1])["parts"] if lines else None
        return parts and {name for name, part in parts.items() if part["error"]}

    try:
        wait_until(lambda: silent_parts() == set(), 20, message=lambda: watching.output)
        redis.kill()
        postgres.kill()
        wait_until(lambda: silent_parts() == {"unwritten", "broker", "workers", "database", "jobs"}, 20)
        redis.start()
        postgres.start()
        wait_until(lambda: silent_parts() == set(), 20)
        watching.send_signal(signal.SIGINT)
        assert watching.wait() == 130
        assert watching.output.splitlines()[-1] == "execution-logger: interrupted"
    finally:
        watching.kill()
