"""From a call to its Celery message, without any server."""

import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from celery import Celery, current_app, signals
from celery.app import app_or_default
from kombu import Producer
from kombu.exceptions import OperationalError
from redis import Redis

from children import run_script
from doubles import DEADLINE_SECONDS
from execution_logger import ExecutionLogger, LogCategory, Settings
from execution_logger.broker.message import restore_quotes
from execution_logger.broker.queue import RedisQueue
from execution_logger.delivery.celery import CeleryDelivery
from memory_broker import PASSWORD, URL, MemoryBroker
from waiting import wait_until

MakeLogger = Callable[..., ExecutionLogger]


@pytest.fixture
def make_logger(broker: MemoryBroker) -> Iterator[MakeLogger]:
    """Makes loggers that send to the broker; nothing but full batches and flushes, unless told otherwise."""
    loggers: list[ExecutionLogger] = []

    def make(celery_app: Celery | None = None, **settings: Any) -> ExecutionLogger:
        used = Settings(**{"broker_url": URL, "flush_interval_seconds": 1000.0, **settings})
        loggers.append(ExecutionLogger(used, celery_app=celery_app))
        return loggers[-1]

    yield make
    for logger in loggers:
        logger.sync.shutdown(DEADLINE_SECONDS)


@pytest.fixture
def host_app() -> Iterator[Celery]:
    """A host's own application, whose settings are everything that would disturb us."""
    app = Celery("host", broker=URL, set_as_current=False)
    app.conf.update(
        task_serializer="pickle",
        accept_content=["pickle"],
        task_always_eager=True,
        task_eager_propagates=True,
        task_routes={"execution_logger.*": {"queue": "elsewhere", "priority": 9}},
        task_create_missing_queues=False,
        task_default_queue="host",
        task_default_exchange="host",
        task_default_delivery_mode="transient",
        task_compression="gzip",
        task_protocol=1,
        task_send_sent_event=True,
        task_ignore_result=False,
        result_backend="nonsense://nowhere",
        broker_transport_options={"visibility_timeout": 7},
    )
    yield app
    app.close()


def log(logger: ExecutionLogger, count: int, task_id: str = "task-1") -> None:
    """Log that often."""
    for number in range(count):
        logger.sync.info(task_id, LogCategory.AGENT, f"{number}", details={"text": "学" * 50})


