"""The Celery application: its queues, its tasks, and what Beat sends every minute.

celery -A analysis_host.tasks call tasks.health_check
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from celery import Celery, current_task, signals
from kombu.transport.redis import Channel

from analysis_host import settings
from analysis_host.runners import extract_facts
from analysis_host.store import CELERY, DatabaseAwayError, Json, Session, Store
from analysis_host.workflow import analyse, fail, notify
from execution_logger import LogCategory, execution_logger
from execution_logger.integrations.celery import bind_celery

QUEUES = {
    "run_analysis": "high_priority", "notify": "low_priority", "sweep": "low_priority",
    "example": "example", "process_document": "document", "extract_evidence": "evidence",
}  # fmt: skip
app = Celery("analysis_host", broker=settings.shared.broker_url, backend=settings.RESULT_BACKEND)
app.conf.update(
    task_default_queue="default",
    task_routes={f"tasks.{name}": {"queue": queue} for name, queue in QUEUES.items()},
    task_track_started=True,
    task_time_limit=settings.TIME_LIMIT,
    task_soft_time_limit=settings.SOFT_TIME_LIMIT,
    # A task whose process was killed goes back to the queue, and goes on from the results that are kept.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_max_retries=None,
    result_backend_transport_options={"retry_policy": {"timeout": 5.0}},
    beat_schedule={"sweep": {"task": "tasks.sweep", "schedule": settings.SWEEP_SECONDS}},
    beat_schedule_filename=str(settings.DATA / "beat-schedule"),
)
if settings.HAS_REDIS:
    restoring = {"visibility_timeout": settings.VISIBILITY_TIMEOUT, "unacked_restore_interval": 5}
    app.conf.broker_transport_options = {**restoring, "socket_timeout": 10, "health_check_interval": 5}
bind_celery(app, task_id=lambda request: request.kwargs.get("session_id"))


def connection_parameters(channel: Any, of_kombu: Any = Channel._connparams, **options: Any) -> Any:  # noqa: SLF001
    """Say so when a channel has lost its connection: kombu 5.7 stumbles over that, and its worker dies."""
    if getattr(channel.connection, "client", None) is None:
        raise ConnectionError("the connection to Redis is gone")
    return of_kombu(channel, **options)


Channel._connparams = connection_parameters  # noqa: SLF001


def with_store(work: Callable[[Store], Awaitable[Any]]) -> Any:
    """The result of a coroutine function, in a loop and with a store of its own."""

    async def run() -> Any:
        store = Store()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def report(progress: Json) -> None:
    """Show progress to who asks for the task, if the result backend is there."""
    with suppress(Exception):
        current_task.update_state(state="PROGRESS", meta=progress)


@app.task(name="tasks.run_analysis", max_retries=20)
def run_analysis(session_id: str) -> None:
    """Carry out an analysis; while the database is away it is tried again."""
    try:
        error = with_store(lambda store: analyse(store, session_id, CELERY, report))
    except DatabaseAwayError as away:
        raise current_task.retry(exc=away, countdown=min(2**current_task.request.retries, 30)) from away
    if error is not None:
        raise error
    send_notification.delay(session_id=session_id)


@signals.task_failure.connect(weak=False)
def end_session(sender: Any, exception: BaseException, kwargs: Json, **_: Any) -> None:
    """End the session of a task that has failed; when its process was killed, its parent does that."""
    if sender.name == run_analysis.name:
        with_store(lambda store: fail(store, kwargs["session_id"], exception))


@app.task(name="tasks.notify")
def send_notification(session_id: str) -> None:
    """Tell that an analysis has ended."""
    with_store(lambda store: notify(store, session_id))


@app.task(name="tasks.sweep")
def sweep() -> None:
    """End the sessions of which nothing was heard for so long that their task must be gone."""
    until = time.time() - settings.VISIBILITY_TIMEOUT - settings.TIME_LIMIT
    is_lost = (Session.task_system == CELERY, Session.status == "running", Session.updated_at < until)
    for session in with_store(lambda store: store.rows(Session, *is_lost)):
        end_session(run_analysis, TimeoutError(), session)


@app.task(name="tasks.example")
def example(name: str, seconds: float) -> Json:
    """Take some time, and tell how much of it has passed."""
    began_at = time.monotonic()
    while (passed := time.monotonic() - began_at) < seconds:
        report({"percent": round(100 * passed / seconds), "message": f"{name}: {passed:.1f} s"})
        time.sleep(min(0.2, seconds - passed))
    execution_logger.sync.info(None, LogCategory.WORKFLOW, f"{name} took {seconds:g} s")
    return {"name": name, "seconds": seconds}


@app.task(name="tasks.add")
def add(x: float, y: float) -> float:
    """Add two numbers."""
    return x + y


@app.task(name="tasks.process_document")
def process_document(document_id: str, text: str) -> Json:
    """Keep a document, and have its facts extracted by a task of the queue `evidence`."""
    if not text.strip():
        raise ValueError(f"The document {document_id} is empty")
    with_store(lambda store: store.keep("document", document_id, text=text))
    execution_logger.sync.log_tool_call(None, "documents", "documents", f"{document_id} is kept")
    evidence = extract_evidence.delay(document_id=document_id, text=text)
    return {"document_id": document_id, "words": len(text.split()), "evidence_task_id": evidence.id}


@app.task(name="tasks.extract_evidence")
def extract_evidence(document_id: str, text: str) -> Json:
    """Find the facts of a document."""
    return {"document_id": document_id, **extract_facts(text)}


@app.task(name="tasks.health_check")
def health_check() -> Json:
    """Whether a worker and the database answer."""
    with_store(lambda store: store.kept("document"))
    return {"status": "healthy", "worker": current_task.request.hostname}
