"""Where work goes: to Celery, or to this process while Celery is switched off or its broker away."""

import asyncio
from itertools import count
from typing import Any
from uuid import uuid4

from analysis_host.settings import HAS_REDIS, shared
from analysis_host.store import BACKGROUND, CELERY, OPEN, DatabaseAwayError, Json, Session, Store
from analysis_host.tasks import app, run_analysis
from analysis_host.workflow import analyse, notify
from execution_logger import LogCategory, execution_logger

MANY_DOCUMENTS = 10  # analyses of more take long: they wait behind those of fewer
SEND_SECONDS = 3
# One attempt, which a broker that hangs ends after a second: a request waits for it.
BRISK = {"socket_timeout": 1, "socket_connect_timeout": 1, "max_retries": 0} if HAS_REDIS else {}


class BrokerAwayError(Exception):
    """Celery is switched off, or its broker does not answer."""


async def send(task: Any, queue: str | None = None, task_id: str | None = None, **kwargs: Any) -> str:
    """Send a task, within a few seconds whatever the broker does; its id. It raises BrokerAwayError."""
    if not shared.celery_enabled:
        raise BrokerAwayError("Celery is switched off")

    def publish() -> str:
        with app.connection_for_write(transport_options=BRISK) as connection:
            connection.default_channel  # noqa: B018 - it connects, once; Celery would try again and again
            options = {"connection": connection, "queue": queue, "task_id": task_id, "retry": False}
            return str(task.apply_async(kwargs=kwargs, **options).id)

    try:
        async with asyncio.timeout(SEND_SECONDS):
            return await asyncio.to_thread(publish)
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise BrokerAwayError(f"Celery's broker does not answer ({reason})") from error


class Dispatcher:
    """Starts analyses, and holds those that run in this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, request: Json) -> Json:
        """Start an analysis; what to tell the user."""
        session_id, task_id = str(uuid4()), str(uuid4())
        answer = {"session_id": session_id, "status": "pending"}
        await self._store.add(Session, session_id=session_id, request=request, celery_task_id=task_id)
        queue = "medium_priority" if len(request["document_ids"]) > MANY_DOCUMENTS else None
        async with execution_logger.timed_operation(session_id, LogCategory.API, "start analysis"):
            try:
                await send(run_analysis, queue, task_id, session_id=session_id)
            except BrokerAwayError as error:
                await execution_logger.warning(session_id, LogCategory.API, str(error))
                # A message may have arrived all the same, and a worker may have begun.
                values = {"task_system": BACKGROUND, "celery_task_id": None}
                if await self._store.change(session_id, Session.status == "pending", **values):
                    self._begin(session_id)
                    message = f"{error}: the analysis runs in the web process"
                    return {**answer, "task_system": BACKGROUND, "message": message}
        return {
            **answer,
            "task_system": CELERY,
            "celery_task_id": task_id,
            "message": "The analysis is queued",
        }

    async def resume(self) -> None:
        """Go on with the analyses that an earlier process has left; there is one web process."""
        left = (Session.task_system == BACKGROUND, Session.status.in_(OPEN))
        for session in await self._store.rows(Session, *left):
            self._begin(session["session_id"])

    async def stop(self) -> None:
        """Leave those that run: the next process goes on with them."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _begin(self, session_id: str) -> None:
        task = asyncio.create_task(self._run(session_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, session_id: str) -> None:
        for number in count():
            try:
                if await analyse(self._store, session_id, BACKGROUND, lambda _: None) is None:
                    await notify(self._store, session_id)
            except DatabaseAwayError:
                await asyncio.sleep(min(2**number, 30))
            else:
                return