class TestMessage:
    """What the worker, and everybody who looks at the queue, is given."""

    def test_task_and_queue(self, make_logger: MakeLogger, broker: MemoryBroker) -> None:
        """The worker knows the task by its name; nothing else is in the broker."""
        log(make_logger(), 50)
        wait_until(broker.queue)
        (envelope,) = broker.queue()
        assert envelope.headers["task"] == "execution_logger.write_batch"
        assert envelope.raw["properties"]["delivery_info"] == {"exchange": "", "routing_key": "logs"}
        assert envelope.raw["properties"]["delivery_mode"] == 2, "a restart of the broker must not lose it"
        assert envelope.headers["eta"] is envelope.headers["expires"] is None
        assert envelope.headers["ignore_result"] is True

    def test_the_one_argument_is_the_batch_as_a_string(
        self, make_logger: MakeLogger, broker: MemoryBroker
    ) -> None:
        """JSON in JSON, without a backslash: the worker hands it to the database unparsed."""
        logger = make_logger()
        entries = [logger.sync.info("task-1", "agent", f"学 {number}", step="s") for number in range(50)]
        wait_until(broker.queue)
        (envelope,) = broker.queue()
        assert envelope.raw["content-type"] == "application/json"
        (argument,), keywords, _ = envelope.body
        assert '"' not in argument
        argument = restore_quotes(argument)
        assert keywords == {"process": logger.stats()["process"], "first": 1}, "for the worker's ledger"
        assert [entry["id"] for entry in json.loads(argument)] == [entry.id for entry in entries]
        first = json.loads(argument)[0]
        assert first.pop("created_at").endswith("Z")
        assert first == {
            "id": entries[0].id,
            "task_id": "task-1",
            "level": "info",
            "category": "agent",
            "message": "学 0",
            "step": "s",
        }

    def test_what_flower_and_events_show(self, make_logger: MakeLogger, broker: MemoryBroker) -> None:
        """How many entries, how much, and of which task: not the entries themselves."""
        logger = make_logger()
        for count, task_id in ((50, "task-1"), (1, "t" * 100)):
            log(logger, count, task_id)
            logger.sync.flush()
        shown = [
            (envelope.headers["argsrepr"], envelope.headers["kwargsrepr"]) for envelope in broker.queue()
        ]
        assert re.fullmatch(r"50 entries, \d\d kB, task-1…", shown[0][0])
        assert re.fullmatch(r"1 entry, 1 kB, t{40}", shown[1][0])
        assert {keywords for _, keywords in shown} == {"{}"}

    def test_its_id_is_that_of_the_batch(
        self, make_logger: MakeLogger, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The worker's logs and the dead letters name it."""
        batch_ids: list[str] = []
        send = CeleryDelivery._send

        def note(self: Any, producer: Any, batch: Any) -> None:
            batch_ids.append(batch.id)
            send(self, producer, batch)

        monkeypatch.setattr(CeleryDelivery, "_send", note)
        logger = make_logger()
        for _ in range(2):
            log(logger, 1)
            logger.sync.flush()
        assert [envelope.headers["id"] for envelope in broker.queue()] == batch_ids
        assert [envelope.raw["properties"]["correlation_id"] for envelope in broker.queue()] == batch_ids
        assert len(set(batch_ids)) == 2

    def test_no_credentials(self, make_logger: MakeLogger, broker: MemoryBroker) -> None:
        """Neither the broker's password nor a secret of the host's is in it."""
        logger = make_logger(database_url=f"postgresql://user:{PASSWORD}@localhost/database")
        logger.sync.info("t", "api", "called", details={"api_key": PASSWORD, "nested": [{"token": PASSWORD}]})
        logger.sync.flush()
        (envelope,) = broker.queue()
        assert PASSWORD not in json.dumps(envelope.raw)
        assert PASSWORD not in json.dumps(envelope.body)


class TestBatches:
    """When a message is sent, and with what."""

    def test_fifty_entries_are_one_message(self, make_logger: MakeLogger, broker: MemoryBroker) -> None:
        """Sent at once; a smaller rest waits for its time."""
        logger = make_logger()
        for count in (1, 2, 3):
            log(logger, 50)
            wait_until(lambda: len(broker.queue()) == count)  # noqa: B023
        log(logger, 49)
        assert [len(envelope.entries) for envelope in broker.queue()] == [50, 50, 50]
        assert logger.stats()["waiting"] == 49

    def test_the_timer_needs_no_further_call(self, make_logger: MakeLogger, broker: MemoryBroker) -> None:
        """A single entry is on its way soon, although nothing follows it."""
        log(make_logger(flush_interval_seconds=0.05), 1)
        wait_until(broker.queue)
        assert len(broker.entries()) == 1

    def test_a_jam_is_sent_in_large_messages(
        self, make_logger: MakeLogger, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What has gathered while the broker was away: up to 1000 entries each, in order."""
        logger = make_logger()
        with monkeypatch.context() as patched:
            patched.setattr(Producer, "publish", _refuse)
            log(logger, 50)
            wait_until(lambda: logger.stats()["failed_attempts"])
            log(logger, 1100)
        logger.sync.flush(DEADLINE_SECONDS)
        assert [len(envelope.entries) for envelope in broker.queue()] == [50, 1000, 100]
        assert [int(entry["message"]) for entry in broker.entries()] == [*range(50), *range(1100)]

    def test_the_order_of_calls_is_the_order_in_the_queue(
        self, make_logger: MakeLogger, broker: MemoryBroker
    ) -> None:
        """Also that of ids and times, by which rows are read back."""
        logger = make_logger()
        log(logger, 1234)
        logger.sync.flush(DEADLINE_SECONDS)
        entries = broker.entries()
        assert [int(entry["message"]) for entry in entries] == list(range(1234))
        keys = [(entry["created_at"], entry["id"]) for entry in entries]
        assert keys == sorted(keys)

    async def test_awaited_calls_too(self, make_logger: MakeLogger, broker: MemoryBroker) -> None:
        """The calls that hosts make, and the flush at the end of their workflows."""
        logger = make_logger()
        await logger.log_workflow_start("task-1", "plan", "started")
        async with logger.timed_operation("task-1", LogCategory.TOOL, "search"):
            await logger.log_agent_error("task-1", "writer", "failed", error="a bug")
        report = await logger.flush()
        assert (report.delivered, report.complete) == (4, True)
        assert [(entry["level"], entry["category"]) for entry in broker.entries()] == [
            ("info", "workflow"),
            ("info", "tool"),
            ("error", "agent"),
            ("info", "tool"),
        ]


class TestOutage:
    """The broker is away, or in doubt."""

    def test_the_same_batch_is_sent_again(
        self, make_logger: MakeLogger, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An attempt that timed out may have arrived: then there are two messages with one id."""
        publish, attempts = Producer.publish, []

        def arrive_and_fail(self: Any, *args: Any, **options: Any) -> None:
            attempts.append(publish(self, *args, **options))
            if len(attempts) < 3:
                raise OperationalError("Timeout reading from socket")

        monkeypatch.setattr(Producer, "publish", arrive_and_fail)
        logger = make_logger()
        log(logger, 50)
        logger.sync.flush(DEADLINE_SECONDS)
        first, *others = broker.queue()
        assert len(others) == 2
        times = [envelope.headers.pop("sent_at") for envelope in (first, *others)]
        assert times == sorted(times), "each attempt tells its own"
        for each in others:
            assert each.headers == first.headers
            assert each.body == first.body
        assert logger.stats()["delivered"] == 50

    def test_the_host_notices_nothing(
        self,
        make_logger: MakeLogger,
        broker: MemoryBroker,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Calls go on; one warning, without a password; all is sent when the broker is back."""
        logger = make_logger()
        with monkeypatch.context() as patched:
            patched.setattr(Producer, "publish", _refuse)
            log(logger, 70)
            wait_until(lambda: logger.stats()["failed_attempts"])
            report = logger.sync.flush(0.05)
            assert (report.complete, report.waiting) == (False, 70)
            assert report.last_error == "memory://localhost/: OperationalError: Connection refused"
        assert logger.sync.flush(DEADLINE_SECONDS).complete
        assert len(broker.entries()) == 70
        (warning,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
        assert warning.endswith("OperationalError: Connection refused")
        assert PASSWORD not in warning

    def test_a_full_queue_holds_entries_back(self, make_logger: MakeLogger, broker: MemoryBroker) -> None:
        """The broker's memory is the host's tasks' too; when workers have made room, all of it is sent."""
        logger = make_logger(queue_max_messages=2, max_batch_entries=50)
        log(logger, 150)
        wait_until(lambda: logger.stats()["failed_attempts"])
        report = logger.sync.flush(0.05)
        assert (report.waiting, len(broker.queue())) == (50, 2)
        assert "queue 'logs' holds 2 messages, and its limit is 2" in str(report.last_error)
        broker.take()
        assert logger.sync.flush(DEADLINE_SECONDS).complete
        assert len(broker.queue()) == 2


class TestHost:
    """A host that has a Celery application of its own."""

    def test_its_settings_do_not_disturb_ours(
        self, make_logger: MakeLogger, broker: MemoryBroker, host_app: Celery
    ) -> None:
        """Pickle, eager mode, routes, missing queues, protocol 1, compression: the message is the same."""
        logger = make_logger(host_app, broker_url="redis://127.0.0.1:1/0")
        log(logger, 50)
        assert logger.sync.flush(DEADLINE_SECONDS).complete
        (envelope,) = broker.queue()
        assert envelope.raw["content-type"] == "application/json"
        assert envelope.raw["properties"]["delivery_mode"] == 2
        assert envelope.raw["properties"]["priority"] == 0
        assert envelope.headers["task"] == "execution_logger.write_batch"
        assert "compression" not in envelope.headers
        assert len(envelope.entries) == 50
        assert "elsewhere" not in broker
        assert "host" not in broker

    def test_nothing_of_it_is_changed(self, make_logger: MakeLogger, host_app: Celery) -> None:
        """Not its settings, its tasks, its pools, nor which application is the current one."""
        before = (dict(host_app.conf), set(host_app.tasks), host_app._pool, current_app._get_current_object())
        current = app_or_default()
        logger = make_logger(host_app)
        log(logger, 50)
        assert logger.sync.shutdown(DEADLINE_SECONDS).complete
        after = (dict(host_app.conf), set(host_app.tasks), host_app._pool, current_app._get_current_object())
        assert after == before
        assert app_or_default() is current

    def test_its_signals_are_not_sent(self, make_logger: MakeLogger, broker: MemoryBroker) -> None:
        """Or its instrumentation would trace each batch, as if it were a task of the host's."""
        seen: list[Any] = []

        def note(sender: Any = None, **_: Any) -> None:
            seen.append(sender)

        signals.before_task_publish.connect(note)
        signals.after_task_publish.connect(note)
        try:
            logger = make_logger()
            log(logger, 50)
            logger.sync.flush(DEADLINE_SECONDS)
        finally:
            signals.before_task_publish.disconnect(note)
            signals.after_task_publish.disconnect(note)
        assert len(broker.queue()) == 1
        assert seen == []

    @pytest.mark.parametrize(
        "variable",
        [
            "CELERY_BROKER_URL",
            "CELERY_BROKER_READ_URL",
            "CELERY_BROKER_WRITE_URL",
            "CELERY_RESULT_BACKEND",
            "CELERY_CONFIG_MODULE",
            "CELERY_LOADER",
        ],
    )
    def test_its_environment_does_not_disturb_ours(
        self, make_logger: MakeLogger, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        """A broker that is given is the one that is used; nothing else is set up or loaded."""
        monkeypatch.setenv(variable, "nonsense://nowhere")
        logger = make_logger()
        log(logger, 50)
        assert logger.sync.flush(DEADLINE_SECONDS).complete
        assert len(broker.queue()) == 1

    def test_a_module_with_its_settings_is_not_read(self, tmp_path: Path) -> None:
        """Celery would import it for any application that has no settings of its own."""
        (tmp_path / "hosts_settings.py").write_text("print('imported'); task_compression = 'gzip'")
        output = run_script(
            """
            from execution_logger import ExecutionLogger, Settings
            logger = ExecutionLogger(Settings(broker_url="memory://")).sync
            logger.info("t", "agent", "hello")
            print(logger.shutdown().complete)
            """,
            environment={
                "CELERY_CONFIG_MODULE": "hosts_settings",
                "PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}",
            },
        )
        assert output == "True\n"


class TestRedis:
    """The transport of production, with a Redis in this process."""

    @pytest.fixture
    def redis(self) -> Iterator["Redis"]:
        """A client of the server."""
        with fakeredis.TcpFakeServer(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            with Redis(port=server.server_address[1], decode_responses=True) as client:
                yield client
            server.shutdown()
            thread.join()

    def test_operators_count_the_batches_with_llen(
        self, redis: "Redis", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`redis-cli LLEN logs`; the key holds what the transport in memory holds."""
        monkeypatch.setattr(RedisQueue, "_memory", lambda _: {})  # fakeredis hangs up when it is asked
        port = redis.connection_pool.connection_kwargs["port"]
        logger = ExecutionLogger(
            Settings(broker_url=f"redis://127.0.0.1:{port}/0", flush_interval_seconds=1000.0, batch_size=10)
        )
        for count in (1, 2):
            log(logger, 10)
            assert logger.sync.flush(DEADLINE_SECONDS).complete
            assert redis.llen("logs") == count
        newest = json.loads(redis.lindex("logs", 0) or "")
        assert newest["headers"]["task"] == "execution_logger.write_batch"
        assert redis.type("logs") == "list"
        logger.sync.shutdown(DEADLINE_SECONDS)

    def test_the_variable_that_a_host_has_is_used(
        self, redis: "Redis", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """CELERY_BROKER_URL is all that most hosts set."""
        monkeypatch.setattr(RedisQueue, "_memory", lambda _: {})  # as above
        port = redis.connection_pool.connection_kwargs["port"]
        monkeypatch.setenv("CELERY_BROKER_URL", f"redis://127.0.0.1:{port}/0")
        logger = ExecutionLogger()
        log(logger, 50)
        assert logger.sync.shutdown(DEADLINE_SECONDS).complete
        assert redis.llen("logs") == 1


def test_nobody_pays_for_celery_before_it_is_needed() -> None:
    """The import is the background thread's work: no call waits for it."""
    output = run_script(
        """
        import sys
        from execution_logger import ExecutionLogger, Settings
        logger = ExecutionLogger(Settings(broker_url="memory://", flush_interval_seconds=1000.0)).sync
        logger.info("t", "agent", "hello")
        print("celery" in sys.modules, "kombu" in sys.modules)
        logger.flush()
        print("celery" in sys.modules, "kombu" in sys.modules)
        """
    )
    assert output == "False False\nTrue True\n"


def _refuse(*_: object, **__: object) -> None:
    raise OperationalError("Connection refused")
