"""The documentation's Python examples run, and do what the text around them says.

Each ```python block has a name, in a comment before it, and a test: here, or beside those of an
integration. Both languages show the same blocks, which `test_docs.py` checks: the English pages stand
for both.
"""

import logging
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import celery._state
import httpx
import prometheus_client
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.routing import Mount

import execution_logger
from documents import TRANSLATED, Document
from execution_logger import ExecutionLogger, LogEntry, Settings
from execution_logger.broker.connection import TASK_NAME
from execution_logger.delivery import Delivery
from execution_logger.integrations import prometheus
from execution_logger.read.repository import _settings_of_environment
from execution_logger.store import ExecutionLogRepository
from execution_logger.testing import MemoryDelivery, capture_entries
from execution_logger.worker.schedule import JOBS
from scraping import parse, scrape
from sqlite_site import SqliteSite, make_tables

README, USING, TABLES, CELERY_SETUP, OPERATING, PAGE = (
    Document(name)
    for name in (
        "README.md",
        "docs/USING.md",
        "docs/TABLES.md",
        "docs/CELERY_SETUP.md",
        "docs/OPERATING.md",
        "docs/PAGE.md",
    )
)

MakeLogger = Callable[..., ExecutionLogger]


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, from its startup to its shutdown."""
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://host") as client,
    ):
        yield client


@pytest.fixture
def entries() -> Iterator[list[LogEntry]]:
    """What the ready instance records."""
    with capture_entries() as entries:
        yield entries


@pytest.fixture
def ready_logger(make_logger: MakeLogger, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ExecutionLogger]:
    """Replaces the ready instance, for examples that deliver or configure."""

    def replace(delivery: Delivery | None = None) -> ExecutionLogger:
        logger = make_logger(delivery) if delivery else ExecutionLogger()
        monkeypatch.setattr(execution_logger, "execution_logger", logger)
        return logger

    return replace


@pytest.fixture
def no_current_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application of an example is not the current one of later tests."""
    monkeypatch.setattr(celery._state._tls, "current_app", None)


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteSite]:
    """A database with the library's tables, which the environment names."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'logs.db'}")
    async with SqliteSite(tmp_path / "logs.db") as site:
        make_tables(site.path)
        yield site
    _settings_of_environment.cache_clear()  # a repository has read them, and this database is gone


async def test_the_page_in_a_host(site: SqliteSite) -> None:
    """Those whom its login has let in see it, below its prefix."""
    names = PAGE.run_example("page-fastapi")
    host: FastAPI = names["app"]
    mounted: Any = next(route.app for route in host.routes if isinstance(route, Mount))

    async def with_login(scope: Any, receive: Any, send: Any) -> None:
        user = dict(scope["headers"]).get(b"x-user", b"").decode()
        await host({**scope, "state": {"user": user}}, receive, send)

    transport = httpx.ASGITransport(with_login)
    async with (
        mounted.router.lifespan_context(mounted),
        httpx.AsyncClient(transport=transport, base_url="http://host") as client,
    ):
        path = "/execution-logs/api/about"
        assert (await client.get(path)).status_code == 403
        for user, permissions in (("ann", ["read", "change"]), ("bob", ["read"])):
            answer = await client.get(path, headers={"x-user": user})
            assert answer.json()["permissions"] == permissions


def test_every_example_has_a_test() -> None:
    """A Python block without a name or without a test would be a promise that nobody checks."""
    here = Path(__file__).parent
    files = [*here.glob("test_*.py"), *here.with_name("frameworks").glob("test_*.py")]
    tests = "".join(file.read_text(encoding="utf-8") for file in files)
    tested = re.findall(r'run_example\("([\w-]+)"\)', tests)
    blocks = [
        block for page in map(Document, TRANSLATED) for block in page.blocks if block.language == "python"
    ]
    examples = [str(block.example) for block in blocks]
    assert len(set(examples)) == len(examples)
    assert [example for example in examples if example not in tested] == []


# README ------------------------------------------------------------------------------------------


async def test_a_fastapi_host(entries: list[LogEntry]) -> None:
    """A request is an entry."""
    async with running(README.run_example("short-fastapi")["app"]) as client:
        await client.post("/runs/task-1")
    assert [(entry.task_id, entry.details) for entry in entries] == [("task-1", {"chapters": 3})]


async def test_any_asgi_host(entries: list[LogEntry], monkeypatch: pytest.MonkeyPatch) -> None:
    """The application is what it was."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await execution_logger.execution_logger.info(scope["path"], "api", "asked")

    django = SimpleNamespace(get_asgi_application=lambda: application)
    monkeypatch.setitem(sys.modules, "django.core.asgi", django)
    await README.run_example("short-asgi")["application"]({"type": "http", "path": "/"}, None, None)
    assert [entry.task_id for entry in entries] == ["/"]


