"""A host's own Celery worker, whose tasks log: `celery -A integration.faults.prefork worker`.

`python -m integration.faults.prefork log log ...` sends tasks. FAULTS_CALLS names the folder of
calls.py, FAULTS_BROKER the host's own broker.
"""

import os
import sys
from pathlib import Path

from celery import Celery

from execution_logger import LogCategory, execution_logger
from integration.faults.calls import Stream

app = Celery("prefork")
# Celery prefers the variable CELERY_BROKER_URL, which is the library's here, to `broker_url`.
app.conf.broker_read_url = app.conf.broker_write_url = os.environ["FAULTS_BROKER"]
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 1


def burst(role: str, count: int) -> None:
    """Make some numbered calls."""
    with Stream(Path(os.environ["FAULTS_CALLS"]), role) as stream:
        for _ in range(count):
            stream.make(
                lambda task_id, message: execution_logger.sync.info(task_id, LogCategory.AGENT, message)
            )


@app.task(name="log")  # type: ignore[untyped-decorator] # Celery has no types
def log(count: int) -> None:
    """A task of the host's."""
    burst("task", count)


@app.task(name="log_and_die")  # type: ignore[untyped-decorator] # as above
def log_and_die(count: int) -> None:
    """A task whose process ends as by a crash of some library in C."""
    burst("dying", count)
    os._exit(1)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        app.send_task(name, [30])
