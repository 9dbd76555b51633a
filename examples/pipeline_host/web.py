"""The web process: the pipeline's API, metrics, the page of the runs, and the demonstration's sources."""

import time
from pathlib import Path
from secrets import compare_digest
from typing import Annotated, Any
from uuid import uuid4

import sqlalchemy as sa
from celery import chain
from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from kombu.exceptions import OperationalError
from prometheus_client import make_asgi_app
from redis.exceptions import RedisError
from starlette.requests import HTTPConnection

from execution_logger import execution_logger
from execution_logger.integrations.prometheus import instrument
from execution_logger.web import create_app
from pipeline_host import database, settings, store, tasks
from pipeline_host.database import documents
from pipeline_host.sources import RefusedUrlError, source_of

COOKIE = "pipeline_token"

# A request does not wait for a Redis that is away: Celery would, for six seconds.
tasks.app.conf.broker_transport_options |= {"max_retries": 0, "socket_timeout": 2}


def is_allowed(scope: Any) -> bool:
    """Whether a request has the token: in its header Authorization, or in the cookie of `/login`."""
    request = HTTPConnection(scope)
    token = request.cookies.get(COOKIE) or request.headers.get("authorization", "").removeprefix("Bearer ")
    return compare_digest(token.encode(), settings.TOKEN.encode())


def require_token(request: Request) -> None:
    """Turn away whoever has not got the token."""
    if not is_allowed(request.scope):
        raise HTTPException(401, "wrong token", {"WWW-Authenticate": "Bearer"})


instrument()
app = FastAPI(title="A collection pipeline", lifespan=execution_logger.lifespan)
api = APIRouter(prefix="/api/v1", dependencies=[Depends(require_token)])


@api.post("/pipeline/sync", status_code=202)
def sync(sources: Annotated[list[str] | None, Body(embed=True)] = None) -> dict[str, str]:
    """Collect from these sources, or from all if none is named, then deduplicate and index."""
    if unknown := set(sources or ()) - settings.SOURCES.keys():
        raise HTTPException(404, f"there is no source {', '.join(sorted(unknown))}")
    return start("sync_pipeline", tasks.sync_pipeline.si(sources or ()))


@api.post("/pipeline/fetch", status_code=202)
def fetch(url: Annotated[str, Body(embed=True)]) -> dict[str, str]:
    """Collect one document."""
    try:
        source_of(url)
    except RefusedUrlError as error:
        raise HTTPException(422, str(error)) from None
    return start("fetch_url", chain(tasks.fetch_url.si(url), tasks.process_document.s()))


def start(name: str, signature: Any) -> dict[str, str]:
    """Send a task; its run in the log has its id, and ends with its last task."""
    task_id = str(uuid4())
    with execution_logger.run(task_id, name, ends=False):
        tasks.app.backend.store_result(task_id, None, "SENT")  # or Celery would know nothing of it yet
        signature.apply_async(task_id=task_id, root_id=task_id, retry=False)
    return {"task_id": task_id, "status_url": f"/api/v1/tasks/{task_id}"}


@api.get("/tasks/{task_id}")
def task_status(task_id: str) -> dict[str, Any]:
    """How a task is that was started here."""
    for _ in range(6):  # results in files are gone for the moment in which they are written
        told = tasks.app.backend.get_task_meta(task_id)
        if told["status"] != "PENDING":  # Celery's word for whatever it does not know
            break
        time.sleep(0.05)
    else:
        raise HTTPException(404, f"there is no task {task_id}")
    state, result = told["status"], told["result"]
    done = {"result": result} if state == "SUCCESS" else {}
    outcome = {"error": str(result)} if isinstance(result, Exception) else done
    return {"task_id": task_id, "state": state, **outcome}


@api.get("/search")
def search(
    q: Annotated[str, Query(pattern=r"\w")], limit: Annotated[int, Query(ge=1, le=100)] = 10
) -> list[dict[str, Any]]:
    """The documents that hold all the words, the best first."""
    return database.search(q, limit)


@api.get("/documents")
def list_documents() -> list[dict[str, Any]]:
    """What was collected, and what of it is a duplicate of what."""
    columns, original = documents.c, documents.alias()
    wanted = (columns.id, columns.url, columns.source, columns.title, columns.similarity)
    statement = sa.select(*wanted, original.c.url.label("duplicate_of")).order_by(columns.url)
    return database.rows(statement.outerjoin(original, original.c.id == columns.duplicate_of))


@api.get("/documents/{document_id}")
def read_document(document_id: int) -> PlainTextResponse:
    """A document as it came."""
    found = database.rows(sa.select(documents.c.content_hash).where(documents.c.id == document_id))
    if not found:
        raise HTTPException(404, f"there is no document {document_id}")
    return PlainTextResponse(store.get(found[0]["content_hash"]))


@app.get("/health")
def health() -> JSONResponse:
    """How what the tasks need is, as this process sees it."""
    found = tasks.health()
    return JSONResponse(found, 200 if set(found.values()) == {"ok"} else 503)


@app.get("/login")
def log_in(token: str) -> Response:
    """Let a browser in, which sends a cookie and no header, and show it the runs."""
    if not compare_digest(token.encode(), settings.TOKEN.encode()):
        raise HTTPException(401, "wrong token")
    answer = RedirectResponse("/execution-logs/", 303)
    answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
    return answer


def unavailable(_: Request, error: Exception) -> JSONResponse:
    """Say that Redis, the database or the store is away: nothing is wrong with the request."""
    return JSONResponse({"detail": f"not available now: {type(error).__name__}"}, 503, {"Retry-After": "5"})


for kind in (OperationalError, RedisError, *database.AWAY, *store.AWAY):
    app.add_exception_handler(kind, unavailable)
app.include_router(api)
app.mount("/metrics", make_asgi_app())
app.mount("/execution-logs", create_app(authorize=is_allowed))
app.mount("/source", StaticFiles(directory=Path(__file__).parent / "documents"))
