"""The collection pipeline, driven over HTTP: on Redis, PostgreSQL and S3, and without any server."""

import ast
import json
import logging
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import gethostname
from typing import Any, Self

import boto3
import psutil
import pytest
from celery import Celery
from moto.server import ThreadedMotoServer

from example_host import EXAMPLES, ExampleHost
from processes import LocalProcess
from rows import fetch, upgrade_database
from scraping import parse
from server import free_port
from servers import PostgresServer, RedisServer
from waiting import wait_until

DOCUMENTS = EXAMPLES / "pipeline_host" / "documents"
TOKEN = "a-token"
VISIBILITY_TIMEOUT_SECONDS = 10

COPIES = {
    "archive/arch-bridge-copy": "handbook/arch-bridge",
    "archive/sourdough": "handbook/sourdough",
    "archive/tide-tables": "handbook/tide-tables",
    "news/harbour-dredged": "news/harbour-dredged-repeat",
    "news/tidal-plant": "news/tidal-plant-reprint",
}
"""The documents whose content is that of an earlier one."""

SIMILAR = {
    "archive/grafting-1923": "handbook/grafting",
    "archive/lighthouse-lens-draft": "handbook/lighthouse-lens",
    "archive/water-clock-notes": "handbook/water-clock",
    "news/bridge-closed": "news/bridge-closed-update",
    "news/library-sunday": "news/library-sunday-correction",
}
"""Those that differ from an earlier one in a few words."""


class Pipeline(ExampleHost):
    """The host, and what its clients do."""

    def __init__(self, folder: Path, **environment: str) -> None:
        super().__init__("pipeline_host", folder, PIPELINE_TOKEN=TOKEN, **environment)
        # No connection outlives the test that has opened it.
        self.client.headers.update({"Authorization": f"Bearer {TOKEN}", "Connection": "close"})

    def start_all(self, workers: int) -> list[LocalProcess]:
        """Start the log's worker, the web process and some workers, which are returned, side by side."""
        logs, web = self.start("logs", ready=None), self.start("web", ready=None)
        own = [self.start_worker(number, ready=None) for number in range(workers)]
        lines = {logs: "ready.", web: "Uvicorn running", **dict.fromkeys(own, "ready.")}

        def are_ready() -> bool:
            return all(line in process.output for process, line in lines.items())

        wait_until(are_ready, 20 * len(lines), message=lambda: self.output)
        return own

    def start_worker(self, number: int, ready: str | None = "ready.") -> LocalProcess:
        """Start a worker of its own name."""
        return self.start("worker", ready=ready, options=f"--hostname w{number}@%h --concurrency 1")

    def post(self, path: str, **body: Any) -> str:
        """Start a task; its id."""
        answer = self.client.post(f"/api/v1/pipeline/{path}", json=body)
        assert answer.status_code == 202, answer.text
        assert answer.json()["status_url"] == f"/api/v1/tasks/{answer.json()['task_id']}"
        return str(answer.json()["task_id"])

    def get(self, path: str, **query: str) -> Any:
        """What the API answers."""
        return self.client.get(f"/api/v1/{path}", params=query).raise_for_status().json()

    def result(self, task_id: str) -> Any:
        """Wait until a task has succeeded; what it has returned."""
        told: dict[str, Any] = {}

        def is_done() -> bool:
            told.update(self.get(f"tasks/{task_id}"))
            return told["state"] in ("SUCCESS", "FAILURE")

        wait_until(is_done, 60, message=lambda: f"{told}\n{self.output}")
        assert told["state"] == "SUCCESS", told
        return told["result"]

    def failure(self, task_id: str) -> str:
        """Wait until a task has failed; why."""
        wait_until(
            lambda: self.get(f"tasks/{task_id}")["state"] == "FAILURE", 60, message=lambda: self.output
        )
        return str(self.get(f"tasks/{task_id}")["error"])

    def run(self, task_id: str) -> dict[str, Any]:
        """What the page says of a run."""
        answer = self.client.get("/execution-logs/api/run", params={"task_id": task_id})
        return dict(answer.raise_for_status().json()["run"])

    def manage(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run the host's celery_manager.py."""
        command = [sys.executable, "-m", "pipeline_host.celery_manager", *words]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=self.environment, cwd=self.folder
        )

    def workers(self) -> dict[str, Any]:
        """What each worker says of itself."""
        told = json.loads(self.manage("stats", "--json").stdout or "{}")
        return {name.removesuffix(f"@{gethostname()}"): facts for name, facts in told.items()}

    def duplicates(self) -> dict[str, tuple[str, float]]:
        """What is marked as a duplicate of what, and how similar it is."""
        return {
            name_of(each["url"]): (name_of(each["duplicate_of"]), each["similarity"])
            for each in self.get("documents")
            if each["duplicate_of"]
        }

    def hits(self, query: str) -> list[str]:
        """The names of the documents that a search finds, the best first."""
        return [name_of(hit["url"]) for hit in self.get("search", q=query)]


