"""Any ASGI application under any server: the logger gets ready first and delivers last."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from fastapi import FastAPI
from starlette.applications import Starlette

from execution_logger import ExecutionLogger
from execution_logger.testing import MemoryDelivery

MakeLogger = Callable[..., ExecutionLogger]
Application = Callable[..., Any]

STARTED, ENDED = "lifespan.startup.complete", "lifespan.shutdown.complete"


class Server:
    """Serves the lifespan as the protocol has it; notes each answer, and what is delivered by then."""

    def __init__(self, delivery: MemoryDelivery) -> None:
        self.answers: list[str] = []
        self.delivered: list[int] = []
        self._delivery = delivery
        self._asked = iter(("lifespan.startup", "lifespan.shutdown"))

    async def serve(self, app: Application, between: Callable[[], Any] = lambda: None) -> None:
        """Start the application, call `between`, and end it."""

        async def receive() -> dict[str, Any]:
            if (asked := next(self._asked)) == "lifespan.shutdown":
                assert self.answers == [STARTED]
                between()
            return {"type": asked}

        async def send(message: Any) -> None:
            self.answers.append(message["type"])
            self.delivered.append(len(self._delivery.entries))

        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)


@pytest.fixture
def delivery() -> MemoryDelivery:
    """Where the entries of a test go."""
    return MemoryDelivery()


@pytest.fixture
def logger(make_logger: MakeLogger, delivery: MemoryDelivery) -> ExecutionLogger:
    """A logger that delivers there, and not for a long while by itself."""
    return make_logger(delivery, flush_interval_seconds=1000.0)


@pytest.fixture
def server(delivery: MemoryDelivery) -> Server:
    """What runs an application."""
    return Server(delivery)


def django() -> Application:
    """An application of Django's, which raises when it is asked for its lifespan."""
    if not django_settings.configured:
        django_settings.configure(DEBUG=False, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)
    app: Application = get_asgi_application()
    return app


async def ignoring(scope: Any, receive: Any, send: Any) -> None:
    """An application that knows no lifespan, and says nothing."""


async def raising_late(scope: Any, receive: Any, send: Any) -> None:
    """One that reads the message first."""
    await receive()
    raise AssertionError("this application is for HTTP only")


urlpatterns: list[Any] = []


@pytest.mark.parametrize("make", [django, lambda: ignoring, lambda: raising_late, FastAPI, Starlette])
async def test_what_is_left_is_delivered_before_the_last_answer(
    make: Callable[[], Application], logger: ExecutionLogger, server: Server
) -> None:
    """After it the server ends the process; the application may have a lifespan or not."""
    await server.serve(logger.asgi(make()), lambda: logger.sync.info("t", "api", "last"))
    assert server.answers == [STARTED, ENDED]
    assert server.delivered == [0, 1]


def test_under_trio(logger: ExecutionLogger, server: Server) -> None:
    """As hypercorn runs it."""
    trio.run(server.serve, logger.asgi(ignoring), lambda: logger.sync.info("t", "api", "last"))
    assert (server.answers, server.delivered) == ([STARTED, ENDED], [0, 1])


async def test_a_lifespan_of_the_applications_own_is_around_nothing_of_ours(
    logger: ExecutionLogger, server: Server
) -> None:
    """It may log until its end, and its state is its own."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        await logger.info("t", "api", "begins")
        yield {"mine": 1}
        await logger.info("t", "api", "ends")

    await server.serve(logger.asgi(FastAPI(lifespan=lifespan)))
    assert (server.answers, server.delivered) == ([STARTED, ENDED], [0, 2])


async def test_a_start_that_fails(logger: ExecutionLogger, server: Server) -> None:
    """The server is told, and what was logged until then is delivered."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        await logger.error("t", "api", "no database")
        raise RuntimeError("no database")
        yield

    with pytest.raises(RuntimeError, match="no database"):
        await server.serve(logger.asgi(FastAPI(lifespan=lifespan)))
    assert (server.answers, server.delivered) == (["lifespan.startup.failed"], [1])


@pytest.mark.parametrize(("make", "lines"), [(lambda: raising_late, 1), (django, 0)])
async def test_a_start_that_fails_without_an_answer(
    make: Callable[[], Application],
    lines: int,
    logger: ExecutionLogger,
    server: Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The protocol has the server go on, and the error is said; it is none where nothing was asked for."""
    await server.serve(logger.asgi(make()))
    assert server.answers == [STARTED, ENDED]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * lines
    assert ("this application is for HTTP only" in caplog.text) == bool(lines)


async def test_a_lifespan_that_fails_in_the_middle(
    logger: ExecutionLogger, server: Server, delivery: MemoryDelivery, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told at once, the application serves on, and what it logs until the end is delivered."""

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": STARTED})
        raise RuntimeError("half way")

    def between() -> None:
        logger.sync.info("t", "api", "served")
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    with pytest.raises(RuntimeError, match="half way"):
        await server.serve(logger.asgi(fails), between)
    assert [entry["message"] for entry in delivery.entries] == ["served"]


async def test_a_wrong_setting_stops_the_start(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a line that says which; a server takes an exception for a missing lifespan."""
    monkeypatch.setenv("EXECUTION_LOGGER_BATCH_SIZE", "nonsense")
    await server.serve(ExecutionLogger().asgi(FastAPI()))
    assert server.answers == ["lifespan.startup.failed"]


async def test_requests_are_the_applications(logger: ExecutionLogger) -> None:
    """Nothing of theirs is touched."""
    app = FastAPI()
    app.get("/")(lambda: "fine")
    transport = httpx.ASGITransport(logger.asgi(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        assert (await client.get("/")).json() == "fine"


async def test_a_server_that_gives_up_ends_it(logger: ExecutionLogger) -> None:
    """The task that serves the lifespan is cancelled, and what was logged is delivered."""
    started = asyncio.Event()
    messages = asyncio.Queue[dict[str, Any]]()

    async def send(message: Any) -> None:
        started.set()

    messages.put_nowait({"type": "lifespan.startup"})
    task = asyncio.create_task(logger.asgi(ignoring)({"type": "lifespan"}, messages.get, send))
    await started.wait()
    await logger.info("t", "api", "last")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert logger.stats()["delivered"] == 1