def test_a_script(entries: list[LogEntry]) -> None:
    """One call, one entry."""
    README.run_example("short-script")
    assert [entry.message for entry in entries] == ["run requested"]


@pytest.mark.usefixtures("no_current_app")
def test_a_task_of_a_hosts_own(entries: list[LogEntry]) -> None:
    """What it logs has its step."""
    README.run_example("short-task")["research"]("task-1")
    assert [(entry.task_id, entry.step) for entry in entries] == [("task-1", "research")]


# docs/USING.md -----------------------------------------------------------------------------------


async def test_fastapi(entries: list[LogEntry]) -> None:
    """The application answers, and its run has two steps with a timed one in between."""
    async with running(USING.run_example("fastapi")["app"]) as client:
        assert (await client.post("/runs/task-1")).json() == {"task_id": "task-1"}
    assert [entry.message for entry in entries] == ["Planning", "outline 开始", "outline 完成", "Planned"]
    assert entries[2].details == {"chapters": 3}
    assert entries[2].duration_ms is not None


async def test_own_lifespan(ready_logger: Callable[..., ExecutionLogger]) -> None:
    """What was recorded while the application ran is delivered when it has ended."""
    delivery = MemoryDelivery()
    logger = ready_logger(delivery)
    async with running(USING.run_example("own-lifespan")["app"]):
        await logger.info("task-1", "api", "running")
    assert [entry["message"] for entry in delivery.entries] == ["running"]


async def test_asgi(ready_logger: Callable[..., ExecutionLogger], monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that knows no lifespan has one; what stands in for Django's refuses as that does."""

    async def application(*_: object) -> None:
        raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")

    delivery = MemoryDelivery()
    logger, answers = ready_logger(delivery), list[tuple[str, int]]()
    asked = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> dict[str, str]:
        if answers:
            await logger.info("task-1", "api", "running")
        return next(asked)

    async def send(message: Any) -> None:
        answers.append((message["type"], len(delivery.entries)))

    django = SimpleNamespace(get_asgi_application=lambda: application)
    monkeypatch.setitem(sys.modules, "django.core.asgi", django)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "host.settings")
    await USING.run_example("asgi")["application"]({"type": "lifespan"}, receive, send)
    assert answers == [("lifespan.startup.complete", 0), ("lifespan.shutdown.complete", 1)]


def test_flask(entries: list[LogEntry]) -> None:
    """The view returns the id of the entry that it recorded."""
    answer = USING.run_example("flask")["app"].test_client().post("/runs/task-1")
    assert answer.json == {"entry_id": entries[0].id}
    assert entries[0].task_id == "task-1"


@pytest.mark.usefixtures("no_current_app")
def test_celery_task(entries: list[LogEntry]) -> None:
    """Two runs of the task, each with a loop of its own."""
    research = USING.run_example("celery-task")["research"]
    for task_id in ("task-1", "task-2"):
        research(task_id)
    assert [(entry.task_id, entry.level) for entry in entries] == [
        (task_id, level) for task_id in ("task-1", "task-2") for level in ("info", "debug", "warning")
    ]


