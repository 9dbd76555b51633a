"""The handler for the standard library's logging: each record is an entry, and none of its data is lost."""

import copy
import io
import logging
import logging.config
import logging.handlers
import pickle
import queue
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anything import Anything, plain_details, plain_texts
from children import FORKS, in_fork, run_script
from documents import Document
from doubles import DEADLINE_SECONDS, BlockedDelivery, interrupted, lines_of
from execution_logger import ExecutionLogger, LogEntry, Settings, execution_logger
from execution_logger.api import logger as logger_module
from execution_logger.api.context import Block
from execution_logger.entry.masking import MASK
from execution_logger.integrations.logging import RESERVED, ContextFilter, Handler
from execution_logger.testing import MemoryDelivery, capture_entries
from sqlite_site import make_tables

MakeLogger = Callable[..., ExecutionLogger]

PAGE = Document("docs/integrations/logging.md")


@pytest.fixture
def entries() -> Iterator[list[LogEntry]]:
    """What the ready instance records."""
    with capture_entries() as entries:
        yield entries


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of the host's without a handler, and without pytest's."""
    found = logging.Logger("host.web", 1)  # noqa: LOG001 - it has no parent, to whose handlers it would go
    yield found
    for handler in found.handlers:
        handler.close()


@pytest.fixture
def handled(log: logging.Logger, entries: list[LogEntry]) -> logging.Logger:
    """The same, with the handler and the ready instance."""
    log.addHandler(Handler())
    return log


@pytest.fixture
def restored() -> Iterator[None]:
    """The root logger is what it was: a configuration is the process's."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in before[0]:
            handler.close()
    root.handlers, level = before
    root.setLevel(level)  # not the attribute: loggers remember whether they are enabled


class Talkative:
    """Logs where it is read."""

    def __init__(self, log: logging.Logger, *args: Any) -> None:
        self.log, self.args = log, args

    def __str__(self) -> str:
        self.log.info("within: %s", *(self.args or (self,)))
        return "talkative"


class Failing:
    """Raises where it is read."""

    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


def details(entry: LogEntry) -> dict[str, Any]:
    """Those of the caller, without the place in the code."""
    rest = dict(entry.details or {})
    assert rest.pop("source").startswith("test_logging_handler:")
    assert rest.pop("logger") == "host.web"
    return rest


@pytest.mark.usefixtures("restored")
class TestPage:
    """What the page of the documentation shows."""

    def test_the_example(self, entries: list[LogEntry]) -> None:
        """By `dictConfig`: the records of a run are its entries, with their place in its tree."""
        PAGE.run_example("logging")["handle"]("task-1")
        begun, packed, failed, _ = entries
        assert {entry.task_id for entry in entries} == {"task-1"}
        assert packed.parent_id == failed.parent_id == begun.operation_id is not None
        assert (packed.level, packed.category, packed.message, packed.step) == (
            "info",
            "app",
            "3 items packed",
            "pack",
        )
        assert packed.details is not None
        assert packed.details["customer"] == "c-1"
        assert packed.details["logger"] == "shop.orders"
        assert failed.level == "error"
        assert failed.details is not None
        assert failed.details["exception"]["type"] == "ConnectionError"
        assert "in handle" in failed.details["exception"]["traceback"]

    def test_arguments_in_a_configuration(self, entries: list[LogEntry]) -> None:
        """Its own are passed by their names, another logger by its place."""
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "handlers": {
                    "rows": {
                        "class": "execution_logger.integrations.logging.Handler",
                        "level": "WARNING",
                        "category": "web",
                        "task_id": "host-1",
                        "logger": "ext://execution_logger.execution_logger",
                    }
                },
                "root": {"level": "DEBUG", "handlers": ["rows"]},
            }
        )
        logging.getLogger("host").info("not this")
        logging.getLogger("host").warning("this")
        (entry,) = entries
        assert (entry.task_id, entry.category, entry.message) == ("host-1", "web", "this")


