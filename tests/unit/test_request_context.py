"""The context of a request in ASGI applications: FastAPI, Starlette, Litestar, Django; no server."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from litestar import Litestar, get
from litestar.middleware import DefineMiddleware
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from documents import Document
from execution_logger import ExecutionLogger, LogEntry, Settings
from execution_logger.integrations.asgi import RequestContext
from execution_logger.testing import capture_entries

logger = ExecutionLogger(Settings(language="en"))


@pytest.fixture
def entries() -> Iterator[list[LogEntry]]:
    """What is recorded in the test."""
    with capture_entries(logger) as captured:
        yield captured


def note() -> None:
    """An entry of a view's."""
    logger.sync.info(None, "api", "asked")


def fastapi(**options: Any) -> Any:
    """A view of FastAPI's that runs in a thread."""
    app = FastAPI()
    app.add_middleware(RequestContext, logger=logger, **options)
    app.get("/runs/{number}")(lambda number: note())
    return app


def starlette(**options: Any) -> Any:
    """A view of Starlette's in the loop."""

    async def view(request: Request) -> PlainTextResponse:
        await asyncio.create_task(logger.info(None, "api", "asked"))
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/runs/{number}", view)])
    app.add_middleware(RequestContext, logger=logger, **options)
    return app


def litestar(**options: Any) -> Any:
    """A view of Litestar's."""

    @get("/runs/7", sync_to_thread=True)
    def view() -> None:
        note()

    middleware: Any = RequestContext  # Litestar's types tell each message's keys

    requests = DefineMiddleware(middleware, logger=logger, **options)
    return Litestar([view], middleware=[requests], logging_config=None)  # its logging starts a thread


def ask(app: Any, path: str = "/runs/7", **headers: str) -> httpx.Response:
    """What the application answers."""

    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
            named = [(name.replace("_", "-"), value) for name, value in headers.items()]
            return await client.get(path, headers=named)

    return asyncio.run(run())


applications = pytest.mark.parametrize("make", [fastapi, starlette, litestar])


@applications
def test_a_request_fills_in_its_fields(make: Callable[..., Any], entries: list[LogEntry]) -> None:
    """In tasks and threads as well; the query, which may hold secrets, is none of them."""
    ask(make(), "/runs/7?key=secret", X_Request_ID="r-1")
    (entry,) = entries
    assert entry.task_id == "r-1", "the request is a run, where nobody names one"
    assert entry.details == {"method": "GET", "path": "/runs/7", "request_id": "r-1"}


@applications
def test_a_request_that_is_an_operation(make: Callable[..., Any], entries: list[LogEntry]) -> None:
    """Of a run that a header names; the end has the status."""
    ask(make(operation=True, task_id="X-Run-ID"), x_run_id="run-1")
    assert [entry.message for entry in entries] == ["GET /runs/7 started", "asked", "GET /runs/7 completed"]
    assert entries[1].parent_id == entries[0].operation_id
    assert {entry.task_id for entry in entries} == {"run-1"}
    assert (entries[2].details or {})["status"] in {200, 204}


def test_the_run_may_be_told_by_a_function(entries: list[LogEntry]) -> None:
    """Of the scope."""
    ask(fastapi(task_id=lambda scope: scope["path"].rpartition("/")[2]))
    assert entries[0].task_id == "7"


def test_the_route_is_in_the_details(entries: list[LogEntry]) -> None:
    """Where the framework tells it, as FastAPI does."""
    ask(fastapi(operation=True))
    assert (entries[2].details or {})["route"] == "/runs/{number}"


@pytest.mark.parametrize("sent", ["", "x" * 129, "a\x07b"], ids=["none", "long", "bell"])
def test_an_id_that_looks_like_none_is_made(entries: list[LogEntry], sent: str) -> None:
    """Each request has one of its own."""
    app = fastapi()
    for _ in range(2):
        ask(app, X_Request_ID=sent)
    ids = {(entry.details or {})["request_id"] for entry in entries}
    assert len(ids) == 2
    assert all(len(id_) == 32 for id_ in ids)


def test_a_view_that_fails(entries: list[LogEntry]) -> None:
    """The operation has failed, and the error goes on to the server."""
    app = FastAPI()

    def fail() -> None:
        raise ValueError("no")

    app.get("/")(fail)
    app.add_middleware(RequestContext, logger=logger, operation=True)
    with pytest.raises(ValueError, match="no"):
        ask(app, "/")
    assert [entry.message for entry in entries] == ["GET / started", "GET / failed: no"]


def test_websockets_and_all_else(entries: list[LogEntry]) -> None:
    """A websocket is a request; the lifespan passes untouched."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        note()

    app = RequestContext(application, logger=logger)
    asyncio.run(app({"type": "websocket", "path": "/ws", "headers": []}, None, None))  # type: ignore[arg-type]
    asyncio.run(app({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert [(entry.details or {}).get("method") for entry in entries] == ["WEBSOCKET", None]


def test_the_example_of_the_documentation() -> None:
    """The request's entries are in the run that its header names."""
    app = Document("docs/integrations/asgi.md").run_example("request-context")["app"]
    with capture_entries() as entries:
        ask(app, "/reports/7", X_Run_ID="run-1", X_Request_ID="r-1")
    assert [entry.message for entry in entries] == ["GET /reports/7 开始", "asked", "GET /reports/7 完成"]
    assert {entry.task_id for entry in entries} == {"run-1"}
    assert (entries[1].details or {})["request_id"] == "r-1"
