"""A task of Celery's continues the tree of who has sent it. With Celery's own tracer, and no server."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import Celery, chain, chord, group
from celery.exceptions import Ignore, Reject, Retry
from celery.signals import task_failure

from celery_host import QUEUE, make_app, received, signals_given_back, work
from documents import Document
from execution_logger import ExecutionLogger, LogEntry, Settings
from execution_logger.api.context import innermost, not_left
from execution_logger.broker.connection import TASK_NAME
from execution_logger.integrations.celery import HEADER, bind_celery
from execution_logger.read.tree import tree_of as tree_in_read
from execution_logger.testing import MemoryDelivery, capture_entries
from memory_broker import URL, MemoryBroker

MakeLogger = Callable[..., ExecutionLogger]

logger = ExecutionLogger(Settings(language="en"))
log = logger.sync


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Each test binds for itself."""
    with signals_given_back():
        yield
    assert not_left(innermost.get()) is None, "no context is left behind"


@pytest.fixture
def entries() -> Iterator[list[LogEntry]]:
    """What is recorded in the test."""
    with capture_entries(logger) as captured:
        yield captured


@pytest.fixture
def app(broker: MemoryBroker) -> Iterator[Celery]:
    """A host's application, bound."""
    with make_app() as app:
        bind_celery(app, logger=logger)
        yield app


def task(app: Celery, function: Callable[..., Any], **options: Any) -> Any:
    """A task of the host's, by its function's name; not of every application, as by default."""
    return app.task(function, shared=False, **{"name": function.__name__, **options})


def note(message: str) -> None:
    """An entry that is no operation."""
    log.info(None, "agent", message)


def tree_of(entries: list[LogEntry]) -> list[tuple[str, str | None]]:
    """Each entry's message, and the name of the operation within which it was recorded."""
    names = {entry.operation_id: entry.step or entry.message.split()[0] for entry in entries}
    return [(entry.message, names.get(entry.parent_id) if entry.parent_id else None) for entry in entries]


def runs_of(entries: list[LogEntry]) -> set[str]:
    """Those that they belong to."""
    return {entry.task_id for entry in entries}


def search(*_: object) -> str:
    """A task's body, which logs."""
    note("searching")
    return "3 hits"


def fail() -> None:
    """One that fails."""
    raise ValueError("no")


SEARCHED = [("search started", "request"), ("searching", "search"), ("search completed", "request")]


# The tree ----------------------------------------------------------------------------------------


def test_a_task_is_an_operation_within_that_of_its_sender(
    app: Celery, broker: MemoryBroker, entries: list[LogEntry]
) -> None:
    """Its run and the context's fields are the sender's; the details say which task it is."""
    searching = task(app, search)
    with log.run("run-1", "request"), logger.context(tenant="acme", attempt=2):
        sent = searching.delay()
    assert work(app, broker) == 1
    assert tree_of(entries) == [("request started", None), ("request completed", None), *SEARCHED]
    assert runs_of(entries) == {"run-1"}
    assert entries[3].details == {"tenant": "acme", "attempt": 2}
    known = {"id": sent.id, "task": "search", "queue": QUEUE, "retries": 0}
    assert entries[2].details == {"celery": known, "tenant": "acme", "attempt": 2}
    assert entries[4].duration_ms is not None


def test_without_a_run_the_first_task_begins_one(
    app: Celery, broker: MemoryBroker, entries: list[LogEntry]
) -> None:
    """By its Celery id, in the tasks that it sends as well; its message is what it would be without us."""
    inner = task(app, search)

    def request() -> None:
        inner.delay()

    sent = task(app, request).delay()
    assert HEADER not in broker.queue(QUEUE)[0].headers
    assert work(app, broker) == 2
    assert runs_of(entries) == {sent.id}
    assert tree_of(entries)[2:] == SEARCHED


