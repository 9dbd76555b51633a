"""The analysis host, driven over HTTP as a client would."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from example_host import EXAMPLES, ExampleHost
from leaks import Resources
from rows import fetch, upgrade_database
from servers import PostgresServer, RedisServer
from waiting import wait_until

pytestmark = pytest.mark.slow

ANALYSIS, TASKS = "/api/v1/litigation-analysis", "/api/v1/tasks"
BEARER = {"Authorization": "Bearer of-the-tests"}
CONTRACT = "On 2024-03-01 we paid 120,000, on 2024-02-01 they had promised to deliver."
CASE = {
    "package_id": "p-1",
    "case_type": "contract",
    "case_position": "plaintiff",
    "user_input": "We want damages, and to terminate the contract",
    "document_ids": ["contract", "invoice"],
}
WORKERS = ("logs", "high", "medium", "low")
TIME_LIMIT = 40
"""Of a task, in seconds: more than any needs on a busy machine, since Celery's worker may hang when the limit
meets the end of a task. Redis gives a killed worker's to another one after twice as long."""


class Site:
    """A host on a Redis and a PostgreSQL of its own."""

    def __init__(self, folder: Path) -> None:
        self.killed = self.stuck = ""
        self.web_is_usual = False
        self.redis = RedisServer().start()
        self.postgres = PostgresServer().start()
        upgrade_database(self.postgres.url())
        self.host = ExampleHost(
            "analysis_host",
            folder,
            ANALYSIS_STEP_SECONDS="0.05",
            ANALYSIS_SWEEP_SECONDS="1",
            API_TOKEN="of-the-tests",
            CELERY_BROKER_URL=self.redis.url(),
            CELERY_RESULT_BACKEND=self.redis.url(1),
            CELERY_TASK_TIME_LIMIT=str(TIME_LIMIT),
            DATABASE_URL=self.postgres.url(),
            EXECUTION_LOGGER_LANGUAGE="en",
        )
        # No connection is left from one test to the next.
        self.host.client.headers.update({"Connection": "close", **BEARER})

    def start_web(self, **environment: str) -> None:
        """Start the web process, with these variables besides."""
        before = dict(self.host.environment)
        self.host.environment.update(environment)
        self.host.start("web", ready="Uvicorn running")
        self.host.environment = before
        self.web_is_usual = not environment

    def make_whole(self) -> None:
        """Let all processes run as usual, whatever a test before has done to them."""
        for worker in WORKERS:
            if not self.host.is_running(worker):
                self.host.start(worker, ready=None)
            self.host[worker].resume()
        if self.host.is_running("web") and not self.web_is_usual:
            self.host.stop("web")
        if not self.host.is_running("web"):
            self.start_web()
        wait_until(lambda: all("ready." in self.host[worker].output for worker in WORKERS), 60)

    def begin(self, **changes: Any) -> dict[str, Any]:
        """Start an analysis; the answer."""
        response = self.host.client.post(f"{ANALYSIS}/start", json={**CASE, **changes})
        answer: dict[str, Any] = response.raise_for_status().json()
        assert answer["status"] == "pending", answer
        return answer

    def status(self, session_id: str) -> dict[str, Any]:
        """What the host says of a session; nothing while it is away."""
        with suppress(httpx.HTTPError):
            response = self.host.client.get(f"{ANALYSIS}/status/{session_id}")
            if response.status_code == httpx.codes.OK:
                return dict(response.json())
        return {"status": "unknown", "progress": {}}

    def wait_for(self, session_id: str, *statuses: str, percent: int = 0) -> dict[str, Any]:
        """Wait until a session has one of the statuses, and has come so far."""
        seen: dict[str, Any] = {}

        def is_there() -> bool:
            seen.update(self.status(session_id))
            return seen["status"] in statuses and seen["progress"].get("percent", 0) >= percent

        wait_until(is_there, 60, message=lambda: f"{seen}")
        return seen

    def interrupted(self) -> str:
        """The id of an analysis that is in the middle of its documents."""
        session_id = str(
            self.begin(document_ids=["contract"] * 9, user_input="[busy=1] damages")["session_id"]
        )
        self.wait_for(session_id, "running", percent=20)
        return session_id

    def kill_worker_of_one(self) -> None:
        """Kill the worker of an analysis, which comes back much later; the worker is to be started again."""
        self.killed = self.interrupted()
        self.host.kill("high")

    def exceed(self, soft: int, hard: int) -> str:
        """The id of an analysis that has begun, and will not end within these limits."""
        self.host.stop("web")
        limits = {"CELERY_TASK_SOFT_TIME_LIMIT": str(soft), "CELERY_TASK_TIME_LIMIT": str(hard)}
        self.start_web(**limits)
        session_id = str(self.begin(user_input="[slow=600]")["session_id"])
        self.wait_for(session_id, "running", "failed")
        return session_id

    def begin_stuck(self) -> None:
        """Begin an analysis whose process does not react to its soft limit."""
        self.host["high"].resume()
        self.stuck = self.exceed(soft=10, hard=11)
        for child in psutil.Process(self.host["high"].pid).children():
            child.suspend()

    def ends_by_limit(self, session_id: str, said: str) -> None:
        """Wait until an analysis has ended by its limit; the worker and the run say so."""
        assert self.wait_for(session_id, "failed")["error"] == "The time limit is over"
        assert said in self.host["high"].output
        assert any("The time limit is over" in entry["message"] for entry in self.entries(session_id))

    def task(self, task_id: str, *states: str) -> dict[str, Any]:
        """Wait until a task is in one of the states; what the host says of it."""
        seen: dict[str, Any] = {}

        def is_there() -> bool:
            seen.update(self.host.client.get(f"{TASKS}/status/{task_id}").raise_for_status().json())
            return seen["state"] in states

        wait_until(is_there, 30, message=lambda: f"{seen}")
        return seen

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as somebody in the shell would."""
        environment, folder = self.host.environment, self.host.folder
        return subprocess.run(
            command, env=environment, cwd=folder, check=False, capture_output=True, text=True
        )

    def send(self, path: str, **request: Any) -> str:
        """Send a task; its id."""
        return str(self.host.client.post(f"{TASKS}/{path}", **request).raise_for_status().json()["task_id"])

    def process_contract(self) -> dict[str, Any]:
        """Have the task for documents read the contract; its result."""
        sent = self.send("process-document", json={"document_id": "contract", "text": CONTRACT})
        return dict(self.task(sent, "SUCCESS")["result"])

    def events(self, session_id: str) -> list[dict[str, Any]]:
        """All events of a session, by the WebSocket."""
        url = f"ws://127.0.0.1:{self.host.port}{ANALYSIS}/ws/{session_id}"
        with connect(url, additional_headers=BEARER) as socket:
            return [json.loads(text) for text in socket]

    def entries(self, session_id: str) -> list[dict[str, Any]]:
        """The entries of a run, when all that were recorded so far are stored."""
        self.host.wait_until_stored()
        statement = "SELECT * FROM execution_logs WHERE task_id = $1 ORDER BY created_at, id"
        return fetch(self.postgres.url(), statement, session_id)

    def close(self) -> None:
        """End everything."""
        self.host.__exit__()
        self.redis.close()
        self.postgres.close()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Tests restart processes that others go on with: see `all_given_back`."""


