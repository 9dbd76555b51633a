"""Hosts that serve HTTP, for gunicorn, uWSGI and uvicorn: each request makes calls.

FAULTS_CALLS names the folder of calls.py.
"""

import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path

from execution_logger import LogCategory, execution_logger
from integration.faults.calls import Stream

CALLS_PER_REQUEST = 10

_FOLDER = Path(os.environ["FAULTS_CALLS"])


def burst(role: str) -> None:
    """Make some numbered calls."""
    with Stream(_FOLDER, role) as stream:
        for _ in range(CALLS_PER_REQUEST):
            stream.make(
                lambda task_id, message: execution_logger.sync.info(task_id, LogCategory.API, message)
            )


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """A WSGI application."""
    burst("wsgi")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def preloaded() -> Callable[..., Iterable[bytes]]:
    """The same one, made where it is loaded: with `--preload` that is before the workers are forked."""
    burst("preload")
    return wsgi


def view(_: Any) -> HttpResponse:
    """A view of Django's."""
    burst("django")
    return HttpResponse(str(os.getpid()))


urlpatterns = [path("", view)]


def django() -> Any:
    """Django's application: it has no lifespan of its own."""
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)
    return execution_logger.asgi(get_asgi_application())


def looked_at() -> Callable[..., Iterable[bytes]]:
    """The same one, after a mere look at the numbers where it is loaded."""
    execution_logger.stats()
    return wsgi


async def asgi(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """An ASGI application with a lifespan."""
    if scope["type"] == "lifespan":
        async with execution_logger.lifespan():
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    with Stream(_FOLDER, "asgi") as stream:
        for _ in range(CALLS_PER_REQUEST):
            await execution_logger.info(stream.name, LogCategory.API, stream.begin())
            stream.returned()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
