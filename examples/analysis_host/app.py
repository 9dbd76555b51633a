"""The web application: it starts analyses and tasks, and shows how far they are."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from secrets import compare_digest
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Body, Depends, FastAPI, Header, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from fastapi.sse import EventSourceResponse, ServerSentEvent
from prometheus_client import make_asgi_app
from pydantic import BaseModel, Field
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection

from analysis_host import store, tasks
from analysis_host.settings import BROKER_AWAY, AwayError, load_token
from analysis_host.store import BACKGROUND, CELERY, OPEN, Event, Json, Session, SupersededError
from analysis_host.workflow import begin, running
from execution_logger import LogCategory, execution_logger
from execution_logger.integrations.prometheus import instrument
from execution_logger.web import create_app

ANALYSIS, TASKS = "/api/v1/litigation-analysis", "/api/v1/tasks"
MANY_DOCUMENTS = 10  # analyses of more take long: they wait behind those of fewer
TOKEN = load_token()
Name = Annotated[str, Field(min_length=1, max_length=200)]
LastEvent = Annotated[int, Header(alias="last-event-id")]
Text = Annotated[str, Body(max_length=1_000_000)]


def may_enter(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request has the bearer token, or the cookie of the login."""
    asked = HTTPConnection(scope)
    given = asked.headers.get("authorization", "").encode()
    return compare_digest(given, f"Bearer {TOKEN}".encode()) or "may_enter" in asked.session


def require_token(connection: HTTPConnection) -> None:
    """Turn away whoever has neither."""
    if not may_enter(connection.scope):
        text = "The token is missing or wrong: send the header Authorization: Bearer TOKEN"
        raise HTTPException(401, text, {"WWW-Authenticate": "Bearer"})


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Go on with what an earlier process has left; at the end, leave what runs to the next one."""
    async with execution_logger.lifespan(app):
        async with store.transaction() as database:
            await (await database.connection()).run_sync(store.Base.metadata.create_all)
        for left in await store.rows(Session, Session.task_system == BACKGROUND, Session.status.in_(OPEN)):
            begin(left["session_id"])
        yield
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


instrument()
app = FastAPI(title="Analyses with agents", lifespan=lifespan)
app.add_middleware(SessionMiddleware, secret_key=TOKEN, same_site="strict")
app.mount("/metrics", make_asgi_app())
app.mount("/execution-logs", create_app(authorize=may_enter))
LATER = {"Retry-After": "5"}
app.add_exception_handler(AwayError, lambda _, error: JSONResponse({"detail": str(error)}, 503, LATER))
api = APIRouter(dependencies=[Depends(require_token)])


class AnalysisRequest(BaseModel):
    """What is to be analysed."""

    package_id: Name
    case_type: Name
    case_position: Name
    user_input: str = Field(min_length=1, max_length=20_000)
    document_ids: list[Name] = Field(max_length=1000)


@api.post(f"{ANALYSIS}/start")
async def start(body: AnalysisRequest) -> Json:
    """Start an analysis: by Celery, or here while that is switched off or its broker away."""
    session_id, task_id = str(uuid4()), str(uuid4())
    await store.keep(Session(session_id=session_id, request=body.model_dump(), celery_task_id=task_id))
    queue = {"queue": "medium_priority"} if len(body.document_ids) > MANY_DOCUMENTS else {}
    told = {"task_system": CELERY, "celery_task_id": task_id, "message": "The analysis is queued"}
    async with execution_logger.timed_operation(session_id, LogCategory.API, "start analysis"):
        try:
            await tasks.send(tasks.run_analysis.s(session_id=session_id).set(task_id=task_id, **queue))
        except AwayError as error:
            await execution_logger.warning(session_id, LogCategory.API, str(error))
            with suppress(SupersededError):  # the message may have arrived, and a worker have begun
                is_pending = Session.status == "pending"
                await store.change(session_id, is_pending, task_system=BACKGROUND, celery_task_id=None)
                begin(session_id)
                told = {"task_system": BACKGROUND, "message": f"{error}: it runs in the web process"}
    return {"session_id": session_id, "status": "pending", **told}


@api.get(f"{ANALYSIS}/status/{{session_id}}")
async def status(session_id: str) -> Json:
    """How far an analysis is, and what was found so far."""
    if found := await store.rows(Session, Session.session_id == session_id):
        return found[0]
    raise HTTPException(404, f"There is no session {session_id}")


@api.get(f"{ANALYSIS}/stream/{{session_id}}", response_class=EventSourceResponse)
async def stream(session: Annotated[Json, Depends(status)], after: LastEvent = 0) -> AsyncIterator[Any]:
    """All that was told of an analysis and will be, until its end, as server-sent events."""
    async for event in store.follow(session["session_id"], after):
        yield ServerSentEvent(data=event, event=event["kind"], id=str(event["id"]))


@api.websocket(f"{ANALYSIS}/ws/{{session_id}}")
async def watch(websocket: WebSocket, session: Annotated[Json, Depends(status)], after: int = 0) -> None:
    """The same over a WebSocket, a JSON text for each event."""
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        async for event in store.follow(session["session_id"], after):
            await websocket.send_json(event)
        await websocket.close()


@api.get("/api/v1/notifications")
async def notifications() -> list[Json]:
    """Who was told what."""
    return await store.rows(Event, Event.kind == "notification")


@api.post(f"{TASKS}/example")
async def example(name: Name, seconds: Annotated[float, Field(ge=0, le=3600)] = 1) -> Json:
    """Send a task that takes so long."""
    return await tasks.send(tasks.example.s(name=name, seconds=seconds))


@api.post(f"{TASKS}/add")
async def add(x: float, y: float) -> Json:
    """Send a task that adds two numbers."""
    return await tasks.send(tasks.add.s(x=x, y=y))


@api.post(f"{TASKS}/process-document")
async def process_document(document_id: Annotated[Name, Body()], text: Text) -> Json:
    """Send a task that keeps a document."""
    return await tasks.send(tasks.process_document.s(document_id=document_id, text=text))


@api.get(f"{TASKS}/status/{{task_id}}")
async def task_status(task_id: str) -> Json:
    """How a task is going."""
    try:
        for pause in (0.05, 0.2, 0):  # a result in a file is gone for the moment in which it is written
            found = await asyncio.to_thread(tasks.app.backend.get_task_meta, task_id)
            if found["status"] != "PENDING":
                break
            await asyncio.sleep(pause)
    except BROKER_AWAY as reason:
        raise AwayError(f"Celery's result backend does not answer ({reason})") from reason
    state, told = found["status"], found["result"]
    if state == "PENDING":
        raise HTTPException(404, f"There is no task {task_id}")
    error = f"{type(told).__name__}: {told}" if isinstance(told, BaseException) else None
    parts = {"SUCCESS": "result", "PROGRESS": "progress"}
    shown = {part: told if state == name else None for name, part in parts.items()}
    return {"task_id": task_id, "state": state, "error": error, **shown}


@app.get("/login")
def login(
    request: HTTPConnection, given: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]
) -> RedirectResponse:
    """Let in whoever comes with a browser and types in the token as the password."""
    if not compare_digest(given.password.encode(), TOKEN.encode()):
        raise HTTPException(401, "This is not the token", {"WWW-Authenticate": "Basic"})
    request.session["may_enter"] = True
    return RedirectResponse("execution-logs/", 303)


app.include_router(api)