@pytest.fixture(scope="module", autouse=True)
def all_given_back() -> Iterator[None]:
    """Fail when the tests together leave something behind."""
    before = Resources.now()
    yield
    before.check_given_back()


@pytest.fixture(scope="module", autouse=True)
def plan(request: pytest.FixtureRequest, all_given_back: None) -> Iterator[subprocess.Popen[str] | None]:
    """The plan that a person runs: it waits as much as the tests do, and so runs beside them."""
    if not any(
        item.name == test_the_plan_that_a_person_runs_passes.__name__ for item in request.session.items
    ):
        yield None
        return
    script = EXAMPLES / "analysis_host" / "check.sh"
    with subprocess.Popen(
        ["bash", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as plan:
        yield plan
        plan.terminate()  # it is still there only where a test was interrupted


@pytest.fixture(scope="module")
def site_as_it_is(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The whole host, which knows one document, as the tests before have left it."""
    site = Site(tmp_path_factory.mktemp("host"))
    try:
        site.make_whole()
        site.process_contract()
        yield site
    finally:
        site.close()


@pytest.fixture
def site(site_as_it_is: Site) -> Site:
    """The whole host, with all its processes: which tests have run before, and whether, is left open."""
    site_as_it_is.make_whole()
    return site_as_it_is


def roots(entries: list[dict[str, Any]]) -> set[str]:
    """The operations of a run that are within no other."""
    return {entry["step"] for entry in entries if entry["operation_id"] and not entry["parent_id"]}


def test_a_worker_or_one_of_its_processes_may_be_killed(site: Site) -> None:
    """The task is done again: at once, or later, when Redis gives it to another worker (see below)."""
    lost = site.interrupted()
    for child in psutil.Process(site.host["high"].pid).children():
        child.kill()
    assert site.wait_for(lost, "completed")["attempt"] == 2
    site.kill_worker_of_one()
    queued = site.begin()
    assert site.task(queued["celery_task_id"], "SENT")["result"] is None
    site.host.start("high")
    site.wait_for(queued["session_id"], "completed")


def test_tasks_go_to_their_queues_and_tell_how_far_they_are(site: Site) -> None:
    """Each ends with what it has computed; a failed one with its error."""
    slow = site.send("example", params={"name": "tea", "seconds": 3})
    empty = site.send("process-document", json={"document_id": "nothing", "text": " "})
    assert site.task(site.send("add", params={"x": 2, "y": 3}), "SUCCESS")["result"] == 5
    progress = site.task(slow, "PROGRESS", "SUCCESS")
    assert progress["state"] == "SUCCESS" or progress["progress"]["message"].startswith("tea: ")
    kept = site.process_contract()
    assert (kept["document_id"], kept["words"]) == ("contract", 12)
    facts = site.task(kept["evidence_task_id"], "SUCCESS")["result"]
    assert facts == {
        "document_id": "contract", "dates": ["2024-02-01", "2024-03-01"], "amounts": ["120,000"]
    }  # fmt: skip
    failed = site.task(empty, "FAILURE")
    assert failed["error"] == "ValueError: The document nothing is empty"
    assert site.task(slow, "SUCCESS")["result"] == {"name": "tea", "seconds": 3}
    assert [entry["level"] for entry in site.entries(empty)] == ["info", "error"]


def test_the_shell_calls_a_task_by_name_and_beat_sends_one(site: Site) -> None:
    """As the README says."""
    site.host.start("beat", ready=None)
    called = site.run("celery", "-A", "analysis_host.tasks", "call", "tasks.health_check")
    assert called.returncode == 0, called.stderr
    found = site.task(called.stdout.strip(), "SUCCESS")["result"]
    assert found["status"] == "healthy"
    assert found["worker"].startswith("medium@")
    wait_until(lambda: "Task tasks.sweep" in site.host["low"].output, 20)
    site.host.stop("beat")


def test_what_cannot_be_sent_is_not_put_down_to_the_broker(site: Site) -> None:
    """Only of an absent broker it is said that it does not answer."""
    sent = site.run("python", "-c", "from analysis_host.tasks import *; asyncio.run(send(add.s(x=add, y=1)))")
    assert sent.returncode == 1
    assert "EncodeError" in sent.stderr
    assert "AwayError" not in sent.stderr


def test_an_analysis_is_one_run_that_anybody_may_join_late(site: Site) -> None:
    """Request, task and sub-task are one tree; WebSocket and stream tell all, whenever one comes."""
    started = site.begin(document_ids=["contract", "invoice"])
    assert started.keys() == {"session_id", "status", "task_system", "celery_task_id", "message"}
    assert started["task_system"] == "celery"
    session_id = started["session_id"]
    live = site.events(session_id)
    done = site.wait_for(session_id, "completed")
    assert done["results"]["IntentAnalysis"]["intents"] == ["damages", "termination"]
    assert done["results"]["DocumentReview"] == {"words": 12, "missing": ["invoice"]}
    assert done["results"]["EvidenceEvaluation"]["strength"] == "strong"
    assert done["results"]["CurriculumDesign"]["stages"][0] == "obtain invoice"
    assert done["results"]["Validation"] == {"revision": 2, "problems": []}
    assert site.task(started["celery_task_id"], "SUCCESS")["error"] is None
    assert [event["kind"] for event in live] == ["progress"] * (len(live) - 1) + ["completed"]
    assert site.events(session_id) == live
    streamed = site.host.client.get(f"{ANALYSIS}/stream/{session_id}").text
    assert [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: ")] == live
    wait_until(lambda: session_id in site.host.client.get("/api/v1/notifications").text)
    entries = site.entries(session_id)
    assert roots(entries) == {"start analysis"}
    messages = [entry["message"] for entry in entries]
    for name in ("tasks.run_analysis", "litigation-analysis", "Validation", "tasks.notify"):
        assert f"{name} completed" in messages


def test_one_who_is_not_let_in_or_asks_amiss_is_told_so(site: Site) -> None:
    """The right status, and a clear message."""
    client = site.host.client
    place = f"{ANALYSIS}/status/nothing"
    wrong = client.get(place, headers={"Authorization": "Bearer wrong"})
    assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, "Bearer")
    assert "Authorization: Bearer TOKEN" in wrong.json()["detail"]
    assert client.get(place).json() == {"detail": "There is no session nothing"}
    assert client.get(f"{TASKS}/status/nothing").status_code == 404
    incomplete = client.post(f"{ANALYSIS}/start", json={**CASE, "document_ids": "contract"})
    assert (incomplete.status_code, incomplete.json()["detail"][0]["loc"]) == (422, ["body", "document_ids"])
    assert client.post(f"{TASKS}/example", params={"name": "x", "seconds": -1}).status_code == 422
    for headers, status in (({}, 401), (BEARER, 404)):
        url = f"ws://127.0.0.1:{site.host.port}{ANALYSIS}/ws/nothing"
        with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers=headers):
            pass
        assert refused.value.response.status_code == status


def test_the_page_is_behind_the_login_and_the_metrics_are_there(site: Site) -> None:
    """By the token, or by the cookie of whoever has typed it in."""
    with httpx.Client(base_url=site.host.client.base_url, headers={"Connection": "close"}) as browser:
        assert browser.get("/execution-logs/").status_code == 403
        assert browser.get("/login").headers["www-authenticate"] == "Basic"
        assert browser.get("/login", auth=("", "wrong")).status_code == 401
        assert browser.get("/login", auth=("", "of-the-tests"), follow_redirects=True).is_success
        assert "<title>" in browser.get("/execution-logs/").text
        assert "execution_logger_entries_accepted_total" in browser.get("/metrics/").text


def test_a_busy_model_is_asked_again_and_a_refusal_ends_the_analysis(site: Site) -> None:
    """Both are in the run; the user is told of the failure."""
    busy = site.begin(user_input="[busy=2] appeal")["session_id"]
    refused = site.begin(user_input="[refuse]")
    assert site.wait_for(busy, "completed")["results"]["IntentAnalysis"]["intents"] == ["appeal"]
    failed = site.wait_for(refused["session_id"], "failed")
    assert failed["error"] == "no answer to: What does the user want?"
    assert "RuntimeError" in site.task(refused["celery_task_id"], "FAILURE")["error"]
    categories = [entry["category"] for entry in site.entries(busy)]
    assert categories.count("retry") == 3
    entries = site.entries(refused["session_id"])
    assert [e["agent_name"] for e in entries if e["message"].startswith("The analysis has failed")] == [
        "brain"
    ]
    assert roots(entries) == {"start analysis"}
    assert site.events(refused["session_id"])[-1]["error"] == failed["error"]


def test_servers_may_go_and_come_back_in_the_middle(site: Site) -> None:
    """The database is waited for; without Redis new analyses run in the web process."""
    without_database = site.interrupted()
    site.postgres.stop()
    refused = site.host.client.post(f"{ANALYSIS}/start", json=CASE)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    site.postgres.start()
    site.wait_for(without_database, "completed")
    without_redis = site.interrupted()
    site.redis.stop()
    began_at = time.monotonic()
    answer = site.begin()
    print(f"answered after {time.monotonic() - began_at:.1f} s without Redis")
    assert answer["task_system"] == "background_tasks"
    assert "celery_task_id" not in answer
    assert "broker does not answer" in answer["message"]
    site.wait_for(answer["session_id"], "completed")
    assert site.host.client.post(f"{TASKS}/add", params={"x": 1, "y": 1}).status_code == 503
    site.redis.start()
    site.redis.pause()
    hung = site.begin()
    site.redis.resume()
    assert hung["task_system"] == "background_tasks"
    site.wait_for(hung["session_id"], "completed")
    back = site.begin()
    assert back["task_system"] == "celery"
    for session_id in (back["session_id"], without_redis):
        site.wait_for(session_id, "completed")
    site.host.wait_until_stored()


def test_the_web_process_may_end_in_any_way(site: Site) -> None:
    """Celery's goes on, in a worker that is told to end as well; the next one goes on with its own."""
    remote = site.interrupted()
    site.host["high"].send_signal(signal.SIGTERM)
    site.host.kill("web")
    site.start_web(CELERY_ENABLED="false")
    assert site.wait_for(remote, "completed")["attempt"] == 1
    site.host.stop("high")
    site.host.start("high", ready=None)
    for end in (site.host.stop, site.host.kill):
        local = site.interrupted()
        end("web")
        site.start_web(CELERY_ENABLED="false")
        done = site.wait_for(local, "completed")
        assert (done["task_system"], done["attempt"]) == ("background_tasks", 2)
        assert site.events(local)[-1]["kind"] == "completed"
    assert site.host.client.post(f"{TASKS}/add", params={"x": 1, "y": 1}).status_code == 503
    site.host.wait_until_stored()


def test_a_killed_workers_task_comes_back(site: Site) -> None:
    """After twice the time limit, from the results that were kept; the tests before have used the time.

    On a slow machine it is back during one of these, which may end its worker once more.
    """
    if not site.killed:  # they run in another process of the tests
        site.kill_worker_of_one()
        site.host.start("high")
    killed = site.wait_for(site.killed, "completed")
    assert killed["attempt"] in (2, 3)
    assert killed["results"]["DocumentReview"]["words"] == 12


def test_the_soft_time_limit_ends_an_analysis(site: Site) -> None:
    """The sender says it. Another one, in a process that does not react, is over later (see below)."""
    site.ends_by_limit(site.exceed(soft=1, hard=15), "Soft time limit (1.0s)")
    site.begin_stuck()


def test_it_runs_without_a_server(tmp_path: Path) -> None:
    """As `examples/start.sh` starts it: a broker in a folder, and SQLite."""
    with ExampleHost("analysis_host", tmp_path, ANALYSIS_STEP_SECONDS="0.05") as host:
        subprocess.run(["execution-logger", "db", "upgrade"], env=host.environment, check=True, cwd=tmp_path)
        for process in ("logs", "high", "low"):
            host.start(process, ready=None)
        host.start("web", ready="Uvicorn running")
        host.client.headers["Authorization"] = f"Bearer {(tmp_path / 'token').read_text()}"
        started = host.client.post(f"{ANALYSIS}/start", json=CASE).json()
        assert started["task_system"] == "celery"

        def is_done() -> bool:
            task = host.client.get(f"{TASKS}/status/{started['celery_task_id']}")
            assert task.is_success, task.text
            session = host.client.get(f"{ANALYSIS}/status/{started['session_id']}").json()
            return bool(session["status"] == "completed")

        wait_until(is_done, 30, message=lambda: host.output)
        assert (tmp_path / "token").stat().st_mode & 0o77 == 0
        host.stop("web")
        host.wait_until_stored()


def test_the_hard_time_limit_ends_an_analysis_whose_process_does_not_react(site_as_it_is: Site) -> None:
    """Its parent ends the process, and tells; the test before has used the time."""
    site, said = site_as_it_is, "Hard time limit (11.0s)"
    if not site.stuck:  # that one runs in another process of the tests
        site.begin_stuck()
    for _ in range(5):
        site.wait_for(site.stuck, "failed")
        if said in site.host["high"].output:
            break
        site.begin_stuck()  # the machine was too busy to stop the process before its soft limit
    site.ends_by_limit(site.stuck, said)


def test_the_plan_that_a_person_runs_passes(plan: subprocess.Popen[str]) -> None:
    """Each of its lines; it starts and ends all that it needs."""
    output, _ = plan.communicate()
    print(output)
    assert plan.returncode == 0, output
    assert output.count("PASS  ") == 29
