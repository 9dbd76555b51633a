"""The tasks of the pipeline, their queues, and when Beat sends them.

    sync_pipeline = collect_all_sources, deduplicate_documents, rebuild_index
    collect_all_sources = collect_from_source for each source, then tally
    collect_from_source = batch_process for each few documents, then tally
    batch_process = fetch_url and process_document for each document, then tally

A task replaces itself by those that it consists of: none waits for another, and its id stands for them all.
Each may run twice, as after a killed worker, and does the same then. Its result is the same, too, or Celery
would count it as the results of two.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from celery import Celery, Task, chain, chord
from celery.schedules import crontab

from execution_logger import LogCategory, LogLevel, execution_logger
from execution_logger.integrations.celery import bind_celery
from pipeline_host import database, settings, sources, store
from pipeline_host.database import documents
from pipeline_host.deduplication import find_duplicates

Tally = dict[str, Any]  # how many documents were `collected`, and why those that `failed` did
BATCH_SIZE = 5
KEPT = timedelta(days=30)
SOURCE_RETRIES = 4

log = execution_logger.sync


class PipelineTask(Task):  # type: ignore[misc] # Celery has no types
    """A task that is tried again while the database or the store is away, later and later."""

    autoretry_for = (*database.AWAY, *store.AWAY)
    retry_backoff = 1
    retry_backoff_max = 60
    max_retries = 20

    def on_success(self, _: Any, task_id: str, *__: Any) -> None:
        """The last task of what a client has started has the id of the whole."""
        if self.request.parent_id and task_id == self.request.root_id:
            log.end_run(task_id)

    def on_failure(self, error: Exception, task_id: str, *_: Any) -> None:
        """Let what a client has started fail with any part of it: Celery tells only the chord around it."""
        if (root := self.request.root_id) is None:
            return  # a hard time limit: Celery tells in another process, and not of the root
        log.end_run(root, error=error)
        if root != task_id:
            self.backend.mark_as_failure(root, error)


app = Celery("pipeline_host", broker=settings.BROKER_URL, backend=settings.RESULT_BACKEND)
app.Task = PipelineTask
app.conf.update(
    # A task that its worker does not finish goes back to the queue: at once if a child was killed, after the
    # visibility timeout if all of it was. No task may take as long as that, or it would run twice.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_soft_time_limit=240,
    task_time_limit=300,
    worker_prefetch_multiplier=1,
    task_track_started=True,
    result_expires=KEPT,
    # A task that sends others waits for a Redis that restarts, for half a minute.
    task_publish_retry_policy={"max_retries": 30, "interval_step": 0.2, "interval_max": 1},
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    beat_schedule={
        "health": {"task": "health_check", "schedule": crontab(minute="*/5"), "options": {"expires": 300}},
        "collection": {"task": "sync_pipeline", "schedule": crontab(minute=0), "options": {"expires": 3600}},
        "clean-up": {"task": "clean_up", "schedule": crontab(hour=3, minute=30)},
        "report": {"task": "weekly_report", "schedule": crontab(hour=6, minute=0, day_of_week="mon")},
    },
)
if settings.BROKER_URL.startswith("redis"):
    app.conf.broker_transport_options = {
        "visibility_timeout": settings.VISIBILITY_TIMEOUT_SECONDS,
        "unacked_restore_interval": 2,  # by default workers look for them every 100 s
        "unacked_restore_throttle": 1,
        "socket_timeout": 10,  # without both a worker whose connection is half open hangs for ever
        "health_check_interval": 5,
    }
bind_celery(app)


@app.task(bind=True, name="fetch_url", queue="processing")
def fetch_url(self: Any, url: str, *, keep_going: bool = False) -> dict[str, str]:
    """Fetch a document and store it as it is; to `keep_going` makes a failure a result like any other."""
    try:
        content = _ask(self, sources.fetch, url)
    except (sources.SourceAwayError, sources.DocumentError) as error:
        log.log_error(None, LogCategory.TOOL, str(error), step="fetch_url")
        if not keep_going:
            raise
        return {"url": url, "error": str(error)}
    log.log_tool_call(None, "collector", "http", url, details={"bytes": len(content)})
    return {"url": url, "key": store.put(content)}


def _ask(task: Any, question: Callable[[str], Any], subject: str) -> Any:
    """Ask a source; one that is away is asked again by a retry of the task, a few times."""
    try:
        return question(subject)
    except sources.SourceAwayError as error:
        if task.request.retries >= SOURCE_RETRIES:
            raise
        raise task.retry(exc=error, countdown=2**task.request.retries) from error


@app.task(name="process_document", queue="processing")
def process_document(fetched: Mapping[str, str]) -> Tally:
    """Read a stored document, and keep its title and its text in the database."""
    url = fetched["url"]
    if "error" in fetched:
        return {"collected": 0, "failed": {url: fetched["error"]}}
    try:
        text = store.get(fetched["key"]).decode()
    except UnicodeDecodeError as error:
        log.log_error(None, LogCategory.TOOL, f"{url} is no text: {error}", step="process_document")
        return {"collected": 0, "failed": {url: f"no text: {error.reason}"}}
    title, _, body = text.strip().partition("\n")
    database.save(url, sources.source_of(url), title.strip(), body.strip(), fetched["key"])
    return {"collected": 1, "failed": {}}


@app.task(name="tally")
def tally(parts: Sequence[Tally]) -> Tally:
    """Add up what became of documents."""
    failed = {url: reason for part in parts for url, reason in part["failed"].items()}
    return {"collected": sum(part["collected"] for part in parts), "failed": failed}


@app.task(bind=True, name="batch_process", queue="bulk")
def batch_process(self: Any, urls: Sequence[str]) -> Any:
    """Collect some documents, side by side."""
    each = [chain(fetch_url.s(url, keep_going=True), process_document.s()) for url in urls]
    return self.replace(chord(each, tally.s()))


@app.task(bind=True, name="collect_from_source")
def collect_from_source(self: Any, source: str) -> Any:
    """Collect what a source lists; one that stays away counts as a document that failed."""
    try:
        urls = _ask(self, sources.documents_of, source)
    except (sources.SourceAwayError, sources.DocumentError) as error:
        log.log_error(None, LogCategory.TOOL, str(error), step="collect_from_source")
        return {"collected": 0, "failed": {settings.SOURCES[source]: str(error)}}
    batches = [batch_process.s(urls[at : at + BATCH_SIZE]) for at in range(0, len(urls), BATCH_SIZE)]
    return self.replace(chord(batches, tally.s())) if batches else tally([])


@app.task(bind=True, name="collect_all_sources")
def collect_all_sources(self: Any, names: Sequence[str]) -> Any:
    """Collect from some sources, side by side."""
    return self.replace(chord([collect_from_source.s(name) for name in names], tally.s()))


@app.task(bind=True, name="sync_pipeline")
def sync_pipeline(self: Any, names: Sequence[str] = ()) -> Any:
    """Collect from these sources, or from all of them, then deduplicate and index."""
    collect = collect_all_sources.si(list(names or settings.SOURCES))
    return self.replace(chain(collect, deduplicate_documents.s(), rebuild_index.s()))


@app.task(name="deduplicate_documents", queue="bulk")
def deduplicate_documents(before: Tally | None = None) -> Tally:
    """Mark what says the same as an earlier document: of a source that is named earlier, else by its URL."""
    rank = list(settings.SOURCES).index
    columns = documents.c
    with database.alone() as connection:
        rows = connection.execute(sa.select(documents).where(columns.source.in_(settings.SOURCES))).all()
        ordered = sorted(rows, key=lambda row: (rank(row.source), row.url))
        duplicates = find_duplicates((row.id, row.content_hash, row.text) for row in ordered)
        connection.execute(sa.update(documents).values(duplicate_of=None, similarity=None))
        for copy, (original, percent) in duplicates.items():
            marks = {"duplicate_of": original, "similarity": percent}
            connection.execute(sa.update(documents).where(columns.id == copy).values(marks))
    exact = sum(percent == 100 for _, percent in duplicates.values())  # noqa: PLR2004
    return {**(before or {}), "duplicates": {"exact": exact, "similar": len(duplicates) - exact}}


@app.task(name="rebuild_index", queue="bulk")
def rebuild_index(before: Tally | None = None) -> Tally:
    """Make the full-text index anew."""
    return {**(before or {}), "indexed": database.rebuild_index()}


@app.task(name="health_check")
def health_check() -> dict[str, str]:
    """Try the database and the store: "ok", or what is wrong with each."""
    found = health()
    level = LogLevel.INFO if set(found.values()) == {"ok"} else LogLevel.ERROR
    log.log(None, level, LogCategory.WORKFLOW, "health", step="health_check", details=found)
    return found


def health() -> dict[str, str]:
    """How the database and the store are."""
    return {"database": _tried(database.rows, sa.select(1)), "store": _tried(store.put, b"health")}


def _tried(function: Callable[[Any], Any], argument: Any) -> str:
    try:
        function(argument)
    except PipelineTask.autoretry_for as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return "ok"


@app.task(name="clean_up")
def clean_up() -> dict[str, int]:
    """Remove old content that is no document's any more."""
    used = {row["content_hash"] for row in database.rows(sa.select(documents.c.content_hash))}
    return {"contents": store.keep_only(used, datetime.now(UTC) - KEPT)}


@app.task(name="weekly_report")
def weekly_report() -> list[dict[str, Any]]:
    """Say how many documents each source has, how many are duplicates, and how many came within a week."""
    columns, count = documents.c, sa.func.count
    is_new = columns.collected_at > datetime.now(UTC) - timedelta(days=7)
    counts = count().label("documents"), count(columns.duplicate_of).label("duplicates")
    wanted = sa.select(columns.source, *counts, count().filter(is_new).label("new"))
    found = database.rows(wanted.group_by(columns.source).order_by(columns.source))
    log.info(None, LogCategory.WORKFLOW, "report of the week", "weekly_report", details={"sources": found})
    return found
