"""The tasks of the jobs: what they send, what they log, and that no error leaves them."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from execution_logger import Settings
from execution_logger.errors import StoreUnavailableError
from execution_logger.store.job_runs import JobRun
from execution_logger.worker import create_app
from execution_logger.worker.job_tasks import JobTasks
from execution_logger.worker.jobs.job import HEALTH, RETENTION, Job
from execution_logger.worker.jobs.runner import Result
from memory_broker import MemoryBroker

RUN = JobRun.never("retention", datetime.now(UTC))


class FakeRuntime:
    """Notes which slices it is asked for, and gives the results of the test."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.result: Result | Exception = Result("succeeded", RUN)

    def run_slice(self, job: Job, owner: str, next_owner: str) -> Result:
        """Give the result."""
        self.asked.append((job.name, owner, next_owner))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def fail(self, error: str) -> None:
        """Let the next slices fail."""
        self.result = Result("failed", _with(error=error))


def _with(**values: Any) -> JobRun:
    run = JobRun.never("retention", datetime.now(UTC))
    for name, value in values.items():
        object.__setattr__(run, name, value)
    return run


@pytest.fixture
def runtime() -> FakeRuntime:
    """One whose jobs succeed."""
    return FakeRuntime()


@pytest.fixture
def app(broker: MemoryBroker) -> Iterator[Celery]:
    """The worker's application, with a broker in memory."""
    app = create_app(Settings(broker_url=broker.url, database_url="sqlite:///unused.db"))
    yield app
    app.close()


@pytest.fixture
def tasks(app: Celery, runtime: FakeRuntime) -> JobTasks:
    """Those of a worker."""
    return JobTasks(app, Settings(), runtime)  # type: ignore[arg-type]


def sent(broker: MemoryBroker) -> list[tuple[str, str]]:
    """Tasks and ids of what is in the queue; each expires."""
    assert all(each.headers["expires"] for each in broker.queue())
    return [(each.headers["task"], each.headers["id"]) for each in broker.queue()]


def test_a_job_that_is_done_sends_nothing(
    tasks: JobTasks, runtime: FakeRuntime, broker: MemoryBroker
) -> None:
    """Its outcome is in Celery's log."""
    assert tasks.run(RETENTION, "m1") == "succeeded"
    assert [asked[:2] for asked in runtime.asked] == [("retention", "m1")]
    assert sent(broker) == []


def test_a_job_that_is_not_done_sends_the_rest(
    tasks: JobTasks, runtime: FakeRuntime, broker: MemoryBroker
) -> None:
    """The message has the id that was noted."""
    runtime.result = Result("handed over", RUN)
    assert tasks.run(RETENTION, "m1") == "handed over"
    ((_, _, next_id),) = runtime.asked
    assert sent(broker) == [("execution_logger.delete_expired", next_id)]


def test_the_health_check_sends_what_was_missed(
    tasks: JobTasks, runtime: FakeRuntime, broker: MemoryBroker
) -> None:
    """What it does not know was made by a later release."""
    runtime.result = Result("succeeded", _with(summary={"missed": ["report", "other"]}))
    tasks.run(HEALTH, "m1")
    assert [task for task, _ in sent(broker)] == ["execution_logger.send_report"]


def test_a_broker_that_is_away_is_logged(
    app: Celery,
    tasks: JobTasks,
    runtime: FakeRuntime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The health check sends the rest later."""

    def fail(**_: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(app.tasks[RETENTION.task], "apply_async", fail)
    runtime.result = Result("handed over", RUN)
    assert tasks.run(RETENTION, "m1") == "handed over"
    expected = "job retention cannot go on, until the health check sends it: connection refused"
    assert [record.message for record in caplog.records] == [expected]


def test_a_failure_is_logged_once(
    tasks: JobTasks, runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    """And once more when the reason is another one, or it succeeds again."""
    caplog.set_level(logging.INFO, "execution_logger")
    for error in ("no disk", "no disk", "no right"):
        runtime.fail(error)
        assert tasks.run(RETENTION, "m1") == "failed"
    runtime.result = StoreUnavailableError("the database is away")
    assert tasks.run(RETENTION, "m1") == "not done"
    assert tasks.run(RETENTION, "m1") == "not done"
    runtime.result = Result("succeeded", RUN)
    tasks.run(RETENTION, "m1")
    tasks.run(RETENTION, "m1")
    assert [record.message for record in caplog.records] == [
        "job retention failed: no disk",
        "job retention failed: no right",
        "job retention not done, and not noted: the database is away",
        "job retention succeeds again",
    ]


def test_an_unexpected_error_does_not_leave_the_task(
    tasks: JobTasks, runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    """Celery would log it again, and the message would be gone all the same."""
    runtime.result = RuntimeError("a defect")
    assert tasks.run(RETENTION, "m1") == "not done"
    assert "a defect" in caplog.text
