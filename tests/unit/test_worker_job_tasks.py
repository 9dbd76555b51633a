"""The tasks of the jobs: what they send, what they log, and that no error leaves them."""

import logging
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from execution_logger import Settings
from execution_logger.errors import StoreUnavailableError
from execution_logger.store.job_runs import JobRun
from execution_logger.worker import create_app
from execution_logger.worker.jobs import Result
from execution_logger.worker.schedule import HEALTH, JOBS, OLD_REPORT_TASK, RETENTION
from execution_logger.worker.tasks import JobTasks
from memory_broker import MemoryBroker

RUN = JobRun.never("retention", datetime.now(UTC))


class FakeRuntime:
    """Gives the results of the test."""

    stopping = False

    def __init__(self) -> None:
        self.result: Result | Exception = Result("succeeded", RUN)

    def run(self, coroutine: Coroutine[Any, Any, Result], _timeout_seconds: float) -> Result:
        """Give the result."""
        coroutine.close()
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


def sent(broker: MemoryBroker) -> list[str]:
    """Tasks of what is in the queue; each expires."""
    assert all(each.headers["expires"] for each in broker.queue())
    return [each.headers["task"] for each in broker.queue()]


@pytest.mark.parametrize("outcome", ["succeeded", "unfinished", "skipped"])
def test_a_tick_sends_nothing(
    tasks: JobTasks, runtime: FakeRuntime, broker: MemoryBroker, outcome: Any
) -> None:
    """Its outcome is in Celery's log; when more is left the next tick goes on."""
    runtime.result = Result(outcome, RUN)
    assert tasks.run(RETENTION) == outcome
    assert sent(broker) == []


def test_the_health_check_sends_what_was_missed(
    tasks: JobTasks, runtime: FakeRuntime, broker: MemoryBroker
) -> None:
    """What it does not know was made by another version."""
    runtime.result = Result("succeeded", _with(summary={"missed": ["retention", "report"]}))
    tasks.run(HEALTH)
    assert sent(broker) == ["execution_logger.delete_expired"]


def test_a_broker_that_is_away_is_logged(
    app: Celery,
    tasks: JobTasks,
    runtime: FakeRuntime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The next health check sends it."""

    def fail(**_: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(app.tasks[RETENTION.task], "apply_async", fail)
    runtime.result = Result("succeeded", _with(summary={"missed": ["retention"]}))
    assert tasks.run(HEALTH) == "succeeded"
    expected = "job retention is sent by the next health check: connection refused"
    assert [record.message for record in caplog.records] == [expected]


def test_a_failure_is_logged_once(
    tasks: JobTasks, runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    """And once more when the reason is another one, or it succeeds again."""
    caplog.set_level(logging.INFO, "execution_logger")
    for error in ("no disk", "no disk", "no right"):
        runtime.fail(error)
        assert tasks.run(RETENTION) == "failed"
    runtime.result = StoreUnavailableError("the database is away")
    assert tasks.run(RETENTION) == "not done"
    assert tasks.run(RETENTION) == "not done"
    runtime.result = Result("succeeded", RUN)
    tasks.run(RETENTION)
    tasks.run(RETENTION)
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
    assert tasks.run(RETENTION) == "not done"
    assert "a defect" in caplog.text


def test_a_report_that_an_old_beat_sends_is_ignored(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    """In one line that says what there is instead."""
    assert app.tasks[OLD_REPORT_TASK]() == "ignored"
    (record,) = caplog.records
    assert "examples/weekly_report.py" in record.message


def test_a_tick_that_kills_its_worker_does_not_come_again(app: Celery) -> None:
    """It would kill the next one as well; batches come again, and are watched."""
    for job in JOBS.values():
        task = app.tasks[job.task]
        assert (task.acks_late, task.reject_on_worker_lost) == (False, False)
