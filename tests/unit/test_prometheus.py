"""The host's metrics: the collector says what `stats()` says."""

import json
import urllib.request
from collections.abc import Callable
from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from children import in_fork, run_script
from doubles import DEADLINE_SECONDS, BlockedDelivery
from execution_logger import ExecutionLogger
from execution_logger.errors import BrokerFullError, DeliveryError, ExecutionLoggerError
from execution_logger.integrations.prometheus import ExecutionLoggerCollector, instrument, serve
from execution_logger.metrics import MetricsServer
from execution_logger.testing import MemoryDelivery
from scraping import parse, samples, scrape
from server import free_port
from waiting import wait_until

MakeLogger = Callable[..., ExecutionLogger]

NAME = "execution_logger_"


def metrics(logger: ExecutionLogger) -> dict[str, float]:
    """What a scrape of this logger would say, without the prefix of all names."""
    found = samples(ExecutionLoggerCollector(logger).collect())
    assert all(name.startswith(NAME) for name in found)
    return {name.removeprefix(NAME): value for name, value in found.items()}


class TestCollector:
    """The metrics of a logger."""

    def test_the_account_is_right(self, make_logger: MakeLogger) -> None:
        """Accepted is delivered and waiting and dropped; delivered is stored and what else became of it."""
        delivery = BlockedDelivery()
        logger = make_logger(delivery, batch_size=1, buffer_max_entries=2)
        for _ in range(3):
            logger.sync.info("t", "c", "m")
        delivery.wait_until_entered()
        found = metrics(logger)
        assert found["entries_accepted_total"] == 3
        assert found["entries_waiting"] == 2
        assert found['entries_dropped_total{reason="buffer_full"}'] == 1
        assert found['entries_dropped_total{reason="journal_full"}'] == 0
        assert found["entries_delivered_total"] == 0
        assert found["waiting_bytes"] == found["memory_bytes"] > 100
        delivery.open()
        assert logger.sync.flush(DEADLINE_SECONDS).complete
        found = metrics(logger)
        assert found["entries_delivered_total"] == found["entries_stored_total"] == 3, "and the marker"
        assert found["entries_accepted_total"] == 4
        assert found["entries_waiting"] == found["entries_unconfirmed"] == found["waiting_bytes"] == 0
        assert found["confirmed"] == 1

    def test_each_batch_is_in_the_distributions(self, make_logger: MakeLogger) -> None:
        """Its entries, and how long sending it took; their sum is the number of entries."""
        logger = make_logger(batch_size=2, max_batch_entries=2)
        for _ in range(5):
            logger.sync.info("t", "c", "m")
        logger.sync.flush(DEADLINE_SECONDS)
        found = metrics(logger)
        assert found["batch_entries_count"] == found["batches_delivered_total"] == 3
        assert found["batch_entries_sum"] == found["entries_delivered_total"] == 5
        assert found['batch_entries_bucket{le="1.0"}'] == 1
        assert found['batch_entries_bucket{le="5.0"}'] == 3
        assert found["delivery_seconds_count"] == 3
        assert 0 < found["delivery_seconds_sum"] < DEADLINE_SECONDS

    def test_an_outage_shows(self, make_logger: MakeLogger) -> None:
        """While it lasts, and how often it was tried; that the queue is at its limit is told apart."""
        delivery = MemoryDelivery()
        delivery.failures = [BrokerFullError("queue 'logs' holds 5 messages")] * 1000
        logger = make_logger(delivery, batch_size=1, retry_pause_max_seconds=0.01)
        assert metrics(logger)["delivery_up"] == 1
        logger.sync.info("t", "c", "m")
        wait_until(lambda: metrics(logger)["held_back"])
        assert metrics(logger)["delivery_up"] == 0
        assert metrics(logger)["delivery_failures_total"] >= 1
        delivery.failures = [DeliveryError("the broker is away")] * 1000
        wait_until(lambda: not metrics(logger)["held_back"])
        assert metrics(logger)["delivery_up"] == 0
        assert 0 < metrics(logger)["oldest_unwritten_age_seconds"] < DEADLINE_SECONDS
        delivery.failures = []
        assert logger.sync.flush(DEADLINE_SECONDS).complete
        found = metrics(logger)
        assert (found["delivery_up"], found["held_back"], found["oldest_unwritten_age_seconds"]) == (1, 0, 0)

    def test_limits_stand_beside_what_they_bound(self, make_logger: MakeLogger) -> None:
        """So that an alert needs no number of its own."""
        found = metrics(
            make_logger(queue_max_messages=7, buffer_max_bytes=300_000, journal_max_bytes=2_000_000)
        )
        assert found["queue_limit_messages"] == 7
        assert found["memory_limit_bytes"] == 300_000
        assert found["journal_limit_bytes"] == 2_000_000

    def test_a_fork_shows_its_own(self, make_logger: MakeLogger) -> None:
        """A prefork host registers in the parent, and each child answers for itself."""
        logger = make_logger()
        logger.sync.info("t", "c", "m")
        collector = ExecutionLoggerCollector(logger)

        def in_child() -> tuple[float, float]:
            before = samples(collector.collect())[f"{NAME}entries_accepted_total"]
            for _ in range(2):
                logger.sync.info("t", "c", "m")
            return before, samples(collector.collect())[f"{NAME}entries_accepted_total"]

        assert in_fork(in_child) == (0, 2)
        assert metrics(logger)["entries_accepted_total"] == 1

    def test_a_wrong_setting_breaks_no_scrape_of_the_host(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The host's other metrics are still there; the error is told once."""
        monkeypatch.setenv("EXECUTION_LOGGER_BATCH_SIZE", "many")
        registry = CollectorRegistry()
        instrument(ExecutionLogger(), registry)
        assert generate_latest(registry) == generate_latest(registry) == b""
        (record,) = caplog.records
        assert "EXECUTION_LOGGER_BATCH_SIZE='many'" in record.getMessage()

    def test_registering_does_not_use_the_logger(self) -> None:
        """The host may still configure it."""
        logger = ExecutionLogger()
        instrument(logger, CollectorRegistry(auto_describe=True))
        logger.configure(make_delivery=MemoryDelivery)

    def test_what_is_shown_is_valid(self, make_logger: MakeLogger) -> None:
        """Prometheus' own parser reads it; every name has a help text, and counters end in `_total`."""
        registry = CollectorRegistry()
        instrument(make_logger(), registry)
        text = generate_latest(registry).decode()
        assert parse(text)
        for line in text.splitlines():
            if line.startswith("# TYPE"):
                _, _, name, kind = line.split()
                assert (kind == "counter") == name.endswith("_total"), name
                assert f"# HELP {name} " in text

    def test_unregistering_removes_it(self, make_logger: MakeLogger) -> None:
        """By what `instrument` returns."""
        registry = CollectorRegistry()
        registry.unregister(instrument(make_logger(), registry))
        assert generate_latest(registry) == b""


def test_stats_are_json_with_all_that_metrics_are_made_of(make_logger: MakeLogger) -> None:
    """A health endpoint returns them."""
    logger = make_logger(batch_size=1)
    logger.sync.info("t", "c", "m")
    logger.sync.flush(DEADLINE_SECONDS)
    stats = logger.stats()
    assert json.loads(json.dumps(stats)) == stats
    assert stats["batch_entries"]["buckets"]["1"] == 1
    assert (stats["oldest_unwritten_seconds"], stats["held_back"]) == (0, False)


class TestServe:
    """A port for each process."""

    @pytest.fixture
    def port(self) -> int:
        """One that is free."""
        return free_port()

    def test_each_takes_the_first_free_port(self, make_logger: MakeLogger, port: int) -> None:
        """As the workers of gunicorn do, whose ports Prometheus is given as a list."""
        ports = [port, free_port()]
        one, other = make_logger(), make_logger()
        one.sync.info("t", "c", "m")
        with closing(serve(ports, logger=one)) as first, closing(serve(ports, logger=other)) as second:
            assert [first.port, second.port] == ports
            assert scrape(first.port)[f"{NAME}entries_accepted_total"] == 1
            assert scrape(second.port)[f"{NAME}entries_accepted_total"] == 0
            with pytest.raises(ExecutionLoggerError, match="no port is free among"):
                serve(ports, logger=one)

    def test_an_address_that_is_not_ours_is_one_error(self, make_logger: MakeLogger, port: int) -> None:
        """No other port would help."""
        with pytest.raises(ExecutionLoggerError, match=r"192\.0\.2\.1"):
            serve([port], "192.0.2.1", logger=make_logger())

    def test_after_the_end_the_port_is_free(self, make_logger: MakeLogger, port: int) -> None:
        """And no thread or socket is left, which every test checks."""
        logger = make_logger()
        for _ in range(2):
            with closing(serve([port], logger=logger)):
                scrape(port)

    def test_a_fork_lets_the_port_go(self, port: int) -> None:
        """It closes what it has inherited, and the parent's server goes on."""
        with closing(MetricsServer([], "127.0.0.1", port)) as server:
            assert in_fork(server.close) is None
            address = f"http://127.0.0.1:{port}/metrics"
            assert urllib.request.urlopen(address, timeout=DEADLINE_SECONDS).status == 200


def test_without_the_package_one_line_says_what_to_install() -> None:
    """And `import execution_logger` does not need it."""
    output = run_script(
        """
        import sys
        sys.modules["prometheus_client"] = None
        import execution_logger
        try:
            import execution_logger.integrations.prometheus
        except execution_logger.SettingsError as error:
            print(error)
        """
    )
    assert output == 'Metrics need prometheus_client: pip install "celery-execution-logger[prometheus]"\n'


def test_an_instance_of_the_host_loads_no_prometheus() -> None:
    """Whoever does not want metrics does not pay for them."""
    output = run_script(
        """
        import sys
        from execution_logger import ExecutionLogger
        from execution_logger.testing import MemoryDelivery
        logger = ExecutionLogger(make_delivery=MemoryDelivery)
        logger.sync.info("t", "c", "m")
        logger.sync.shutdown()
        print(logger.stats()["batch_entries"]["sum"], "prometheus_client" in sys.modules)
        """
    )
    assert output == "1.0 False\n"
