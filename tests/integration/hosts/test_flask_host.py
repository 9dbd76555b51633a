"""The Flask host, driven over HTTP: its API, its servers and pools, and what breaks in the middle of work."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from celery import Celery

from example_host import ExampleHost
from rows import fetch, upgrade_database
from scraping import parse
from servers import PostgresServer, RedisServer
from waiting import wait_until

pytestmark = pytest.mark.slow

TOKEN = "of-the-testers"
SERVERS = {
    "sync": "gunicorn --bind 127.0.0.1:$PORT --workers 2 flask_host.app:app",
    "waitress": "waitress-serve --listen=127.0.0.1:$PORT flask_host.app:app",
}
"""Beside gunicorn's gthread, which is in the Procfile as `web`."""
SMOKE = {
    "name": "smoke",
    "requests": [
        {"path": "/health", "expect": {"text": "ok", "fields": {"status": "ok"}}},
        {"path": "/api/v1/web-test/scripts/999/status", "expect": {"status": 404}},
    ],
}
LOAD = {"name": "load", "user_count": 3, "spawn_rate": 50, "run_time": 0.5, "pause_seconds": 0.05}
ENDED = ("passed", "failed", "stopped", "error")


def slow(seconds: float, requests: int = 1) -> dict[str, Any]:
    """A script whose requests come after a pause."""
    return {"name": "slow", "requests": [{"path": "/health", "wait_seconds": seconds}] * requests}


@dataclass
class Case:
    """A script or a scenario of a running host."""

    host: ExampleHost
    path: str

    @classmethod
    def create(cls, host: ExampleHost, definition: Mapping[str, Any]) -> Self:
        """A new one."""
        kind = "web-test/scripts" if "requests" in definition else "perf-test/scenarios"
        answer = host.client.post(f"/api/v1/{kind}", json=definition)
        assert answer.status_code == 201, answer.text
        return cls(host, f"/api/v1/{kind}/{answer.json()['id']}")

    def start(self, **body: Any) -> str:
        """Run it; the id of the run."""
        answer = self.host.client.post(f"{self.path}/run", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["run_id"])

    def stop(self) -> str:
        """Stop it; what becomes of its status."""
        answer = self.host.client.post(f"{self.path}/stop")
        assert answer.status_code == 202, answer.text
        return str(answer.json()["status"])

    @property
    def status(self) -> dict[str, Any]:
        """How the last run goes."""
        found: dict[str, Any] = self.host.client.get(f"{self.path}/status").raise_for_status().json()
        return found

    def wait_for(self, *statuses: str) -> dict[str, Any]:
        """Wait until the last run has one of these, and show it."""
        wait_until(lambda: self.status["status"] in statuses, 40, message=lambda: f"{self.status}")
        return self.status


def serve(host: ExampleHost, server: str = "web") -> None:
    """Start its web server."""
    host.start(server, ready="Serving on" if server == "waitress" else "Listening at")


def on_servers(folder: Path, broker_url: str, database_url: str, **more: str) -> ExampleHost:
    """The host with a token."""
    host = ExampleHost(
        "flask_host",
        folder,
        CELERY_BROKER_URL=broker_url,
        CELERY_RESULT_BACKEND=broker_url,
        DATABASE_URL=database_url,
        API_TOKEN=TOKEN,
        **more,
    )
    host.commands |= SERVERS
    host.client.headers["Authorization"] = f"Bearer {TOKEN}"
    return host


def test_the_api(redis_url: str, database_url: str, tmp_path: Path) -> None:
    """Tests are kept, run, shown with their results, stopped and cleaned up; each run is one tree."""
    with on_servers(tmp_path, redis_url, database_url) as host:
        for process in ("logs", "worker"):
            host.start(process)
        serve(host)
        passing, failing, load = (Case.create(host, each) for each in (SMOKE, wrong_expectations(), LOAD))
        run_id = passing.start(priority=9)
        failing.start()
        load.start(priority=0)
        check_smoke(passing.wait_for(*ENDED), run_id)
        check_failures(failing.wait_for(*ENDED))
        check_load(load.wait_for(*ENDED))
        stopped_id = check_a_stop_interrupts(host)
        check_refusals(host, passing)
        check_clean_up(host, passing, load)
        metrics = parse(host.client.get("/metrics/").raise_for_status().text)
        assert metrics["execution_logger_entries_accepted_total"] > 0
        host.wait_until_stored()
        check_tree(host, run_id, "done")
        check_tree(host, stopped_id, "cancelled")