def test_a_failure_is_an_error_entry(app: Celery, broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """The task fails as ever."""
    task(app, fail).delay()
    work(app, broker)
    assert [(entry.level, entry.message) for entry in entries] == [
        ("info", "fail started"),
        ("error", "fail failed: no"),
    ]
    assert (entries[1].details or {})["error"] == "no"


def test_attempts_are_siblings(app: Celery, broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """Each is an operation; that of a retry ends with what it is tried again for."""

    def ask(self: Any) -> None:
        try:
            fail()
        except ValueError as error:
            raise self.retry(exc=error, countdown=0) from error

    with log.run("run-1", "request"):
        task(app, ask, bind=True, max_retries=1).delay()
    assert work(app, broker) == 2
    assert tree_of(entries)[2:] == [
        ("ask started", "request"),
        ("ask to be retried: Retry in 0s: ValueError('no')", "request"),
        ("ask started", "request"),
        ("ask failed: no", "request"),
    ]
    assert entries[3].level == "warning"
    assert [entry.details["celery"]["retries"] for entry in entries[2:] if entry.details] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("raised", "level", "message"),
    [
        (Ignore(), "info", "give_up ignored"),
        (Reject("no room", requeue=False), "warning", "give_up rejected: no room"),
    ],
    ids=["ignore", "reject"],
)
def test_a_task_that_ends_otherwise(
    app: Celery, broker: MemoryBroker, entries: list[LogEntry], raised: Exception, level: str, message: str
) -> None:
    """Nothing has failed: it says what became of it."""

    def give_up() -> None:
        raise raised

    task(app, give_up).delay()
    work(app, broker)
    assert (entries[-1].level, entries[-1].message) == (level, message)


def test_a_task_that_is_replaced(app: Celery, broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """By one within it."""
    searching = task(app, search)

    def request(self: Any) -> None:
        raise self.replace(searching.s())

    task(app, request, bind=True).delay()
    work(app, broker)
    assert tree_of(entries)[1:] == [("request ignored: Replaced by new task", None), *SEARCHED]


def test_a_chain(app: Celery, broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """Celery sends the next step at the end of the one before, which is therefore its parent."""
    searching = task(app, search)
    with log.run("run-1", "request"):
        chain(searching.s(), searching.s()).delay()
    assert work(app, broker) == 2
    assert [parent for message, parent in tree_of(entries) if message == "search started"] == [
        "request",
        "search",
    ]
    assert runs_of(entries) == {"run-1"}


def test_a_group_and_a_chord(broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """Members are siblings; what comes after them is in the tree, too."""
    with make_app(result_backend="cache+memory://") as app:
        bind_celery(app, logger=logger)
        searching = task(app, search)

        def summarize(hits: list[str]) -> None:
            note(f"{len(hits)} answers")

        with log.run("run-1", "request"):
            group(searching.s(), searching.s()).delay()
            chord([searching.s(), searching.s()])(task(app, summarize).s())
        assert work(app, broker) == 5
    tree = tree_of(entries)
    assert tree.count(("search started", "request")) == 4
    assert ("summarize started", "search") in tree
    assert ("2 answers", "summarize") in tree
    assert runs_of(entries) == {"run-1"}


def test_what_polls_for_a_chord_is_no_operation(
    broker: MemoryBroker, entries: list[LogEntry], tmp_path: Path
) -> None:
    """Where Celery has to look whether all have ended, the body is within who has sent the chord."""
    with make_app(result_backend=tmp_path.as_uri()) as app:
        bind_celery(app, logger=logger)

        def summarize(hits: list[str]) -> None:
            note(f"{len(hits)} answers")

        with log.run("run-1", "request"):
            chord([task(app, search).s()] * 2)(task(app, summarize).s())
        work(app, broker)
    tree = tree_of(entries)
    assert ("summarize started", "request") in tree
    assert not [message for message, _ in tree if "chord_unlock" in message]
    assert runs_of(entries) == {"run-1"}


@pytest.mark.parametrize("ends", [False, True])
def test_a_run_of_the_same_name_in_a_task(
    app: Celery, broker: MemoryBroker, entries: list[LogEntry], *, ends: bool
) -> None:
    """Is an operation of the run that has sent the task, while that goes on; else it is the run once more."""

    def step() -> None:
        with log.run("run-1", "step"):
            note("in it")

    with log.run("run-1", "request", ends=ends), log.timed_operation(None, "agent", "plan"):
        task(app, step).delay()
    work(app, broker)
    (root,) = tree_in_read(entries).roots
    told = [entry.details["run_state"] for entry in entries if entry.details and "run_state" in entry.details]
    assert (root.name, told) == ("request", ["running"] if not ends else ["running", "done"] * 2)


def test_a_task_of_another_run_is_within_none(broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """Where its argument names the run."""
    with make_app() as app:
        bind_celery(app, logger=logger, task_id=lambda request: request.args[0])

        def step(run: str) -> None:
            with log.run(run, "step"):
                note("in it")

        with log.run("run-1", "request", ends=False):
            task(app, step).delay("run-2")
        work(app, broker)
    told = [(entry.task_id, (entry.details or {}).get("run_state")) for entry in entries]
    assert [each for each in told if each[1]] == [
        ("run-1", "running"),
        ("run-2", "running"),
        ("run-2", "done"),
    ]


def test_a_task_that_is_called(app: Celery, broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """By `apply`, or with `task_always_eager`: it is within whatever is around the call."""
    app.conf.task_always_eager = True
    searching = task(app, search)
    with log.run("run-1", "request"):
        searching.apply()
        searching.delay()
    assert tree_of(entries) == [("request started", None), *SEARCHED, *SEARCHED, ("request completed", None)]
    assert runs_of(entries) == {"run-1"}


def test_a_called_task_that_raises(app: Celery, broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """To its caller: that is a failure, or a retry, which Celery calls at once or leaves to the caller."""

    def ask(self: Any) -> None:
        if not self.request.retries:
            self.retry(countdown=0)

    asking = task(app, ask, bind=True)
    with pytest.raises(ValueError, match="no"):
        task(app, fail).apply(throw=True)
    with pytest.raises(Retry):
        asking.apply(throw=True)
    asking.apply(throw=False)
    assert [entry.message for entry in entries] == [
        "fail started",
        "fail failed: no",
        *["ask started", "ask to be retried: Retry in 0s"] * 2,
        "ask started",
        "ask completed",
    ]


def test_a_task_that_ends_its_process(app: Celery, broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """`SystemExit` goes on; the operation has failed."""

    def leave() -> None:
        raise SystemExit(3)

    task(app, leave).delay()
    with pytest.raises(SystemExit):
        work(app, broker)
    assert [entry.message for entry in entries] == ["leave started", "leave failed: SystemExit(3)"]


# Messages ----------------------------------------------------------------------------------------


def test_headers_of_the_hosts_own(app: Celery, broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """They stay; ours that a task passes on with all others is made anew."""
    searching, seen = task(app, search), []

    def request(self: Any) -> None:
        seen.append(self.request.headers)
        searching.apply_async(headers=self.request.headers)

    own = {"tenant": "acme"}
    with log.run("run-1", "outer"):
        task(app, request, bind=True).apply_async(headers=own)
    work(app, broker)
    assert own == {"tenant": "acme"}
    assert seen[0]["tenant"] == "acme"
    assert tree_of(entries)[-4:] == [("request completed", "outer"), *SEARCHED]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{",
        "[]",
        "null",
        '{"fields":{"a":[]}}',
        '{"operation_id":"x"}',
        "[" * 4000,
        "x" * 10**7,
        7,
        {"a": 1},
    ],
    ids=repr,
)
def test_a_header_of_somebody_elses(
    app: Celery, broker: MemoryBroker, entries: list[LogEntry], header: Any
) -> None:
    """Whatever it holds, the task runs as one that has none."""
    sent = task(app, search).delay()
    work(app, broker, **{HEADER: header})
    assert [entry.message for entry in entries] == ["search started", "searching", "search completed"]
    assert runs_of(entries) == {sent.id}


def test_a_forged_header_is_masked_and_bounded_as_anything_else(
    app: Celery, broker: MemoryBroker, entries: list[LogEntry]
) -> None:
    """It names a run and fields, and no more."""
    task(app, search).delay()
    work(app, broker, **{HEADER: '{"fields":{"task_id":"run-1","password":"x","self":1,"exc_info":true}}'})
    assert runs_of(entries) == {"run-1"}
    assert entries[1].details == {"password": "[masked]", "self": 1, "exc_info": True}


def test_the_librarys_own_tasks(app: Celery, broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """They would log that they log."""
    task(app, search, name=TASK_NAME).delay()
    with log.run("run-1"):
        app.send_task(TASK_NAME)
    assert all(HEADER not in message.headers for message in broker.queue(QUEUE))
    work(app, broker)
    assert [entry.message for entry in entries if "searching" not in entry.message] == [
        "run started",
        "run completed",
    ]


# Options -----------------------------------------------------------------------------------------


def test_binding_twice(app: Celery, broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """Also once for this application, and once for all: a task is one operation."""
    bind_celery(app, logger=logger)
    bind_celery(logger=logger)
    task(app, search).delay()
    work(app, broker)
    assert [entry.message for entry in entries] == ["search started", "searching", "search completed"]


def test_other_applications_are_not_concerned(
    app: Celery, broker: MemoryBroker, entries: list[LogEntry]
) -> None:
    """Unless all are bound."""
    with make_app() as other:
        searching = task(other, search)
        searching.delay()
        work(other, broker)
        assert [entry.message for entry in entries] == ["searching"]
        bind_celery(logger=logger)
        searching.delay()
        work(other, broker)
    assert [entry.message for entry in entries[1:]] == ["search started", "searching", "search completed"]


def test_without_operations(app: Celery, broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """What a task logs is within the operation of its sender."""
    bind_celery(app, logger=logger, operation=False)
    with log.run("run-1", "request"):
        task(app, search).delay()
    work(app, broker)
    assert tree_of(entries)[2:] == [("searching", "request")]


def test_a_run_that_is_an_argument(app: Celery, broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """The host says which; where it does not, the run is that of the sender."""
    bind_celery(app, logger=logger, task_id=lambda request: request.kwargs.get("task_id"))

    def answer(task_id: str | None = None) -> None:
        note("answering")

    searching = task(app, answer)
    with logger.context(task_id="run-1"):
        searching.delay(task_id="run-2")
        searching.delay()
    work(app, broker)
    assert [entry.task_id for entry in entries] == ["run-2"] * 3 + ["run-1"] * 3


def test_flush_at_the_end_of_a_task(app: Celery, broker: MemoryBroker, make_logger: MakeLogger) -> None:
    """All of it is delivered, the entry at its end included."""
    delivery = MemoryDelivery()
    delivering = make_logger(delivery, language="en", flush_interval_seconds=1000.0)
    bind_celery(app, logger=delivering, flush=True)

    def plan() -> None:
        pass

    task(app, plan).delay()
    work(app, broker)
    assert [entry["message"] for entry in delivery.entries] == ["plan started", "plan completed"]


def test_an_error_of_ours_is_not_the_tasks(
    app: Celery, broker: MemoryBroker, entries: list[LogEntry], caplog: pytest.LogCaptureFixture
) -> None:
    """Celery logs it, and goes on: here a `task_id` that raises."""
    bind_celery(app, logger=logger, task_id=lambda request: request.kwargs["missing"])
    task(app, search).delay()
    with caplog.at_level(logging.ERROR):
        work(app, broker)
    assert [entry.message for entry in entries] == ["searching"]
    assert "KeyError" in caplog.text


# What the main process of a worker knows ---------------------------------------------------------


@pytest.mark.parametrize(
    ("announced", "message"),
    [
        (("terminated", True, "15", False), "search revoked: terminated by 15"),
        (("expired", False, None, True), "search revoked: expired"),
        (("revoked", False, None, False), "search revoked"),
    ],
    ids=["terminated", "expired", "revoked"],
)
def test_a_task_that_is_called_off(
    app: Celery, broker: MemoryBroker, entries: list[LogEntry], announced: tuple[Any, ...], message: str
) -> None:
    """One entry, in the place of its operation."""
    with log.run("run-1", "request"):
        task(app, search).delay()
    received(app)._announce_revoked(*announced)
    assert tree_of(entries)[2:] == [(message, "request")]
    assert (entries[2].task_id, entries[2].level) == ("run-1", "warning")


def test_a_task_whose_process_was_killed(app: Celery, broker: MemoryBroker, entries: list[LogEntry]) -> None:
    """The worker's main process says so: nobody else can."""
    with log.run("run-1", "request"):
        task(app, search).delay()
    with pytest.raises(WorkerLostError) as lost:
        raise WorkerLostError("signal 9")
    request = received(app)
    request.on_failure(ExceptionInfo((lost.type, lost.value, lost.tb)))
    # Of a time limit Celery tells twice.
    task_failure.send(sender=request.task, task_id=request.id, exception=lost.value)
    assert tree_of(entries)[2:] == [("search failed: signal 9", "request")]
    assert (entries[2].task_id, entries[2].level) == ("run-1", "error")


def test_a_rejection_is_recorded_where_the_task_ran(
    app: Celery, broker: MemoryBroker, entries: list[LogEntry]
) -> None:
    """The worker's main process, which Celery tells it to as well, adds nothing."""
    task(app, search).delay()
    request = received(app)
    task_failure.send(sender=request.task, task_id=request.id, exception=Reject("no", requeue=False))
    assert entries == []


def test_the_example_of_the_documentation(broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task is in the run that has sent it; its application uses a broker in memory here."""
    monkeypatch.setattr(celery._state._tls, "current_app", None)
    with capture_entries() as entries:
        example = Document("docs/integrations/celery.md").run_example("bind-celery")
        with example["app"] as app:
            app.conf.update(broker_url=URL, task_default_queue=QUEUE)
            example["handle"]("task-1")
            assert work(app, broker) == 1
    assert runs_of(entries) == {"task-1"}
    name = example["search"].name
    assert tree_of(entries)[2:] == [
        (f"{name} 开始", "report"),
        ("asking the index", name),
        (f"{name} 完成", "report"),
    ]
    assert entries[3].details == {"query": "prices", "tenant": "acme"}


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_that_the_last_of_its_tasks_ends(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    """Or one that is told that another has failed; all are within the run, whose end is at its root."""
    monkeypatch.setattr(celery._state._tls, "current_app", None)
    # Celery gives the tasks of one application to all others, also to those of other tests.
    monkeypatch.setattr(celery._state, "_on_app_finalizers", set(celery._state._on_app_finalizers))

    def research(question: str) -> str:
        raise LookupError(f"nothing about {question}")

    with capture_entries() as entries:
        example = Document("docs/USING.md").run_example("end_run")
        with example["app"] as app:
            app.conf.update(broker_url=URL, task_default_queue=QUEUE, result_backend="cache+memory://")
            if fails:
                monkeypatch.setattr(example["research"], "run", research)
            example["begin"]("task-1", ["prices"])
            work(app, broker)
    assert runs_of(entries) == {"task-1"}
    (run,) = tree_in_read(entries).roots
    assert (run.name, run.state) == ("report", "failed" if fails else "done")
    assert [child.name for child in run.children] == [example["research"].name]
    assert run.own[-1].parent_id is None
    details = run.own[-1].details or {}
    assert "nothing about prices" in details["error"] if fails else details["answers"] == 1