class TestEntry:
    """What becomes of a record."""

    def test_levels(self, handled: logging.Logger, entries: list[LogEntry]) -> None:
        """The usual ones by their names, whatever the host calls them; its own ones with their numbers."""
        logging.addLevelName(25, "NOTICE")
        logging.addLevelName(logging.INFO, "INFORMATION")
        try:
            for number in (10, 20, 30, 40, 50, 25, 7):
                handled.log(number, "m")
        finally:
            logging.addLevelName(logging.INFO, "INFO")
        levels = [entry.level for entry in entries]
        assert levels == ["debug", "info", "warning", "error", "critical", "notice", "level 7"]
        assert [details(entry).get("levelno") for entry in entries] == [None] * 5 + [25, 7]

    def test_extra_fills_columns_and_details(self, handled: logging.Logger, entries: list[LogEntry]) -> None:
        """All names of columns are known; everything else is a detail."""
        columns = {
            "task_id": "t",
            "step": "s",
            "agent_name": "a",
            "roadmap_id": "r",
            "concept_id": "c",
            "duration_ms": 5,
            "category": "tool",
            "operation_id": str(uuid4()),
            "parent_id": str(uuid4()),
        }
        handled.info("m", extra={**columns, "items": [1, {"a": None}]})
        (entry,) = entries
        assert {name: getattr(entry, name) for name in columns} == columns
        assert details(entry) == {"items": [1, {"a": None}]}

    def test_no_key_takes_the_place_of_another(
        self, handled: logging.Logger, entries: list[LogEntry]
    ) -> None:
        """What the host calls `logger` or `exception` stays, and so does ours."""
        try:
            int("ours")
        except ValueError:
            handled.exception(
                "m", extra={"logger": "theirs", "_logger": "theirs, too", "exception": "theirs"}
            )
        (entry,) = entries
        assert entry.details is not None
        assert entry.details["logger"] == entry.details["exception"] == "theirs"
        assert entry.details["_logger"] == "theirs, too"
        assert entry.details["__logger"] == "host.web"
        assert entry.details["_exception"]["type"] == "ValueError"

    def test_what_a_record_has_of_its_own_is_no_extra(
        self, handled: logging.Logger, entries: list[LogEntry]
    ) -> None:
        """Nor is what formatters of other handlers leave in it; a filter may have removed what comes last."""
        record = handled.makeRecord("host.web", 20, __file__, 1, "m", (), None, extra={"x": 1})
        logging.Formatter("%(asctime)s %(message)s").format(record)
        handled.handle(record)
        del record.process, record.relativeCreated
        if hasattr(record, "taskName"):
            del record.taskName
        handled.handle(record)
        assert [details(entry) for entry in entries] == [{"x": 1}, {"x": 1}]

    def test_records_of_a_class_of_the_hosts(self, handled: logging.Logger, entries: list[LogEntry]) -> None:
        """Their attributes are extra, and their messages are formatted in their way."""

        class Braces(logging.LogRecord):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                self.request_id = "r-1"
                super().__init__(*args, **kwargs)

            def getMessage(self) -> str:  # noqa: N802 - logging's name
                return str(self.msg).format(*(self.args or ()))

        before = logging.getLogRecordFactory()
        logging.setLogRecordFactory(Braces)
        try:
            handled.info("{} of {}", 1, 2)
        finally:
            logging.setLogRecordFactory(before)
        (entry,) = entries
        assert (entry.message, details(entry)) == ("1 of 2", {"request_id": "r-1"})

    @pytest.mark.parametrize("args", [(1,), ("x", 2), (Failing(), Failing()), (1, 2, 3)])
    def test_arguments_that_do_not_fit(
        self, handled: logging.Logger, entries: list[LogEntry], args: tuple[Any, ...]
    ) -> None:
        """The message is as it was passed, and so are they; the host hears of no error."""
        handled.info("%d of %d", *args)
        (entry,) = entries
        assert entry.message == "%d of %d"
        assert len(details(entry)["args"]) == len(args)

    def test_tracebacks(self, handled: logging.Logger, entries: list[LogEntry]) -> None:
        """By `exception()`, by an exception that is passed, and none where none is handled."""
        try:
            int("no")
        except ValueError as error:
            handled.exception("m")
            caught = error
        handled.warning("m", exc_info=caught)
        handled.warning("m", exc_info=True)
        first, second, third = (details(entry).get("exception") for entry in entries)
        assert first == second
        assert first is not None
        assert first["type"] == "ValueError"
        assert "test_tracebacks" in first["traceback"]
        assert third is None

    def test_the_stack(self, handled: logging.Logger, entries: list[LogEntry]) -> None:
        """Where it is asked for."""
        handled.info("m", stack_info=True)
        assert "test_the_stack" in details(entries[0])["stack_info"]

    def test_the_thread_and_the_process(self, handled: logging.Logger, entries: list[LogEntry]) -> None:
        """Unless they are the main ones."""
        thread = threading.Thread(target=lambda: handled.info("m"), name="crawler")
        thread.start()
        thread.join()
        record = handled.makeRecord("host.web", 20, __file__, 1, "m", (), None)
        record.processName = "SpawnProcess-1"
        handled.handle(record)
        assert [details(entry) for entry in entries] == [{"thread": "crawler"}, {"process": "SpawnProcess-1"}]

    def test_pickled_records(self, handled: logging.Logger, entries: list[LogEntry]) -> None:
        """As those of a `SocketHandler` arrive, with the text of the traceback, and as copies."""
        try:
            int("no")
        except ValueError as error:
            record = handled.makeRecord(
                "host.web", 40, __file__, 1, "%s", ("m",), (ValueError, error, error.__traceback__),
                extra={"task_id": "t", "x": 1},
            )  # fmt: skip
        sent = logging.handlers.SocketHandler("localhost", 1).makePickle(record)
        handled.handle(logging.makeLogRecord(pickle.loads(sent[4:])))
        plain = handled.makeRecord("host.web", 20, __file__, 1, "%s", ("m",), None, extra={"x": 1})
        handled.handle(copy.copy(pickle.loads(pickle.dumps(plain))))
        received, copied = entries
        assert (received.task_id, received.message) == ("t", "m")
        assert "ValueError: invalid" in details(received).pop("exception")
        assert details(received)["x"] == details(copied)["x"] == 1

    def test_outside_any_run(self, log: logging.Logger, entries: list[LogEntry]) -> None:
        """It has the handler's `task_id`, unless the logger is bound to one or the context has one."""
        log.addHandler(Handler(task_id="host-1"))
        log.info("outside")
        with execution_logger.context(step="s"):
            log.info("in a block that has none")
        with execution_logger.context(task_id="t"):
            log.info("inside")
        log.handlers[0] = Handler(logger=execution_logger.bind(task_id="bound", tenant="acme"))
        log.info("bound")
        assert [entry.task_id for entry in entries] == ["host-1", "host-1", "t", "bound"]
        assert details(entries[-1]) == {"tenant": "acme"}

    def test_inside_an_operation_of_a_run(self, handled: logging.Logger, entries: list[LogEntry]) -> None:
        """As hosts have them that name the run in each call: its `task_id` is that of the operation."""
        with (
            execution_logger.sync.timed_operation("t", "agent", "plan") as timer,
            execution_logger.context(tenant="acme"),
        ):
            handled.info("m")
        handled.info("outside")
        assert [entry.task_id for entry in entries] == ["t", "t", "t", "app"]
        assert entries[1].parent_id == timer.operation_id
        assert details(entries[1]) == {"tenant": "acme"}

    def test_outside_any_run_nothing_is_limited_as_one(
        self, make_logger: MakeLogger, log: logging.Logger
    ) -> None:
        """Neither by the share of runs nor by the most entries of one; but the least level counts."""
        logger = make_logger()
        logger.set_volume(debug_share=0.0, run_max_entries=1)
        log.addHandler(Handler(logger=logger))
        with capture_entries(logger) as entries:
            for _ in range(3):
                log.info("info")
            log.debug("debug")
            logger.set_volume(level="warning")
            log.info("not this")
        assert [entry.message for entry in entries] == ["info"] * 3 + ["debug"]

    def test_messages_that_are_not_formatted(self, handled: logging.Logger, entries: list[LogEntry]) -> None:
        """A message that is no text, and one with a percent sign and no arguments."""
        handled.info({"a": 1})
        handled.info("100%")
        assert [entry.message for entry in entries] == ["{'a': 1}", "100%"]

    def test_a_record_of_nothing(self, entries: list[LogEntry]) -> None:
        """As `makeLogRecord` makes it of what somebody has sent: without a name, a level and a line."""
        Handler().handle(logging.makeLogRecord({"msg": "m", "exc_info": ValueError("no"), "x": 1}))
        (entry,) = entries
        assert entry.message == "m"
        assert entry.details is not None
        assert entry.details["exception"]["type"] == "ValueError"
        assert entry.details["x"] == 1

    def test_secrets_are_masked(self, handled: logging.Logger, entries: list[LogEntry]) -> None:
        """In messages and extra alike."""
        handled.info("to %s", "redis://user:hunter2@host/0", extra={"password": "hunter2"})
        assert "hunter2" not in repr(entries)

    @given(
        st.integers(0, 2**32),
        plain_texts,
        st.dictionaries(plain_texts, st.none()),
    )
    def test_anything_is_recorded(self, seed: int, message: str, names: dict[str, None]) -> None:
        """Whatever message, arguments and extra are: one entry, and no error."""
        anything = Anything(seed)
        args = tuple(anything.value() for _ in range(seed % 3))
        extra = {
            name: anything.value() for name in [*names, "task_id", "category", "duration_ms", "parent_id"]
        }
        record = logging.LogRecord(
            "host.web", 20, __file__, 1, message if seed % 5 else anything.value(), (), None
        )
        record.args = args  # not by the constructor, which looks at them itself
        record.exc_info = anything.value() if seed % 7 == 0 else None
        vars(record).update({key: value for key, value in extra.items() if key not in RESERVED})
        handler = Handler()
        with capture_entries() as entries, pytest.MonkeyPatch.context() as patch:
            patch.setattr(handler, "handleError", _fail)
            handler.handle(record)
        assert len(entries) == 1

    @given(plain_texts, plain_details)
    def test_plain_data_stays_as_it_is(self, message: str, extra: dict[str, Any]) -> None:
        """Message and details, as far as no name is a column's or a secret's."""
        extra = {f"x{key}": value for key, value in extra.items()}
        record = logging.LogRecord("host.web", 20, __file__, 1, "%s", (message,), None)
        vars(record).update(extra)
        with capture_entries() as entries:
            Handler().handle(record)
            execution_logger.sync.info("app", "app", message, details=extra)
        assert entries[0].message == entries[1].message
        assert details(entries[0]) == (entries[1].details or {})


