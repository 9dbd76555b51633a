"""The Celery application: its queues, its tasks, and what Beat sends every minute."""

import asyncio
import time
from typing import Any

from celery import Celery, Signature, current_task, signals
from kombu.transport.redis import Channel

from analysis_host import settings, store
from analysis_host.runners import extract_facts, report
from analysis_host.settings import BROKER_AWAY, AwayError, shared
from analysis_host.store import CELERY, Document, Json, Session
from analysis_host.workflow import analyse, fail, notify
from execution_logger import LogCategory, execution_logger
from execution_logger.integrations.celery import bind_celery

AGAIN = {"autoretry_for": (AwayError,), "max_retries": None, "retry_backoff": 1, "retry_backoff_max": 30}
# One attempt to send, which a broker that hangs ends after a second: a request waits for it.
BRISK = {"socket_timeout": 1, "socket_connect_timeout": 1, "max_retries": 0}
app = Celery("analysis_host", broker=shared.broker_url, backend=shared.result_backend or shared.broker_url)
app.conf.update(
    task_default_queue="default",
    task_track_started=True,
    task_time_limit=settings.TIME_LIMIT,
    task_soft_time_limit=settings.SOFT_TIME_LIMIT,
    # A task whose process was killed goes back to the queue, and goes on from the results that are kept.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": settings.VISIBILITY_TIMEOUT,
        "unacked_restore_interval": 2,  # seconds, with the next line; by default a worker looks every 100 s
        "unacked_restore_throttle": 1,
        "socket_timeout": 10,  # with the next line: no worker waits for ever for a Redis that hangs
        "health_check_interval": 5,
    },
    result_backend_transport_options={"retry_policy": {"timeout": 5.0}},
    beat_schedule={"sweep": {"task": "tasks.sweep", "schedule": settings.SWEEP_SECONDS}},
)
bind_celery(app, task_id=lambda request: request.kwargs.get("session_id"))


# A task that ends while Redis is away is acknowledged on a closed channel, whose connection has no client any
# more that kombu 5.7 could ask for the host. That AttributeError ends the worker, a ConnectionError does not.
def connection_parameters(channel: Any, of_kombu: Any = Channel._connparams, **options: Any) -> Any:  # noqa: SLF001
    """Those of kombu; for a closed channel an error that Celery expects."""
    if getattr(channel.connection, "client", None) is None:
        raise ConnectionError("the connection to Redis is gone")
    return of_kombu(channel, **options)


Channel._connparams = connection_parameters  # noqa: SLF001


async def send(task: Signature) -> Json:
    """Send a task, within a few seconds whatever the broker does; what to tell the user."""
    if not shared.celery_enabled:
        raise AwayError("Celery is switched off")

    def publish() -> Any:
        with app.connection_for_write(transport_options=BRISK) as connection:
            connection.default_channel  # noqa: B018 - it connects, once; Celery would try again and again
            return task.apply_async(connection=connection, retry=False)

    try:
        sent = await asyncio.wait_for(asyncio.to_thread(publish), 3)
    except BROKER_AWAY as error:
        raise AwayError(f"Celery's broker does not answer: {error!r}") from error
    return {"task_id": sent.id, "status": "pending", "message": f"{task.task} is queued"}


@signals.before_task_publish.connect(weak=False)
def remember(sender: str, headers: Json, **_: Any) -> None:
    """Let it be known that a task was sent: Celery says PENDING of any id that it is asked for."""
    if sender in app.tasks:
        app.backend.store_result(headers["id"], None, "SENT")


@app.task(name="tasks.run_analysis", queue="high_priority", **AGAIN)
def run_analysis(session_id: str) -> None:
    """Carry out an analysis."""
    if error := asyncio.run(analyse(session_id, CELERY)):
        raise error
    send_notification.delay(session_id=session_id)


@signals.task_failure.connect(weak=False)
def end_session(sender: Any, exception: BaseException, kwargs: Json, **_: Any) -> None:
    """End the session of a task that has failed; when its process was killed, its parent does that."""
    if sender.name == run_analysis.name:
        asyncio.run(fail(kwargs["session_id"], exception))


@app.task(name="tasks.notify", queue="low_priority", **AGAIN)
def send_notification(session_id: str) -> None:
    """Tell that an analysis has ended."""
    asyncio.run(notify(session_id))


@app.task(name="tasks.sweep", queue="low_priority")
def sweep() -> None:
    """End the sessions of which nothing was heard for so long that their task must be gone."""
    until = time.time() - settings.VISIBILITY_TIMEOUT - settings.TIME_LIMIT
    is_lost = (Session.task_system == CELERY, Session.status == "running", Session.updated_at < until)
    for session in asyncio.run(store.rows(Session, *is_lost)):
        asyncio.run(fail(session["session_id"], TimeoutError()))


@app.task(name="tasks.example", queue="example")
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


@app.task(name="tasks.process_document", queue="document")
def process_document(document_id: str, text: str) -> Json:
    """Keep a document, and have its facts extracted by a task of the queue `evidence`."""
    if not text.strip():
        raise ValueError(f"The document {document_id} is empty")
    asyncio.run(store.keep(Document(document_id=document_id, text=text)))
    execution_logger.sync.log_tool_call(None, "documents", "documents", f"{document_id} is kept")
    evidence = extract_evidence.delay(document_id=document_id, text=text)
    return {"document_id": document_id, "words": len(text.split()), "evidence_task_id": evidence.id}


@app.task(name="tasks.extract_evidence", queue="evidence")
def extract_evidence(document_id: str, text: str) -> Json:
    """Find the facts of a document."""
    return {"document_id": document_id, **extract_facts(text)}


@app.task(name="tasks.health_check")
def health_check() -> Json:
    """Whether a worker and the database answer."""
    asyncio.run(store.rows(Document, Document.document_id == ""))
    return {"status": "healthy", "worker": current_task.request.hostname}
