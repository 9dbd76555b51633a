"""The task: whatever comes, and whatever happens, the batch is written or goes back to the queue."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, Task, signals
from celery.concurrency import prefork, solo, thread
from celery.exceptions import Reject

from execution_logger import Settings, SettingsError
from execution_logger.broker.message import exchange_quotes
from execution_logger.errors import StoreUnavailableError
from execution_logger.store import WriteResult
from execution_logger.worker import register_tasks
from execution_logger.worker import tasks as module
from execution_logger.worker.batch import ReceivedBatch
from execution_logger.worker.schedule import JOBS, OLD_REPORT_TASK

SETTINGS = Settings(database_url="sqlite:///unused.db")


class FakeRuntime:
    """Notes what it is asked to write, or raises."""

    def __init__(self, _: Settings) -> None:
        self.connections = 4
        self.stopping = False
        self.closed = self.pauses = 0
        self.error: Exception | None = None
        self.batches: list[ReceivedBatch] = []

    @property
    def written(self) -> list[tuple[str, str]]:
        """Ids and entries."""
        return [(batch.id, batch.entries) for batch in self.batches]

    def write(self, batch: ReceivedBatch) -> WriteResult:
        """Write, or raise `error`."""
        if self.error is not None:
            raise self.error
        self.batches.append(batch)
        return WriteResult(stored=2, duplicates=1)

    def pause(self) -> None:
        """Count."""
        self.pauses += 1

    def close(self) -> None:
        """Count."""
        self.closed += 1


class Worker:
    """An application with the task, and the runtime behind it."""

    def __init__(self, app: Celery, runtimes: list[FakeRuntime]) -> None:
        self.app = app
        register_tasks(app, SETTINGS)
        self.runtime = runtimes[-1]

    @property
    def task(self) -> Task:
        """The task as the application knows it."""
        return self.app.tasks["execution_logger.write_batch"]

    def run(self, /, *args: Any, request: dict[str, Any] | None = None, **kwargs: Any) -> dict[str, int]:
        """Run the task as a worker does, for a message with the id `b`."""
        self.task.push_request(**{"id": "b", "args": args, "kwargs": kwargs, **(request or {})})
        try:
            result: dict[str, int] = self.task.run(*args, **kwargs)
            return result
        finally:
            self.task.pop_request()


@pytest.fixture
def runtimes(monkeypatch: pytest.MonkeyPatch) -> list[FakeRuntime]:
    """Those that are made."""
    runtimes: list[FakeRuntime] = []

    def make(settings: Settings) -> FakeRuntime:
        runtimes.append(FakeRuntime(settings))
        return runtimes[-1]

    monkeypatch.setattr(module, "Runtime", make)
    return runtimes


@pytest.fixture
def worker(runtimes: list[FakeRuntime]) -> Iterator[Worker]:
    """A host's own worker, whose application has settings of its own."""
    app = Celery("host", broker="memory://", set_as_current=False)
    app.conf.update(task_serializer="pickle", task_acks_late=False, task_ignore_result=False)
    yield Worker(app, runtimes)
    app.close()