def test_sigterm(entries: list[LogEntry]) -> None:
    """The signal ends the script as an orderly end does."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        USING.run_example("sigterm")
        handler: Any = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit, match="143"):
            handler(signal.SIGTERM, None)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [entry.task_id for entry in entries] == ["nightly-import"]


def test_own_logger() -> None:
    """It has the settings that it was given."""
    settings: Settings = USING.run_example("own-logger")["audit"].settings
    assert (settings.queue, settings.batch_size) == ("audit", 20)


async def test_operations(entries: list[LogEntry]) -> None:
    """Each entry has its parent, in other threads too; the run says that it is done."""
    await USING.run_example("operations")["handle"]("task-1")
    names: dict[str | None, str] = {}
    for entry in entries:
        names.setdefault(entry.operation_id, entry.message.split()[0])
    del names[None]
    parents = {names.get(entry.operation_id, entry.message): names.get(entry.parent_id) for entry in entries}
    assert parents == {
        "report": None,
        "research": "report",
        "search": "research",
        "asking the index": "search",
    }
    assert len(names) == 4
    assert {entry.task_id for entry in entries} == {"task-1"}
    assert (entries[-1].details or {})["run_state"] == "done"


async def test_volume(entries: list[LogEntry]) -> None:
    """Changed while the process runs, and changed back."""
    example = USING.run_example("volume")
    try:
        for change in ("be_quiet", "look_closer"):
            example[change]()
            await execution_logger.execution_logger.debug("r", "agent", change)
    finally:
        execution_logger.execution_logger.set_volume(level="debug", debug_share=1.0, run_max_entries=0)
    assert [entry.message for entry in entries] == ["look_closer"]


async def test_bind(entries: list[LogEntry]) -> None:
    """Bound fields and those of the context are filled in; the rest is in the details."""
    await USING.run_example("bind")["handle"]("task-1", "request-1")
    assert (entries[0].task_id, entries[0].agent_name, entries[0].roadmap_id) == ("task-1", "planner", "r-7")
    assert entries[0].details == {"tenant": "acme", "request_id": "request-1"}


async def test_flush(ready_logger: Callable[..., ExecutionLogger], caplog: pytest.LogCaptureFixture) -> None:
    """The entry is delivered when the call returns, and there is nothing to warn of."""
    delivery = MemoryDelivery()
    ready_logger(delivery)
    with caplog.at_level(logging.WARNING):
        await USING.run_example("flush")["finish"]("task-1")
    assert [entry["message"] for entry in delivery.entries] == ["finished"]
    assert caplog.messages == []


async def test_read_back(site: SqliteSite) -> None:
    """A line that sums the run up, then its entries, newest first."""
    describe_run = USING.run_example("read-back")["describe_run"]
    async with AsyncSession(site.engine) as session:
        for level in ("info", "error"):
            await ExecutionLogRepository(session).create_log("task-1", level, "api", f"an {level}")
        lines = await describe_run(session, "task-1")
    assert lines[0].startswith("2 entries")
    assert [line.partition(" ")[2] for line in lines[1:]] == ["error an error", "info an info"]


def test_the_stats_that_are_shown() -> None:
    """All of them, in their order: whoever writes an alert looks there."""
    (shown,) = (block.code for block in USING.blocks if "'guarantee'" in block.code)
    with capture_entries():
        stats = execution_logger.execution_logger.stats()
    assert re.findall(r"^[ {]'(\w+)':", shown, re.MULTILINE) == list(stats)


async def test_capture() -> None:
    """The example is a test, and passes."""
    await USING.run_example("capture")["test_a_failure_is_logged"]()


def test_expectations(captured_entries: list[LogEntry]) -> None:
    """The example is a test, and passes, with the fixture that pytest finds."""
    USING.run_example("expectations")["test_it_searches_twice"](captured_entries)


# docs/TABLES.md ----------------------------------------------------------------------------------


def test_masking(entries: list[LogEntry]) -> None:
    """The example asserts by itself."""
    TABLES.run_example("masking")
    assert len(entries) == 1


# docs/CELERY_SETUP.md ----------------------------------------------------------------------------


@pytest.mark.usefixtures("no_current_app")
def test_celery_app(ready_logger: Callable[..., ExecutionLogger]) -> None:
    """The ready logger uses the host's application from then on."""
    logger = ready_logger()
    app = CELERY_SETUP.run_example("celery-app")["app"]
    assert logger._host.celery_app is app


@pytest.mark.usefixtures("no_current_app", "site")
def test_register_tasks() -> None:
    """The host's application has the task."""
    assert TASK_NAME in CELERY_SETUP.run_example("register-tasks")["app"].tasks


def test_the_schedule_in_a_hosts_own_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """All jobs are in it."""
    monkeypatch.setenv("DATABASE_URL", "sqlite:///unused.db")
    app = CELERY_SETUP.run_example("beat-schedule")["app"]
    assert {entry["task"] for entry in app.conf.beat_schedule.values()} == {job.task for job in JOBS.values()}
    app.close()


# docs/OPERATING.md -------------------------------------------------------------------------------


@pytest.mark.usefixtures("entries")
async def test_health() -> None:
    """The endpoint answers with the process's numbers."""
    async with running(OPERATING.run_example("health")["app"]) as client:
        assert (await client.get("/health/logging")).json()["waiting"] == 0


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """In place of the process's own, which outlives the test."""
    registry = CollectorRegistry()
    for function in (prometheus.instrument, prometheus_client.make_asgi_app):
        defaults = tuple(registry if value is REGISTRY else value for value in function.__defaults__ or ())
        monkeypatch.setattr(function, "__defaults__", defaults)
    return registry


@pytest.mark.usefixtures("entries", "registry")
async def test_metrics() -> None:
    """Prometheus follows the redirect to the application that is mounted."""
    async with running(OPERATING.run_example("metrics")["app"]) as client:
        answer = await client.get("/metrics", follow_redirects=True)
    assert parse(answer.text)["execution_logger_entries_waiting"] == 0


@pytest.mark.usefixtures("entries")
def test_metrics_of_several_processes() -> None:
    """Each worker of gunicorn gets a port."""
    post_fork = OPERATING.run_example("metrics-processes")["post_fork"]
    workers = SimpleNamespace(), SimpleNamespace()
    for worker in workers:
        post_fork(SimpleNamespace(), worker)
    ports = [worker.metrics_server.port for worker in workers]
    try:
        assert len(set(ports)) == 2
        assert all(scrape(port)["execution_logger_entries_waiting"] == 0 for port in ports)
    finally:
        for worker in workers:
            worker.metrics_server.close()