def name_of(url: str) -> str:
    """The document of the demonstration that has this URL."""
    return url.partition("/source/")[2].removesuffix(".txt")


def assert_collected(host: Pipeline, result: dict[str, Any]) -> None:
    """All documents of the demonstration were collected, duplicates found, and the rest can be searched."""
    scan = f"{host.client.base_url}/source/archive/scan.txt"
    assert result == {
        "collected": 34,
        "failed": {scan: "no text: invalid start byte"},
        "duplicates": {"exact": 5, "similar": 5},
        "indexed": 24,
    }
    found = host.duplicates()
    assert {copy: original for copy, (original, _) in found.items()} == COPIES | SIMILAR
    assert {copy for copy, (_, percent) in found.items() if percent == 100} == COPIES.keys()
    assert all(90 <= found[copy][1] < 100 for copy in SIMILAR)
    bridges = ["handbook/arch-bridge", "handbook/suspension-bridge", "news/bridge-closed-update"]
    assert sorted(host.hits("bridges")) == bridges  # in any form of the word, and no duplicate among them
    assert host.hits("tide prophecy") == []
    assert host.hits("a mercury lens") == ["handbook/lighthouse-lens"]
    assert sorted(host.hits("tide"))[:1] == ["handbook/tide-tables"]
    assert "[mercury]" in host.get("search", q="mercury")[0]["excerpt"]


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, str]]:
    """Where documents are kept in S3, for the host's environment."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request otherwise
    server = ThreadedMotoServer("127.0.0.1", port := free_port(), verbose=False)
    server.start()
    yield {
        "PIPELINE_STORE": "s3://documents",
        "FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "FSSPEC_S3_KEY": "key",
        "FSSPEC_S3_SECRET": "secret",
    }
    server.stop()


@pytest.fixture(scope="module")
def host(
    postgres_server: PostgresServer,
    template: str,
    bucket: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pipeline]:
    """The host on Redis, PostgreSQL and S3, with four workers, for the tests that do it no harm."""
    name = postgres_server.create_database(template)
    with ExitStack() as stack:
        stack.callback(postgres_server.drop_database, name)
        redis = stack.enter_context(RedisServer())
        environment = {
            "CELERY_BROKER_URL": redis.url(0),
            "CELERY_RESULT_BACKEND": redis.url(1),
            "DATABASE_URL": postgres_server.url(name),
        }
        host = stack.enter_context(Pipeline(tmp_path_factory.mktemp("host"), **environment, **bucket))
        host.start_all(workers=4)
        yield host


@pytest.fixture(scope="module")
def celery(host: Pipeline) -> Iterator[Celery]:
    """A client of Celery, as operators have one; its connections are open before the first test."""
    broker, backend = host.environment["CELERY_BROKER_URL"], host.environment["CELERY_RESULT_BACKEND"]
    app = Celery(broker=broker, backend=backend, set_as_current=False)
    app.send_task("weekly_report").get(timeout=60)
    yield app
    app.close()
    app.backend.client.close()


def test_a_collection_finds_duplicates_and_can_be_searched(host: Pipeline, bucket: dict[str, str]) -> None:
    """From four workers, stored in S3; a second collection changes nothing, and each run is one tree."""
    task_id = host.post("sync")
    assert_collected(host, host.result(task_id))
    assert_collected(host, host.result(host.post("sync", sources=[])))

    document = next(each for each in host.get("documents") if each["title"] == "Town clock goes again")
    content = (DOCUMENTS / "news" / "clock-repaired.txt").read_text()
    assert host.client.get(f"/api/v1/documents/{document['id']}").text == content
    with closing(client_of(bucket)) as s3:
        assert s3.list_objects_v2(Bucket="documents")["KeyCount"] == 30  # 35, of which 5 have others' content

    host.wait_until_stored()
    assert host.run(task_id)["state"] == "done"
    tree = Tree(host, task_id)
    assert [tree.tasks[root] for root in tree.roots] == ["sync_pipeline"]
    assert Counter(tree.tasks.values()) == {
        "sync_pipeline": 2,  # the request, and the task
        "collect_all_sources": 1,
        "collect_from_source": 3,
        "batch_process": 9,
        "fetch_url": 35,
        "process_document": 35,
        "tally": 13,
        "deduplicate_documents": 1,
        "rebuild_index": 1,
    }
    assert all(tree.is_within(name, "batch_process") for name in ("fetch_url", "process_document"))
    workers = host.workers()
    assert workers.keys() >= {"w0", "w1", "w2", "w3"}
    assert sum("fetch_url" in facts["total"] for facts in workers.values()) > 1  # they have shared the work


def client_of(bucket: dict[str, str]) -> Any:
    """A client of S3 of the test's own."""
    return boto3.client(
        "s3", endpoint_url=bucket["FSSPEC_S3_ENDPOINT_URL"], region_name="us-east-1",
        aws_access_key_id=bucket["FSSPEC_S3_KEY"], aws_secret_access_key=bucket["FSSPEC_S3_SECRET"],
    )  # fmt: skip