def check_smoke(status: dict[str, Any], run_id: str) -> None:
    """What the first script has found."""
    assert (status["status"], status["run_id"], status["attempt"], status["priority"]) == (
        "passed",
        run_id,
        1,
        9,
    )
    assert status["created_at"] <= status["started_at"] <= status["finished_at"]
    result = status["result"]
    assert (result["done"], result["of"], result["failed"]) == (2, 2, 0)
    assert [(each["request"], each["status"]) for each in result["requests"]] == [
        ("GET /health", 200),
        ("GET /api/v1/web-test/scripts/999/status", 404),
    ]
    assert all(each["milliseconds"] > 0 for each in result["requests"])


def wrong_expectations() -> dict[str, Any]:
    """A script that cannot pass."""
    wrong = {"status": 204, "text": "nothing", "fields": {"status": "bad"}}
    return {"name": "wrong", "requests": [{"path": "/health", "expect": wrong}, {"path": "/metrics/"}]}


def check_failures(status: dict[str, Any]) -> None:
    """Each expectation that was not met."""
    assert status["status"] == "failed"
    first, second = status["result"]["requests"]
    assert first["failures"][:2] == ["status 200 instead of 204", "'nothing' is not in the answer"]
    assert first["failures"][2].startswith("status is not 'bad' in ")
    assert second["failures"] == []


def check_load(status: dict[str, Any]) -> None:
    """What up to three users have done in half a second; a slow machine has not started all of them."""
    result = status["result"]
    assert (status["status"], result["failed"], result["errors"]) == ("passed", 0, {})
    assert 1 <= result["users"] <= 3
    assert result["requests"] >= result["users"]
    assert 0 < result["median_ms"] <= result["percentile_95_ms"]


def check_a_stop_interrupts(host: ExampleHost) -> str:
    """At once, in the middle of a pause, and the worker's process goes on."""
    case = Case.create(host, slow(seconds=10, requests=9))
    run_id = case.start()
    case.wait_for("running")
    children = psutil.Process(host["worker"].pid).children()
    assert case.stop() == "stopping"
    assert case.wait_for("stopped")["finished_at"]
    assert psutil.Process(host["worker"].pid).children() == children
    return run_id