def _fail(record: logging.LogRecord) -> None:
    raise AssertionError("the handler has failed") from None


class TestFeedback:
    """A record that recording or sending causes would cause the next one."""

    def test_what_the_library_says(self, entries: list[LogEntry]) -> None:
        """Is for the other handlers; a host's logger of a similar name is the host's."""
        handler = Handler()
        names = ("execution_logger", "execution_logger.worker", "execution_logger_host", "executions")
        for name in names:
            handler.handle(logging.LogRecord(name, 40, __file__, 1, "m", (), None))
        assert [(entry.details or {})["logger"] for entry in entries] == list(names[2:])

    def test_what_others_say_while_it_sends(self, make_logger: MakeLogger, log: logging.Logger) -> None:
        """Is not recorded, by whichever logger of ours, nor when a queue takes it to another thread."""

        class Chatty(MemoryDelivery):
            def deliver(self, batch: Any) -> Any:
                log.info("sending")
                return super().deliver(batch)

        delivery, other = Chatty(), MemoryDelivery()
        records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        log.addHandler(Handler(logger=make_logger(delivery)))
        log.addHandler(Handler(logger=make_logger(other)))
        log.addHandler(logging.handlers.QueueHandler(records))
        log.info("by the host")
        assert all(h._recorder.logger.sync.flush(DEADLINE_SECONDS).complete for h in log.handlers[:2])  # type: ignore[attr-defined]
        taken = [records.get(timeout=DEADLINE_SECONDS) for _ in range(2)]
        for record in taken:
            log.handlers[0].handle(record)
        assert log.handlers[0]._recorder.logger.sync.flush(DEADLINE_SECONDS).complete  # type: ignore[attr-defined]
        assert [entry["message"] for entry in other.entries] == ["by the host"]
        assert [entry["message"] for entry in delivery.entries] == ["by the host"] * 2

    @pytest.mark.usefixtures("restored")
    def test_at_the_most_talkative_level(self, tmp_path: Path) -> None:
        """A host without Celery whose root logger writes everything, that of SQLAlchemy and aiosqlite too."""
        make_tables(tmp_path / "logs.db")
        settings = Settings(
            celery_enabled=False,
            database_url=f"sqlite:///{tmp_path / 'logs.db'}",
            batch_size=1,
            journal=False,
        )
        logger = ExecutionLogger(settings)
        root = logging.getLogger()
        root.setLevel(logging.DEBUG)
        root.addHandler(Handler(logger=logger))
        logging.getLogger("host").info("by the host")
        for _ in range(3):
            assert logger.sync.flush(DEADLINE_SECONDS).complete
        assert logger.stats()["waiting"] == 0
        logger.sync.shutdown(DEADLINE_SECONDS)
        with sqlite3.connect(tmp_path / "logs.db") as connection:
            rows = connection.execute("SELECT message, task_id FROM execution_logs").fetchall()
        connection.close()
        assert ("by the host", "app") in rows
        assert [row for row in rows if row[0] != "by the host"] == []

    def test_an_object_that_logs_when_it_is_read(
        self, handled: logging.Logger, entries: list[LogEntry]
    ) -> None:
        """What it says is recorded; when it says itself, that has an end."""
        handled.info("%s", Talkative(handled, "hello"))
        assert [entry.message for entry in entries] == ["within: hello", "talkative"]
        entries.clear()
        handled.info("%s", Talkative(handled))
        assert [entry.message for entry in entries] == ["within: talkative", "talkative"]
        handled.info("m", extra={"x": Talkative(handled)})
        assert entries[-1].message == "m"

    def test_a_signal_handler_that_logs_anywhere(
        self, handled: logging.Logger, entries: list[LogEntry]
    ) -> None:
        """Its record is taken as well, whatever line of ours it interrupts, and nothing waits for ever."""
        both = 0
        for line in lines_of(Handler._read):
            entries.clear()
            with interrupted(Handler._read, line, lambda: handled.info("interrupts")):
                handled.info("interrupted")
            assert entries[-1].message == "interrupted"
            both += len(entries) == 2
        assert both > 10, "the lines that run for such a record"
        entries.clear()
        handler = signal.signal(signal.SIGUSR1, lambda *_: handled.info("in a handler"))
        try:
            signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, handler)
        assert [entry.message for entry in entries] == ["in a handler"]