class Tree:
    """The operations of a run, as the database has them."""

    def __init__(self, host: Pipeline, task_id: str) -> None:
        statement = (
            "SELECT operation_id, parent_id, message FROM execution_logs"
            " WHERE task_id = $1 ORDER BY created_at DESC, id DESC"
        )
        entries = fetch(host.environment["DATABASE_URL"], statement, task_id)
        names = {row["operation_id"]: row["message"].split()[0] for row in entries}
        self.tasks = {operation: name for operation, name in names.items() if operation}
        self.parents = {row["operation_id"]: row["parent_id"] for row in entries if row["operation_id"]}
        self.roots = [operation for operation, parent in self.parents.items() if parent is None]
        assert all(row["operation_id"] or row["parent_id"] in self.tasks for row in entries)
        assert all(parent in self.tasks for parent in self.parents.values() if parent)

    def is_within(self, name: str, around: str) -> bool:
        """Whether each operation of a name is within one of another, however deep."""
        return all(around in self._path(own) for own, task in self.tasks.items() if task == name)

    def _path(self, operation: Any) -> list[str]:
        path = []
        while operation:
            path.append(self.tasks[operation])
            operation = self.parents[operation]
        return path


def test_what_is_wrong_with_a_request_is_said(host: Pipeline) -> None:
    """With the status that says whose fault it is, before any task is sent."""

    def refused(
        method: str, path: str, *, headers: dict[str, str] | None = None, **body: Any
    ) -> tuple[int, str]:
        answer = host.client.request(method, f"/api/v1/{path}", json=body or None, headers=headers)
        return answer.status_code, answer.text

    wrong = {"Authorization": "Bearer other"}
    assert refused("POST", "pipeline/sync", headers=wrong) == (401, '{"detail":"wrong token"}')
    assert refused("GET", "search?q=tide", headers={"Authorization": ""})[0] == 401
    assert refused("POST", "pipeline/sync", sources="news")[0] == 422
    assert refused("POST", "pipeline/sync", sources=["nowhere"]) == (
        404, '{"detail":"there is no source nowhere"}'
    )  # fmt: skip
    assert refused("GET", "tasks/4711") == (404, '{"detail":"there is no task 4711"}')
    assert refused("GET", "documents/4711") == (404, '{"detail":"there is no document 4711"}')
    assert refused("GET", "documents/first")[0] == 422
    assert refused("GET", "search")[0] == refused("GET", "search?q=+")[0] == 422
    assert host.hits("NOT AND") == []  # words, and no commands of the index
    for url in (
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        f"http://127.0.0.1:{host.port + 1}/source/news/index.txt",
        f"http://127.0.0.1:{host.port}@example.org/",
        f"http://user@127.0.0.1:{host.port}/source/news/index.txt",
        "no url",
    ):
        status, text = refused("POST", "pipeline/fetch", url=url)
        assert (status, "is no configured source" in text) == (422, True), (url, text)


def test_a_task_that_fails_says_why(host: Pipeline, celery: Celery) -> None:
    """To the client, and in the run; whoever sends a task past the API is refused by the task itself."""
    url = f"{host.client.base_url}/source/news/gone.txt"
    task_id = host.post("fetch", url=url)
    assert host.failure(task_id) == f"{url} answers 404"
    elsewhere = "http://169.254.169.254/latest/meta-data"
    sent = celery.send_task("fetch_url", [elsewhere], queue="processing")
    with pytest.raises(Exception, match="is no configured source"):
        sent.get(timeout=60)
    # What a part of a collection meets fails all of it.
    part = celery.send_task("collect_from_source", ["nowhere"], root_id=task_id)
    with pytest.raises(Exception, match="nowhere"):
        part.get(timeout=60)
    assert host.failure(task_id) == "'nowhere'"
    host.wait_until_stored()
    errors = fetch(
        host.environment["DATABASE_URL"],
        "SELECT message FROM execution_logs WHERE task_id = $1 AND level = 'error' ORDER BY created_at, id",
        task_id,
    )
    assert errors[0]["message"] == f"{url} answers 404"
    assert host.run(task_id)["state"] == "failed"


