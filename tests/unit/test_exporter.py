"""The exporter: what each part of the system says, in bounded time, whatever is away."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from batches import encoded
from doubles import DEADLINE_SECONDS, ManualClock
from execution_logger import ExecutionLogger, Settings
from execution_logger.broker.depth import QueueLength
from execution_logger.errors import StoreUnavailableError
from execution_logger.metrics import gauge
from execution_logger.operate import exporter
from execution_logger.operate.exporter import (
    JournalsUnreadableError,
    SystemCollector,
    read_broker,
    read_journals,
    read_tables,
)
from journals import DyingProcess
from scraping import FakeRedis, samples
from sqlite_site import SqliteSite, make_tables

NAME = "execution_logger_"

OLDEST = datetime(2020, 1, 1, tzinfo=UTC)

Reads = dict[str, Callable[[], list[Metric]]]


def says(value: float) -> list[Metric]:
    """A part's answer."""
    return [gauge("x", "A number.", value)]


class Broker:
    """A part that answers, is away, or hangs, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.going_on = threading.Event()
        self.going_on.set()

    def __call__(self) -> list[Metric]:
        """Answer."""
        self.asked += 1
        assert self.going_on.wait(DEADLINE_SECONDS)
        if self.error is not None:
            raise self.error
        return says(self.asked)


class TestCollector:
    """All parts at once."""

    @pytest.fixture
    def broker(self) -> Iterator[Broker]:
        """A part that never hangs for good."""
        broker = Broker()
        yield broker
        broker.going_on.set()

    @staticmethod
    def collect(collector: SystemCollector) -> dict[str, float]:
        """The samples of a scrape, without the prefix of all names."""
        found = samples(collector.collect())
        return {name.removeprefix(NAME): value for name, value in found.items()}

    def test_a_part_that_answers_is_up(self, broker: Broker) -> None:
        """With what it says."""
        with closing(SystemCollector({"broker": broker})) as collector:
            assert self.collect(collector) == {"broker_up": 1, "x": 1}

    def test_an_answer_is_good_for_a_second(self, broker: Broker) -> None:
        """Two Prometheus servers that ask at once cost as much as one."""
        clock = ManualClock()
        with closing(SystemCollector({"broker": broker}, monotonic=clock)) as collector:
            for seconds, asked in ((0, 1), (0.9, 1), (0.2, 2)):
                clock.advance(seconds)
                assert self.collect(collector)["x"] == broker.asked == asked

    def test_a_part_that_is_away_hides_no_other(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Why it is away is said once, and that it is back."""
        caplog.set_level(logging.INFO)
        clock = ManualClock()
        reads: Reads = {"broker": broker, "database": lambda: says(5)}
        with closing(SystemCollector(reads, monotonic=clock)) as collector:
            broker.error = StoreUnavailableError("connection refused")
            for _ in range(2):
                assert self.collect(collector) == {"broker_up": 0, "database_up": 1, "x": 5}
                clock.advance(2)
            broker.error = None
            assert self.collect(collector)["broker_up"] == 1
        lines = [record.getMessage() for record in caplog.records]
        assert lines == ["broker: no metrics: connection refused", "broker: metrics again"]

    def test_a_part_that_hangs_is_asked_once(self, broker: Broker) -> None:
        """Nobody waits for it for longer than for the others, and its answer counts when it comes."""
        clock = ManualClock()
        broker.going_on.clear()
        collector = SystemCollector({"broker": broker}, answer_seconds=0.01, monotonic=clock)
        for _ in range(3):
            assert self.collect(collector) == {"broker_up": 0}
            clock.advance(2)
        assert broker.asked == 1
        broker.going_on.set()
        collector._questions["broker"].result(DEADLINE_SECONDS)
        assert self.collect(collector)["broker_up"] == 1
        collector.close()

    def test_a_defect_in_one_part_is_logged_and_hides_no_other(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With its traceback: nobody would look for it otherwise."""
        broker.error = ZeroDivisionError("a bug")
        reads: Reads = {"broker": broker, "database": lambda: says(5)}
        with closing(SystemCollector(reads)) as collector:
            assert self.collect(collector) == {"broker_up": 0, "database_up": 1, "x": 5}
        assert any(record.exc_info for record in caplog.records)

    @pytest.mark.parametrize(
        ("settings", "parts"),
        [
            (Settings(database_url="sqlite:///x.db"), {"broker", "workers", "database", "journals"}),
            (Settings(), {"broker", "workers", "journals"}),
            (Settings(database_url="sqlite:///x.db", celery_enabled=False), {"database", "journals"}),
        ],
    )
    def test_what_the_settings_do_not_name_is_not_asked(self, settings: Settings, parts: set[str]) -> None:
        """A machine of hosts may not even reach the database."""
        with closing(SystemCollector.of(settings)) as collector:
            assert set(collector._reads) == parts


class TestBroker:
    """What a Redis says; the integration tests ask a real one."""

    @pytest.fixture
    def redis(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Replaces the broker."""

        def replace(*, may_ask: bool) -> None:
            monkeypatch.setattr(exporter, "open_channel", FakeRedis(may_ask=may_ask).open)
            monkeypatch.setattr(exporter, "queue_length", lambda _: QueueLength(3, 2, 1, OLDEST))

        return replace

    def test_queue_and_memory(self, redis: Callable[..., None]) -> None:
        """Without what Redis itself does not count when it refuses a write."""
        redis(may_ask=True)
        found = samples(read_broker(Settings(queue_max_messages=7)))
        age_seconds = found.pop(f"{NAME}queue_oldest_age_seconds")
        assert age_seconds > 200_000_000, "since 2020"
        assert {name.removeprefix(NAME): value for name, value in found.items()} == {
            "queue_messages": 3,
            "queue_in_flight_messages": 2,
            "queue_quarantined_messages": 1,
            "queue_limit_messages": 7,
            "broker_memory_bytes": 900,
            "broker_memory_limit_bytes": 5000,
        }

    def test_who_may_not_ask_for_the_memory_is_not_told(self, redis: Callable[..., None]) -> None:
        """A user with few rights is no broker that is away."""
        redis(may_ask=False)
        found = samples(read_broker(Settings()))
        assert found[f"{NAME}queue_messages"] == 3
        assert not any("memory" in name for name in found)

    def test_a_broker_that_tells_nothing_but_a_length(
        self, redis: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is not known is absent, and not 0."""
        redis(may_ask=False)
        monkeypatch.setattr(exporter, "queue_length", lambda _: QueueLength(3, None, None))
        found = {name.removeprefix(NAME) for name in samples(read_broker(Settings()))}
        assert found == {"queue_messages", "queue_limit_messages"}


class TestTables:
    """What the database says."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        """A SQLite file."""
        return Settings(database_url=f"sqlite:///{tmp_path / 'logs.db'}")

    @staticmethod
    def prepare(path: Path, script: str) -> None:
        """Make the tables, with a dead letter; then run the script."""

        async def run() -> None:
            async with SqliteSite(path) as site:
                make_tables(path)
                await site.write(encoded(id=...), encoded())
                site.execute(f"DROP TABLE IF EXISTS execution_log_job_runs;{script}")

        asyncio.run(run())

    def test_dead_letters_and_jobs(self, settings: Settings, tmp_path: Path) -> None:
        """A job that has never succeeded says 0; one that an earlier version had says nothing."""
        script = """
        CREATE TABLE execution_log_job_runs (name TEXT PRIMARY KEY, succeeded_at TIMESTAMP);
        INSERT INTO execution_log_job_runs
            VALUES ('retention', '2026-11-22 02:00:00.000000'), ('health', NULL), ('report', NULL);
        """
        self.prepare(tmp_path / "logs.db", script)
        assert samples(read_tables(settings)) == {
            f"{NAME}dead_letters": 1,
            f'{NAME}job_last_success_timestamp_seconds{{name="retention"}}': 1795312800,
            f'{NAME}job_last_success_timestamp_seconds{{name="health"}}': 0,
        }

    def test_without_job_runs_there_is_nothing_to_say_of_jobs(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        """The tables may be older than this version."""
        self.prepare(tmp_path / "logs.db", "")
        assert samples(read_tables(settings)) == {f"{NAME}dead_letters": 1}

    def test_missing_tables_are_an_error(self, settings: Settings) -> None:
        """Which says what to do."""
        with pytest.raises(StoreUnavailableError, match="execution-logger db upgrade"):
            read_tables(settings)


class TestJournals:
    """What is on the disk of this machine."""

    @staticmethod
    def read(folder: Path) -> dict[str, float]:
        """The samples, without the prefix of all names."""
        found = samples(read_journals(Settings(journal_directory=str(folder))))
        return {name.removeprefix(NAME): value for name, value in found.items()}

    def test_the_living_and_the_dead(self, tmp_path: Path) -> None:
        """Their number and size; what is settled and gone does not count."""
        DyingProcess(tmp_path).log(3).die()
        living = DyingProcess(tmp_path, "living").log(2)
        found = self.read(tmp_path)
        assert found['journals{process="dead"}'] == found['journals{process="living"}'] == 1
        assert found['journals_bytes{process="dead"}'] > found['journals_bytes{process="living"}'] > 0
        living.die()
        assert self.read(tmp_path)['journals{process="dead"}'] == 2

    def test_looking_takes_no_journal_away(self, tmp_path: Path) -> None:
        """A living process keeps its lock, and who comes next can have that of the dead one."""
        DyingProcess(tmp_path).log(3).die()
        self.read(tmp_path)
        logger = ExecutionLogger(
            Settings(journal_directory=str(tmp_path), celery_enabled=False, database_url="sqlite:///x.db")
        )
        assert logger.sync.shutdown(0)
        assert self.read(tmp_path)['journals{process="dead"}'] == 1

    def test_without_a_directory_there_is_nothing(self, tmp_path: Path) -> None:
        """No host has run here."""
        found = self.read(tmp_path / "nowhere")
        assert set(found.values()) == {0}

    def test_a_folder_that_a_process_is_about_to_lock_is_left_alone(self, tmp_path: Path) -> None:
        """It makes its folder first, and its lock must not be taken from it."""
        folder = tmp_path / "logs-1" / "new"
        folder.mkdir(parents=True)
        assert set(self.read(tmp_path).values()) == {0}
        assert list(folder.iterdir()) == []

    def test_what_may_not_be_read_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Journals belong to their user; a number would look as if there were none."""

        def refuse(_: Path) -> None:
            raise PermissionError(13, "Permission denied")

        DyingProcess(tmp_path).log(1).die()
        monkeypatch.setattr(exporter, "lock_folder", refuse)
        with pytest.raises(JournalsUnreadableError, match=str(tmp_path)):
            self.read(tmp_path)