class TestHost:
    """The host goes on, whatever happens."""

    def test_close_and_flush_wait_for_nothing(self, make_logger: MakeLogger, log: logging.Logger) -> None:
        """While a delivery hangs, and at any time after it."""
        delivery = BlockedDelivery()
        logger = make_logger(delivery, batch_size=1)
        handler = Handler(logger=logger)
        log.addHandler(handler)
        log.info("one")
        delivery.wait_until_entered()
        began = time.perf_counter()
        handler.flush()
        handler.close()
        logging.shutdown([lambda: handler])
        assert time.perf_counter() - began < DEADLINE_SECONDS / 10
        log.info("two")
        delivery.open()
        assert logger.sync.flush(DEADLINE_SECONDS).complete
        assert [entry["message"] for entry in delivery.entries] == ["one", "two"]

    def test_lines_from_one_place(self, make_logger: MakeLogger, log: logging.Logger) -> None:
        """Each is what it would be alone: its own message, time, level, thread, run, and secrets masked."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery)
        for handler in (Handler(logger=logger), Handler(logger=logger, category="second", task_id="none")):
            log.addHandler(handler)

        def line(level: int, message: str, *arguments: object) -> None:
            log.log(level, message, *arguments)

        for number in range(3):
            line(logging.INFO, "step %d", number)
        line(logging.ERROR, "step %d", 3)
        line(logging.INFO, "GET /path?password=%s", "kTi7w2")
        line(logging.INFO, "password: %s", "kTi7w2")
        line(logging.INFO, "%s", "half \ud800")
        with logger.context(task_id="task-1", step="outline"):
            line(logging.INFO, "within")
        thread = threading.Thread(target=line, args=(logging.INFO, "elsewhere"), name="other")
        thread.start()
        thread.join()
        line(logging.INFO, "%d %d", "too few")
        assert logger.sync.flush(DEADLINE_SECONDS).complete
        first, second = delivery.entries[::2], delivery.entries[1::2]
        assert [entry["message"] for entry in first] == [entry["message"] for entry in second]
        assert [(entry["level"], entry["task_id"], entry["message"]) for entry in first] == [
            *(("info", "app", f"step {number}") for number in range(3)),
            ("error", "app", "step 3"),
            ("info", "app", f"GET /path?password={MASK}"),
            ("info", "app", f"password: {MASK}"),
            ("info", "app", "half \ufffd"),
            ("info", "task-1", "within"),
            ("info", "app", "elsewhere"),
            ("info", "app", "%d %d"),
        ]
        assert {entry["category"] for entry in second} == {"second"}
        assert {(e["details"]["logger"], e["details"]["source"]) for e in first} == {
            ("host.web", first[0]["details"]["source"])
        }
        assert first[8]["details"]["thread"] == "other"
        times = [entry["created_at"] for entry in delivery.entries]
        assert times == sorted(set(times))
        assert len({entry["id"] for entry in delivery.entries}) == 20

    def test_usual_lines_are_only_filled_in(
        self, make_logger: MakeLogger, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From the second one of a place on, behind another handler's formatter too."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery)
        logger.sync.start()
        text = io.StringIO()
        other = logging.StreamHandler(text)
        other.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(other)
        log.addHandler(Handler(logger=logger))
        left = Block({"step": "over"}, None, None, None, is_left=True)  # as a generator leaves one behind
        monkeypatch.setattr(logger_module, "innermost", ContextVar("left", default=left))
        for number in range(3):
            log.info("step %d", number)
            monkeypatch.setattr(logger._host.pipeline, "make_entry", None)
        monkeypatch.undo()
        assert logger.sync.flush(DEADLINE_SECONDS).complete
        assert [entry["message"] for entry in delivery.entries] == [f"step {number}" for number in range(3)]

    def test_it_logs_under_loggings_own_lock(self, make_logger: MakeLogger, log: logging.Logger) -> None:
        """The first record starts the thread, which must not wait for that lock."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery)
        log.addHandler(Handler(logger=logger))
        lock = vars(logging)["_lock"]
        with lock:
            log.info("m")
        assert logger.sync.flush(DEADLINE_SECONDS).complete
        assert len(delivery.entries) == 1

    def test_a_wrong_setting_raises_nothing(
        self,
        log: logging.Logger,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """It is said as every handler says its errors."""
        monkeypatch.setenv("EXECUTION_LOGGER_BATCH_SIZE", "many")
        log.addHandler(Handler(logger=ExecutionLogger()))
        log.info("m")
        assert "EXECUTION_LOGGER_BATCH_SIZE" in capsys.readouterr().err

    def test_filters(self, handled: logging.Logger, entries: list[LogEntry]) -> None:
        """Of the handler's; from Python 3.12 on they may replace a record."""
        handler = handled.handlers[0]
        handler.addFilter(lambda record: record.msg != "not this")
        handled.info("not this")
        handled.info("this")
        assert [entry.message for entry in entries] == ["this"]

    @pytest.mark.parametrize("fork", FORKS)
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_forks(self, fork: Callable[[], int], make_logger: MakeLogger, log: logging.Logger) -> None:
        """Parent and child log on, each its own records."""
        delivery = MemoryDelivery()
        logger = make_logger(delivery)
        log.addHandler(Handler(logger=logger))
        log.info("before")

        def in_child() -> list[str]:
            log.info("in the child")
            logger.sync.flush(DEADLINE_SECONDS)
            return [entry["message"] for entry in delivery.entries]

        assert in_fork(in_child, fork)[-1] == "in the child"
        log.info("after")
        assert logger.sync.flush(DEADLINE_SECONDS).complete
        assert [entry["message"] for entry in delivery.entries] == ["before", "after"]

    def test_the_end_of_the_interpreter(self, tmp_path: Path) -> None:
        """What exit hooks log is delivered, and a destructor that logs after them ends nothing."""
        output = run_script(
            """
            import atexit, logging, sys
            from pathlib import Path
            from doubles import FileDelivery
            from execution_logger import ExecutionLogger, Settings
            from execution_logger.integrations.logging import Handler

            file = Path(sys.argv[1])
            logger = ExecutionLogger(Settings(journal=False), make_delivery=lambda: FileDelivery(file))
            logging.getLogger().addHandler(Handler(logger=logger))

            class Last:
                def __del__(self):
                    logging.warning("by a destructor")

            last = Last()
            logging.warning("by the program")
            atexit.register(lambda: logging.warning("by an exit hook"))
            """,
            tmp_path / "delivered",
        )
        assert "Traceback" not in output
        delivered = (tmp_path / "delivered").read_text()
        assert "by the program" in delivered
        assert "by an exit hook" in delivered

    def test_behind_a_queue(self, log: logging.Logger, entries: list[LogEntry]) -> None:
        """With the filter that keeps the run and the operation; the traceback is in the message."""
        records: queue.Queue[Any] = queue.Queue()
        queued = logging.handlers.QueueHandler(records)
        queued.addFilter(ContextFilter())
        log.addHandler(queued)
        listener = logging.handlers.QueueListener(records, Handler())
        listener.start()
        with execution_logger.context(tenant="acme", name="odd"), execution_logger.sync.run("t") as run:
            log.info("%d items", 3, extra={"tenant": "other"})
            try:
                int("no")
            except ValueError:
                log.exception("failed")
        log.info("outside")
        listener.stop()
        named = {entry.message.partition("\n")[0]: entry for entry in entries}
        assert [(named[m].task_id, named[m].parent_id) for m in ("3 items", "failed", "outside")] == [
            ("t", run.operation_id),
            ("t", run.operation_id),
            ("app", None),
        ]
        assert details(named["3 items"]) == {"tenant": "other", "_name": "odd"}
        assert "ValueError: invalid" in named["failed"].message