def test_what_beat_sends_is_done(host: Pipeline, celery: Celery) -> None:
    """Health, clean-up and the report, each as its result says; and Beat knows when."""
    assert_collected(host, host.result(host.post("sync")))
    assert celery.send_task("health_check").get(timeout=60) == {"database": "ok", "store": "ok"}
    assert celery.send_task("clean_up").get(timeout=60) == {"contents": 0}
    report = celery.send_task("weekly_report").get(timeout=60)
    assert report == [
        {"source": "archive", "documents": 10, "duplicates": 6, "new": 10},
        {"source": "handbook", "documents": 12, "duplicates": 0, "new": 12},
        {"source": "news", "documents": 12, "duplicates": 4, "new": 12},
    ]
    host.wait_until_stored()
    code = "from pipeline_host.tasks import app; print(app.conf.beat_schedule)".replace(
        "app.conf.beat_schedule",
        "{each['task']: str(each['schedule']) for each in app.conf.beat_schedule.values()}",
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=host.environment
    )
    assert ast.literal_eval(done.stdout) == {
        "health_check": "<crontab: */5 * * * * (m/h/dM/MY/d)>",
        "sync_pipeline": "<crontab: 0 * * * * (m/h/dM/MY/d)>",
        "clean_up": "<crontab: 30 3 * * * (m/h/dM/MY/d)>",
        "weekly_report": "<crontab: 0 6 * * mon (m/h/dM/MY/d)>",
    }


def test_the_page_and_the_metrics_are_shown(host: Pipeline) -> None:
    """The page to whoever has the token, in a header or by a cookie; the metrics to Prometheus."""
    url = f"{host.client.base_url}/source/news/clock-repaired.txt"
    assert host.result(host.post("fetch", url=url)) == {"collected": 1, "failed": {}}
    without = {"Authorization": ""}
    assert host.client.get("/execution-logs/", headers=without).status_code == 403
    assert host.client.get("/login", params={"token": "other"}, headers=without).status_code == 401
    answer = host.client.get("/login", params={"token": TOKEN}, headers=without)
    assert (answer.status_code, answer.headers["location"]) == (303, "/execution-logs/")
    assert host.client.get("/execution-logs/", headers=without).status_code == 200
    host.client.cookies.clear()
    assert host.client.get("/execution-logs/").status_code == 200
    metrics = parse(host.client.get("/metrics/").raise_for_status().text)
    assert metrics["execution_logger_entries_accepted_total"] > 0
    assert host.client.get("/health").json() == {"database": "ok", "store": "ok"}


def test_the_manager_keeps_processes_in_the_background(host: Pipeline) -> None:
    """As many workers as wanted, and Beat: started, shown, restarted and stopped by name, all by none."""
    host.environment["PIPELINE_WORKERS"] = "2"
    try:
        assert host.manage("status").returncode != 0  # nothing runs yet
        started = host.manage("start", "worker", "beat")
        assert started.returncode == 0, started
        supervisord = psutil.Process(int((host.folder / "supervisord.pid").read_text()))
        before = children_of(supervisord)
        assert before.keys() == {"worker0", "worker1", "beat"}
        wait_until(lambda: {"worker0", "worker1"} <= host.workers().keys(), 30)
        assert host.manage("restart", "beat").returncode == 0
        after = children_of(supervisord)
        assert after["worker0"] == before["worker0"]
        assert after["beat"] != before["beat"]
        assert "RUNNING" in host.manage("status", "worker").stdout
        ending = [supervisord, *supervisord.children(recursive=True)]
    finally:
        assert host.manage("stop").returncode == 0
    assert psutil.wait_procs(ending, timeout=60)[1] == []


def children_of(supervisord: psutil.Process) -> dict[str, int]:
    """The process ids of what it keeps, by name: of a worker its own, else its command."""
    found = {}
    for child in supervisord.children():
        words = " ".join(child.cmdline())
        name = re.search(r"(worker\d)@", words)
        found[name[1] if name else "beat"] = child.pid
    return found