class TestRegistering:
    """What a host's own worker takes along."""

    def test_the_task_brings_what_it_needs(self, worker: Worker) -> None:
        """Or a worker that is killed would take its batches with it."""
        task = worker.task
        assert (task.acks_late, task.reject_on_worker_lost, task.ignore_result) == (True, True, True)
        assert task.acks_on_failure_or_timeout is False
        assert task.serializer == "json"

    def test_the_results_of_the_host_are_left_alone(self, worker: Worker) -> None:
        """What Celery would store of the task, its backend drops; and a forged chord ends there too."""
        assert worker.task.backend is not worker.app.backend
        assert worker.task.backend.store_result("b", {}, "SUCCESS") is None
        request = SimpleNamespace(ignore_result=False, chord={"task": "forged"})
        worker.task.backend.mark_as_done("b", {}, request=request)

    def test_the_settings_of_the_application_stay(self, runtimes: list[FakeRuntime]) -> None:
        """All of them."""
        app = Celery("host", broker="memory://", set_as_current=False)
        before = dict(app.conf)
        register_tasks(app, SETTINGS)
        assert dict(app.conf) == before
        others = set(Celery("other", set_as_current=False).tasks)
        jobs = {job.task for job in JOBS.values()}
        assert set(app.tasks) == {*others, "execution_logger.write_batch", *jobs, OLD_REPORT_TASK}
        app.close()

    def test_two_applications_have_two_databases(self, runtimes: list[FakeRuntime]) -> None:
        """Celery shares the tasks of one application with all the others, unless it is told not to."""
        first, second = (Worker(Celery(name, set_as_current=False), runtimes) for name in ("a", "b"))
        assert "execution_logger.write_batch" not in Celery("another", set_as_current=False).tasks
        for worker, entries in ((second, "[2]"), (first, "[1]")):
            worker.run(entries)
        assert [runtime.written for runtime in runtimes] == [[("b", "[1]")], [("b", "[2]")]]

    def test_the_database_is_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Said when the worker starts, not with the first batch."""
        monkeypatch.delenv("DATABASE_URL", raising=False)
        with pytest.raises(SettingsError, match="DATABASE_URL is not set: the worker needs it"):
            register_tasks(Celery("host", set_as_current=False))


class TestTask:
    """One message."""

    def test_a_batch_is_written(self, worker: Worker) -> None:
        """The string as it is, under the id of the message; the result says what became of it."""
        assert worker.run('[{"id":"1"}]') == {"stored": 2, "duplicates": 1, "dead_lettered": 0}
        assert worker.runtime.written == [("b", '[{"id":"1"}]')]

    def test_what_the_message_says_is_passed_on(self, worker: Worker) -> None:
        """Which entries of which process it holds, whether its producer waits, and how it came."""
        request = {"ignore_result": False, "delivery_info": {"redelivered": True}}
        worker.run("[]", process="host-1", first=51, request=request)
        worker.run("[]", request={"ignore_result": True, "delivery_info": None})
        worker.run("[]")
        assert worker.runtime.batches == [
            ReceivedBatch("b", "[]", "host-1", 51, is_awaited=True, is_redelivered=True),
            ReceivedBatch("b", "[]"),
            ReceivedBatch("b", "[]"),
        ]

    @pytest.mark.parametrize("array", ['[{"message":"it\'s done"}]', '[{"message":"学"}]'])
    def test_quotes_may_be_exchanged(self, worker: Worker, array: str) -> None:
        """Hosts do so; other producers need not."""
        worker.run(array)
        worker.run(exchange_quotes(array))
        assert [batch.entries for batch in worker.runtime.batches] == [array, array]

    @pytest.mark.parametrize("batch_id", [5, None, ["x"], "\ud800", "a/../b", "x" * 101, ""])
    def test_of_a_strange_id_no_word_is_given(self, worker: Worker, batch_id: Any) -> None:
        """It would be a key, or the name of a file; the entries are written all the same."""
        request = {"id": batch_id, "ignore_result": False, "delivery_info": {"redelivered": True}}
        worker.run("[]", request=request)
        (batch,) = worker.runtime.batches
        assert (batch.entries, batch.is_awaited, batch.is_redelivered) == ("[]", False, False)
        assert isinstance(batch.id, str)

    def test_an_outage_sends_it_back(self, worker: Worker) -> None:
        """To the queue, not to nowhere: no other exception keeps a message."""
        worker.runtime.error = StoreUnavailableError("the database is away")
        with pytest.raises(Reject, match="away") as rejected:
            worker.run("[]")
        assert rejected.value.requeue is True
        assert worker.runtime.pauses == 0, "the runtime has waited already"

    @pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), MemoryError(), SettingsError("wrong")])
    def test_an_unexpected_error_sends_it_back_after_a_pause(
        self, worker: Worker, error: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is logged; without the pause it would come back thousands of times a second."""
        worker.runtime.error = error
        with pytest.raises(Reject) as rejected:
            worker.run("[]")
        assert rejected.value.requeue is True
        assert worker.runtime.pauses == 1
        (record,) = caplog.records
        assert record.getMessage() == "batch b goes back to the queue after an unexpected error"
        assert record.exc_info

    def test_a_database_that_cannot_be_used_is_an_error_of_the_start(self) -> None:
        """And not of every batch."""
        with pytest.raises(SettingsError, match="mysql"):
            register_tasks(
                Celery("host", set_as_current=False), Settings(database_url="mysql://user:secret@host/logs")
            )

    @pytest.mark.parametrize(
        ("args", "kwargs"),
        [
            ((), {}),
            (([{"id": "1"}],), {}),
            ((None,), {}),
            (("[]", "[]"), {}),
            (("[]",), {"extra": 1}),
            ((), {"entries": "[]"}),
            (("[]",), {"self": "forged"}),
        ],
    )
    def test_a_forged_message_becomes_a_dead_letter(
        self, worker: Worker, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """It is handed on, readable, as one text that is no batch; the worker goes on."""
        worker.run(*args, **kwargs)
        ((batch_id, payload),) = worker.runtime.written
        assert batch_id == "b"
        assert json.loads(payload) == {"args": list(args), "kwargs": kwargs}

    def test_what_is_one_text_is_left_to_the_writer(self, worker: Worker) -> None:
        """It tells a batch from anything else."""
        worker.run("not JSON")
        assert worker.runtime.written == [("b", "not JSON")]


class TestSignals:
    """What the worker that hosts the task does."""

    @pytest.mark.parametrize(("pool", "connections"), [(prefork, 1), (thread, 8), (solo, 8)])
    def test_connections_are_as_many_as_batches_at_once(
        self, worker: Worker, pool: Any, connections: int
    ) -> None:
        """In a process: each prefork child has one of its own."""
        instance = SimpleNamespace(app=worker.app, pool_cls=pool.TaskPool, concurrency=8)
        signals.celeryd_after_setup.send(sender="worker", instance=instance, conf=worker.app.conf)
        assert worker.runtime.connections == connections

    def test_a_shutdown_ends_the_waiting_first(self, worker: Worker) -> None:
        """The signal comes from a handler: a flag is all that is set."""
        signals.worker_shutting_down.send(sender="worker", sig="SIGTERM", how="Warm", exitcode=0)
        assert worker.runtime.stopping is True
        assert worker.runtime.closed == 0

    @pytest.mark.parametrize("signal", [signals.worker_shutdown, signals.worker_process_shutdown])
    def test_the_end_closes_the_connections(self, worker: Worker, signal: Any) -> None:
        """Of the worker, and of each of its children."""
        signal.send(sender="worker")
        assert worker.runtime.closed == 1
