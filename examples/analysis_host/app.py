"""The web application: it starts analyses and tasks, and shows how far they are."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from secrets import compare_digest
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form, Header, HTTPException, Query, Request, WebSocket
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from prometheus_client import make_asgi_app
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection

from analysis_host import tasks
from analysis_host.dispatch import BrokerAwayError, Dispatcher, send
from analysis_host.settings import load_token
from analysis_host.store import DatabaseAwayError, Event, Json, Store
from execution_logger import execution_logger
from execution_logger.integrations.prometheus import instrument
from execution_logger.web import create_app

ANALYSIS, TASKS = "/api/v1/litigation-analysis", "/api/v1/tasks"
LOGIN = (
    '<!doctype html><form method="post">Token <input name="token" type="password"> <button>Log in</button>'
)
TOKEN = load_token()
Name = Annotated[str, Field(min_length=1, max_length=200)]
Seconds = Annotated[float, Query(ge=0, le=3600)]
store = Store(pool_size=5)
dispatcher = Dispatcher(store)


def may_enter(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request has the bearer token, or the cookie of the login."""
    given = Headers(scope=scope).get("authorization", "").encode()
    return compare_digest(given, f"Bearer {TOKEN}".encode()) or bool(scope["session"].get("may_enter"))


def require_token(connection: HTTPConnection) -> None:
    """Turn away whoever has neither."""
    if not may_enter(connection.scope):
        text = "The token is missing or wrong: send the header Authorization: Bearer TOKEN"
        raise HTTPException(401, text, {"WWW-Authenticate": "Bearer"})


async def find(session_id: str) -> Json:
    """The session of a path."""
    if (session := await store.session(session_id)) is None:
        raise HTTPException(404, f"There is no session {session_id}")
    return session


TheSession = Annotated[Json, Depends(find)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Go on with what an earlier process has left; at the end, leave what runs to the next one."""
    async with execution_logger.lifespan(app):
        await store.create_tables()
        await dispatcher.resume()
        yield
        await dispatcher.stop()
        await store.close()


instrument()
app = FastAPI(title="Analyses with agents", lifespan=lifespan)
app.add_middleware(SessionMiddleware, secret_key=TOKEN, same_site="strict")
app.mount("/metrics", make_asgi_app())
app.mount("/execution-logs", create_app(authorize=may_enter))
api = APIRouter(dependencies=[Depends(require_token)])


class AnalysisRequest(BaseModel):
    """What is to be analysed."""

    package_id: Name
    case_type: Name
    case_position: Name
    user_input: str = Field(min_length=1, max_length=20_000)
    document_ids: list[Name] = Field(max_length=1000)


class Document(BaseModel):
    """A document to be kept."""

    document_id: Name
    text: str = Field(max_length=1_000_000)


@api.post(f"{ANALYSIS}/start")
async def start(body: AnalysisRequest) -> Json:
    """Start an analysis."""
    return await dispatcher.start(body.model_dump())


@api.get(f"{ANALYSIS}/status/{{session_id}}")
async def status(session: TheSession) -> Json:
    """How far an analysis is, and what was found so far."""
    times = {name: datetime.fromtimestamp(session[name], UTC) for name in ("created_at", "updated_at")}
    return {**session, **times}


@api.get(f"{ANALYSIS}/stream/{{session_id}}", response_class=EventSourceResponse)
async def stream(
    session: TheSession, last_event_id: Annotated[int, Header()] = 0
) -> AsyncIterator[ServerSentEvent]:
    """All that was told of an analysis and will be, until its end, as server-sent events."""
    async for event in store.follow(session["session_id"], last_event_id):
        yield ServerSentEvent(data=event, event=event["kind"], id=str(event["id"]))


@api.websocket(f"{ANALYSIS}/ws/{{session_id}}")
async def watch(websocket: WebSocket, session: TheSession, after: int = 0) -> None:
    """The same over a WebSocket, a JSON text for each event."""

    async def tell() -> None:
        async for event in store.follow(session["session_id"], after):
            await websocket.send_json(event)
        await websocket.close()

    await websocket.accept()
    telling = asyncio.create_task(tell())
    async for _ in websocket.iter_text():  # until one of the two closes it
        pass
    telling.cancel()


@api.get("/api/v1/notifications")
async def notifications() -> list[Json]:
    """Who was told what."""
    return await store.rows(Event, Event.kind == "notification")


@api.post(f"{TASKS}/example")
async def example(name: Annotated[Name, Query()], seconds: Seconds = 1) -> Json:
    """Send a task that takes so long."""
    return await send_task(tasks.example, name=name, seconds=seconds)


@api.post(f"{TASKS}/add")
async def add(x: float, y: float) -> Json:
    """Send a task that adds two numbers."""
    return await send_task(tasks.add, x=x, y=y)


@api.post(f"{TASKS}/process-document")
async def process_document(body: Document) -> Json:
    """Send a task that keeps a document."""
    return await send_task(tasks.process_document, **body.model_dump())


async def send_task(task: Any, **kwargs: Any) -> Json:
    """Send a task, and remember it: Celery says PENDING of any id that it is asked for."""
    task_id = await send(task, **kwargs)
    await store.keep("task", task_id, name=task.name)
    return {"task_id": task_id, "status": "pending", "message": f"{task.name} is queued"}


@api.get(f"{TASKS}/status/{{task_id}}")
async def task_status(task_id: str) -> Json:
    """How a task is going."""
    try:
        found = await asyncio.to_thread(tasks.app.backend.get_task_meta, task_id)
    except Exception as reason:
        raise BrokerAwayError(f"Celery's result backend does not answer ({reason})") from reason
    state, told = found["status"], found["result"]
    if state == "PENDING" and not await store.kept("task", task_id):
        raise HTTPException(404, f"There is no task {task_id}")
    error = f"{type(told).__name__}: {told}" if isinstance(told, BaseException) else None
    parts = {"SUCCESS": "result", "PROGRESS": "progress"}
    shown = {part: told if state == name else None for name, part in parts.items()}
    return {"task_id": task_id, "state": state, "error": error, **shown}


@app.get("/login", response_class=HTMLResponse)
async def login_form() -> str:
    """Ask for the token, for those who come with a browser."""
    return LOGIN


@app.post("/login")
async def login(request: Request, token: Annotated[str, Form()]) -> RedirectResponse:
    """Let somebody in, and lead them to the page of the runs."""
    if not compare_digest(token.encode(), TOKEN.encode()):
        raise HTTPException(401, "This is not the token")
    request.session["may_enter"] = True
    return RedirectResponse("execution-logs/", 303)


@app.exception_handler(BrokerAwayError)
@app.exception_handler(DatabaseAwayError)
async def say_who_is_away(_: HTTPConnection, error: Exception) -> JSONResponse:
    """Ask to come back later."""
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "5"})


app.include_router(api)
