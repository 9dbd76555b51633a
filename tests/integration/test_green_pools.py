"""A worker with a pool of greenlets: it would take batches and store none, so it does not begin."""

import sys

import pytest

from workers import CELERY, WorkerProcess

OURS = (sys.executable, "-c", "from execution_logger.cli import main; main()", "worker", "--")

pytestmark = pytest.mark.parametrize("pool", ["gevent", "eventlet"])


@pytest.mark.parametrize(("command", "code"), [(CELERY, 1), (OURS, 2)], ids=["celery", "execution-logger"])
def test_greenlets_are_refused_in_one_line(
    redis_url: str, database_url: str, command: tuple[str, ...], code: int, pool: str
) -> None:
    """By Celery's own command and by ours; it says what to do."""
    environment = {"CELERY_BROKER_URL": redis_url, "DATABASE_URL": database_url}
    worker = WorkerProcess([*command, "-P", pool], environment=environment)
    try:
        with pytest.raises(RuntimeError, match="the worker ended at its start"):
            worker.start()
        assert worker.process.wait() == code
        (line,) = [line for line in worker.output.splitlines() if "cannot store batches" in line]
        assert "Traceback" not in worker.output
        assert line.startswith(f"execution-logger: --pool={pool}: cannot store batches; use threads")
    finally:
        worker.close()


def test_a_worker_of_other_queues_may_have_them(redis_url: str, database_url: str, pool: str) -> None:
    """A host has one application for all its workers, and our tasks are in it."""
    environment = {"CELERY_BROKER_URL": redis_url, "DATABASE_URL": database_url}
    command = ["others" if word == "logs" else word for word in CELERY]
    with WorkerProcess([*command, "-P", pool], environment=environment) as worker:
        worker.start()
