"""A host whose runs cross processes: a web application that sends tasks, and a Celery worker that runs them.

`uvicorn integration.bound_host:web`, and `celery -A integration.bound_host worker -Q research,summarize`.
HOST_BROKER is the host's own broker, and its result backend.
"""

import os
import threading
from contextvars import copy_context

from celery import Celery
from fastapi import FastAPI

from execution_logger import LogCategory, execution_logger
from execution_logger.integrations.celery import bind_celery

log = execution_logger.sync

app = Celery("host")
# Celery prefers the variable CELERY_BROKER_URL, which is the library's here, to `broker_url`.
app.conf.broker_read_url = app.conf.broker_write_url = app.conf.result_backend = os.environ["HOST_BROKER"]
app.conf.task_routes = {name: {"queue": name} for name in ("research", "summarize")}
bind_celery(app)

web = FastAPI(lifespan=execution_logger.lifespan)


@web.post("/runs/{task_id}")
async def run(task_id: str) -> None:
    """Send the first task, from within the run."""
    async with execution_logger.run(task_id, "request"):
        research.delay()


@app.task(name="research")  # type: ignore[untyped-decorator] # Celery has no types
def research() -> None:
    """Search in a thread, and send the next task."""
    thread = threading.Thread(target=copy_context().run, args=(search,))
    thread.start()
    thread.join()
    summarize.delay()


@execution_logger.operation(category="tool")
def search() -> None:
    """Note what it does."""
    log.info(None, LogCategory.TOOL, "asking the index")


@app.task(name="summarize")  # type: ignore[untyped-decorator] # as above
def summarize() -> None:
    """Note what it does."""
    log.info(None, LogCategory.AGENT, "writing")


@app.task(name="die")  # type: ignore[untyped-decorator] # as above
def die() -> None:
    """As by a crash of some library in C."""
    os._exit(1)


@app.task(name="take_long")  # type: ignore[untyped-decorator] # as above
def take_long() -> None:
    """Half a minute, unless somebody ends it."""
    threading.Event().wait(30)