def check_refusals(host: ExampleHost, case: Case) -> None:
    """Each with a message that says what is wrong."""
    long = Case.create(host, slow(seconds=10))
    run_id = long.start()
    scripts = "/api/v1/web-test/scripts"
    elsewhere = {"name": "x", "requests": [{"path": "http://example.com/"}]}
    for method, path, body, code, text in (
        ("POST", f"{long.path}/run", {}, 409, run_id),
        ("POST", f"{case.path}/stop", {}, 409, "does not run"),
        ("GET", f"{scripts}/999/status", None, 404, "there is no web-test 999"),
        ("POST", "/api/v1/perf-test/scenarios/1/run", {}, 404, "there is no perf-test 1"),
        ("GET", "/api/v1/nothing", None, 404, "not found"),
        ("GET", f"{case.path}/run", None, 405, "not allowed"),
        (
            "POST",
            f"{case.path}/run",
            {"priority": 10},
            422,
            "priority: Input should be less than or equal to 9",
        ),
        ("POST", scripts, {"name": "x", "requests": []}, 422, "requests: List should have at least 1 item"),
        ("POST", scripts, elsewhere, 422, "must be a path of this host"),
        ("POST", scripts, {"name": "x", "requests": [{"path": "//example.com/"}]}, 422, "must be a path"),
        ("POST", "/api/v1/perf-test/scenarios", LOAD | {"user_count": 51}, 422, "less than or equal to 50"),
        ("POST", "/api/v1/perf-test/scenarios", LOAD | {"paths": ["http://127.0.0.1:1/"]}, 422, "paths.0"),
        ("POST", "/api/v1/perf-test/scenarios", LOAD | {"speed": 1}, 422, "speed: Extra inputs"),
    ):
        answer = host.client.request(method, path, json=body)
        assert answer.status_code == code, (path, body, answer.text)
        assert text in answer.text, answer.text
    broken = host.client.post(scripts, content="{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, "error" in broken.json()) == (400, True)
    assert host.client.post(scripts, content="{}").status_code == 415
    stranger = {"Authorization": "Bearer of-somebody"}
    assert host.client.post(f"{case.path}/run", json={}, headers=stranger).status_code == 401
    assert host.client.get("/execution-logs/", headers=stranger).status_code == 401
    assert host.client.get("/execution-logs/", auth=("", TOKEN)).status_code == 200
    long.stop()
    long.wait_for("stopped")


def check_clean_up(host: ExampleHost, old: Case, new: Case) -> None:
    """What Beat sends at two o'clock deletes the runs of more than 30 days ago."""
    url = host.environment["DATABASE_URL"]
    fetch(
        url, "UPDATE host_runs SET finished_at = finished_at - 31 * 86400 WHERE id = $1", old.status["run_id"]
    )
    beat = Celery(broker=host.environment["CELERY_BROKER_URL"], set_as_current=False)
    with beat.connection_for_write() as connection:
        beat.send_task("tasks.cleanup_old_results", queue="tests", connection=connection)
    assert old.wait_for("never run")["run_id"] is None
    assert new.status["status"] == "passed"


def check_tree(host: ExampleHost, run_id: str, state: str) -> None:
    """One root, the request, and within it the task, the run, and the run's steps."""
    rows = fetch(
        host.environment["DATABASE_URL"],
        "SELECT * FROM execution_logs WHERE task_id = $1 ORDER BY created_at, id", run_id,
    )  # fmt: skip
    starts = [row for row in rows if row["operation_id"] and row["duration_ms"] is None]
    names = {row["operation_id"]: row["message"].removesuffix(" 开始") for row in starts}
    tree = [(names[row["operation_id"]], names.get(row["parent_id"])) for row in starts]
    request = tree[0][0]
    assert tree[:3] == [
        (request, None),
        ("tasks.run_web_test", request),
        ("web-test", "tasks.run_web_test"),
    ]
    assert {parent for _, parent in tree[3:]} <= {"web-test"}
    states = [row["details"]["run_state"] for row in rows if "run_state" in (row["details"] or {})]
    assert states == ["running", state]


def test_what_breaks_in_the_middle(tmp_path: Path) -> None:
    """Runs outlive the web process, workers, Redis and PostgreSQL; each call that returned is one row.

    What is started again is each time another server or another pool.
    """
    with RedisServer() as redis, PostgresServer() as postgres:
        upgrade_database(postgres.url())
        with on_servers(tmp_path, redis.url(), postgres.url(), REDELIVERY_SECONDS="10") as host:
            for process in ("logs", "worker"):
                host.start(process)
            serve(host)
            check_that_runs_outlive_the_web_process(host, then="waitress")
            check_that_a_worker_ends_in_order_and_serves_the_urgent_first(host)
            check_that_a_lost_worker_is_replaced(host, then="threads")
            stopped = [check_a_pool(host)]
            check_that_redis_may_stop(host, redis, then="gevent")
            check_that_postgresql_may_stop(host, postgres)
            stopped.append(check_a_pool(host))
            assert host.client.get("/execution-logs/", auth=("", TOKEN)).status_code == 200
            for process in ("waitress", "worker"):
                host.stop(process)
            start_worker(host, "solo")
            serve(host, "sync")
            stopped.append(check_a_pool(host))
            assert host.client.get("/execution-logs/", auth=("", TOKEN)).status_code == 501
            for process in ("sync", "worker", "logs"):
                host.stop(process)
            host.start("logs")
            host.wait_until_stored()
            for run_id in stopped:
                check_tree(host, run_id, "cancelled")


def start_worker(host: ExampleHost, pool: str, **how: str) -> None:
    """Start its worker with a pool."""
    host.environment["POOL"] = pool
    host.start("worker", **how)


def check_a_pool(host: ExampleHost) -> str:
    """A web test, a load test, and a stop, for which the task looks at its row; the run that was stopped."""
    web, load, long = (Case.create(host, each) for each in (SMOKE, LOAD, slow(seconds=10)))
    web.start()
    assert web.wait_for(*ENDED)["result"]["failed"] == 0
    load.start()
    check_load(load.wait_for(*ENDED))
    run_id = long.start()
    long.wait_for("running")
    assert long.stop() == "stopping"
    assert long.wait_for(*ENDED)["status"] == "stopped"
    return run_id


def check_that_runs_outlive_the_web_process(host: ExampleHost, then: str) -> None:
    """Which is what they test, too: they are tried again, and do not repeat what they have done."""
    case = Case.create(host, slow(seconds=0.5, requests=3))
    case.start()
    wait_until(lambda: case.status["result"].get("done", 0) >= 1, 20)
    host.kill("web")
    wait_until(lambda: "to be retried" in host["worker"].output or "Retry in" in host["worker"].output, 20)
    serve(host, then)
    ended = case.wait_for(*ENDED)
    assert (ended["status"], ended["result"]["done"]) == ("passed", 3)
    assert ended["attempt"] > 1


def check_that_a_worker_ends_in_order_and_serves_the_urgent_first(host: ExampleHost) -> None:
    """By SIGTERM: what it has in hand is done before it ends, and what waits is for the next one."""
    case, low, high = (Case.create(host, slow(seconds=1.5)) for _ in range(3))
    case.start()
    case.wait_for("running")
    host.stop("worker")
    assert (case.status["status"], case.status["attempt"]) == ("passed", 1)
    low.start(priority=0)
    high.start(priority=9)
    host.start("worker", options="--concurrency 1")
    low.wait_for("passed")
    assert high.status["finished_at"] <= low.status["started_at"]


def check_that_a_lost_worker_is_replaced(host: ExampleHost, then: str) -> None:
    """A process of the pool at once, a whole worker after the time that Redis waits for it."""
    case = Case.create(host, slow(seconds=1, requests=2))
    case.start()
    case.wait_for("running")
    (child,) = psutil.Process(host["worker"].pid).children()
    child.kill()
    assert (case.wait_for(*ENDED)["status"], case.status["attempt"]) == ("passed", 2)
    case.start()
    case.wait_for("running")
    host.kill("worker")
    start_worker(host, then)
    assert (case.wait_for(*ENDED)["status"], case.status["attempt"]) == ("passed", 2)


def check_that_redis_may_stop(host: ExampleHost, redis: RedisServer, then: str) -> None:
    """What runs goes on; what is to be started is refused."""
    case, other = Case.create(host, slow(seconds=0.5, requests=4)), Case.create(host, SMOKE)
    case.start()
    case.wait_for("running")
    redis.stop()
    refused = host.client.post(f"{other.path}/run", json={})
    assert (refused.status_code, "broker is away" in refused.text) == (503, True)
    assert other.status["status"] == "error"
    assert case.wait_for(*ENDED)["status"] == "passed"
    redis.start()
    # It may end a worker that has something in hand, and whoever runs the worker starts it again.
    host.kill("worker")
    start_worker(host, then)
    other.start()
    assert other.wait_for(*ENDED)["status"] == "passed"


def check_that_postgresql_may_stop(host: ExampleHost, postgres: PostgresServer) -> None:
    """Clients are told so, and the run is tried again."""
    case = Case.create(host, slow(seconds=0.5, requests=4))
    case.start()
    wait_until(lambda: case.status["result"].get("done", 0) >= 1, 20)
    postgres.stop()
    answer = host.client.get(f"{case.path}/status")
    assert (answer.status_code, answer.json()["error"]) == (503, "the database is away")
    before = host["worker"].output.count("Retry in")
    wait_until(lambda: host["worker"].output.count("Retry in") > before, 20)
    postgres.start()
    ended = case.wait_for(*ENDED)
    assert (ended["status"], ended["result"]["done"]) == ("passed", 4)


def test_without_a_server(tmp_path: Path) -> None:
    """All lines of the Procfile, on the embedded broker and SQLite; a run whose worker was killed ends."""
    with ExampleHost("flask_host", tmp_path) as host:
        upgrade_database(host.environment["DATABASE_URL"])
        host.start("beat", ready="<crontab: 0 2 * * *", options="--loglevel DEBUG")
        for process in ("logs", "worker"):
            host.start(process)
        serve(host)
        web, load, long = (Case.create(host, each) for each in (SMOKE, LOAD, slow(seconds=10)))
        web.start()
        load.start()
        assert web.wait_for(*ENDED)["status"] == "passed"
        check_load(load.wait_for(*ENDED))
        long.start()
        long.wait_for("running")
        host.kill("worker")
        with closing(sqlite3.connect(tmp_path / "host.db", timeout=60)) as database, database:
            database.execute("UPDATE host_runs SET heard_at = heard_at - 1000")
        assert (long.status["status"], long.status["error"]) == ("error", "its worker is gone")
        assert host.client.get("/execution-logs/").status_code == 200
        # What the killed one has left in its journal is sent by another process of the host.
        host.start("worker")
        web.start()
        assert web.wait_for(*ENDED)["status"] == "passed"
        for process in ("web", "beat", "worker"):
            host.stop(process)
        host.wait_until_stored()