def test_it_needs_no_server(tmp_path: Path) -> None:
    """On a broker in a folder, SQLite and a folder of documents a collection finds the same."""
    with Pipeline(tmp_path) as host:
        subprocess.run(["execution-logger", "db", "upgrade"], check=True, env=host.environment)
        host.start_all(workers=1)
        task_id = host.post("sync")
        assert_collected(host, host.result(task_id))
        assert len(list((tmp_path / "documents").iterdir())) == 30
        host.wait_until_stored()
        run = host.run(task_id)
        assert (run["state"], run["entries"]) == ("done", len(host.rows())), run


class HeldSource:
    """A source with some documents, each of which is sent when the test lets it go."""

    def __init__(self, count: int) -> None:
        self.names = [f"document-{number}.txt" for number in range(count)]
        self.asked: list[str] = []
        self.open = threading.Event()
        source = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.removeprefix("/")
                if name == "index.txt":
                    content = "\n".join(source.names)
                else:
                    source.asked.append(name)
                    source.open.wait()
                    content = f"{name}\n\n{sha256(name.encode()).hexdigest() * 3}\n"
                with suppress(OSError):  # whoever has asked was killed
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(content.encode())

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.index = f"http://127.0.0.1:{self._server.server_port}/index.txt"

    def hold(self) -> None:
        """Forget who has asked, and answer nobody."""
        self.asked.clear()
        self.open.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Collecting(Pipeline):
    """The host while it collects from a source that holds its documents back."""

    def __init__(self, source: HeldSource, folder: Path, **environment: str) -> None:
        super().__init__(folder, PIPELINE_SOURCES=f"held={source.index}", **environment)
        self.source = source

    def begin(self, documents: int = 1) -> str:
        """Start a collection, and wait until so many documents are asked for; its task's id."""
        self.source.hold()
        task_id = self.post("sync")
        self.wait_until_asked(documents)
        return task_id

    def wait_until_asked(self, documents: int) -> None:
        """Wait until so many documents were asked for."""
        wait_until(lambda: len(self.source.asked) >= documents, 30, message=lambda: self.output)

    def assert_collected(self, task_id: str) -> None:
        """All that the source has was collected."""
        collected = {"collected": 12, "failed": {}, "duplicates": {"exact": 0, "similar": 0}, "indexed": 12}
        assert self.result(task_id) == collected
        assert set(self.source.asked) == set(self.source.names)


def test_a_collection_survives_what_machines_do(
    own_redis_server: RedisServer, own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Workers killed and stopped, Redis and PostgreSQL stopped, the web process killed: all is collected."""
    upgrade_database(own_postgres_server.url())
    environment = {
        "CELERY_BROKER_URL": own_redis_server.url(0),
        "CELERY_RESULT_BACKEND": own_redis_server.url(1),
        "DATABASE_URL": own_postgres_server.url(),
        "PIPELINE_VISIBILITY_TIMEOUT_SECONDS": str(VISIBILITY_TIMEOUT_SECONDS),
    }
    with HeldSource(12) as source, Collecting(source, tmp_path, **environment) as host:
        killed, stopped = host.start_all(workers=2)

        # A child of a worker is killed, then all of that worker; the other one is stopped in order.
        task_id = host.begin(documents=2)
        psutil.Process(killed.pid).children()[0].kill()
        host.wait_until_asked(3)
        killed.kill()
        stopped.send_signal(signal.SIGTERM)
        source.open.set()
        assert stopped.wait() == 0
        worker = host.start_worker(2)
        host.assert_collected(task_id)
        assert max(Counter(source.asked).values()) > 1  # who was killed had asked for them

        # Redis is stopped while a document is fetched.
        task_id = host.begin()
        own_redis_server.stop()
        assert host.client.post("/api/v1/pipeline/sync").status_code == 503
        assert host.client.get(f"/api/v1/tasks/{task_id}").status_code == 503
        source.open.set()
        own_redis_server.start()
        host.assert_collected(task_id)

        # PostgreSQL is, and tasks that need it try again.
        task_id = host.begin()
        own_postgres_server.stop()
        assert host.client.get("/api/v1/documents").status_code == 503
        assert host.client.get("/health").status_code == 503
        source.open.set()
        wait_until(lambda: re.search(r"process_document\S+ retry", worker.output), 30)
        own_postgres_server.start()
        host.assert_collected(task_id)

        # The web process is killed, and the worker stopped in order.
        task_id = host.begin()
        host.kill("web")
        worker.send_signal(signal.SIGTERM)
        source.open.set()
        assert worker.wait() == 0
        host.start("web", ready="Uvicorn running")
        host.start_worker(3)
        host.assert_collected(task_id)
        host.stop("worker")
        host.stop("web")
        host.wait_until_stored()
