"""The exporter: what each part of the system says, in bounded time, whatever is away."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batches import encoded
from doubles import DEADLINE_SECONDS, ManualClock
from execution_logger import ExecutionLogger, Settings
from execution_logger.broker.queue import QueueLength
from execution_logger.errors import StoreUnavailableError
from execution_logger.journal import survey
from execution_logger.operate import facts, system_metrics
from execution_logger.operate.asking import Asking, Facts, Read
from execution_logger.operate.facts import JournalUnreadableError
from execution_logger.operate.system_metrics import SystemCollector
from journals import DyingProcess
from scraping import FakeRedis, samples
from sqlite_site import SqliteSite, make_tables

NAME = "execution_logger_"

LENGTH = QueueLength(3, 2, 1, datetime(2020, 1, 1, tzinfo=UTC))


class Queue:
    """A part that answers, or is away, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None

    def __call__(self, facts: Facts) -> None:
        """Answer."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        facts |= {"length": QueueLength(self.asked), "memory": None}


def other_part(facts: Facts) -> None:
    """One that answers."""
    facts["dead_letters"] = 5


class TestCollector:
    """All parts at once."""

    @staticmethod
    def collector(queue: Queue, clock: ManualClock) -> SystemCollector:
        """Of two parts."""
        reads: dict[str, Read] = {"queue": queue, "dead_letters": other_part}
        return SystemCollector(Settings(), Asking(reads, DEADLINE_SECONDS), clock)

    @staticmethod
    def collect(collector: SystemCollector) -> dict[str, float]:
        """The samples of a scrape, without the prefix of all names and what is a setting."""
        found = samples(collector.collect())
        found.pop(f"{NAME}queue_limit_messages", None)
        return {name.removeprefix(NAME): value for name, value in found.items()}

    def test_a_part_that_answers_is_up(self) -> None:
        """With what it says."""
        collector = self.collector(Queue(), ManualClock())
        assert self.collect(collector) == {
            "broker_up": 1, "queue_messages": 1, "database_up": 1, "dead_letters": 5,
        }  # fmt: skip

    def test_an_answer_is_good_for_a_second(self) -> None:
        """Two Prometheus servers that ask at once cost as much as one."""
        clock, queue = ManualClock(), Queue()
        collector = self.collector(queue, clock)
        for seconds, asked in ((0, 1), (0.9, 1), (0.2, 2)):
            clock.advance(seconds)
            assert self.collect(collector)["queue_messages"] == queue.asked == asked

    def test_a_part_that_is_away_hides_no_other(self, caplog: pytest.LogCaptureFixture) -> None:
        """Why it is away is said once, and that it is back."""
        caplog.set_level(logging.INFO)
        clock, queue = ManualClock(), Queue()
        collector = self.collector(queue, clock)
        queue.error = StoreUnavailableError("connection refused")
        for _ in range(2):
            assert self.collect(collector) == {"broker_up": 0, "database_up": 1, "dead_letters": 5}
            clock.advance(2)
        queue.error = None
        assert self.collect(collector)["broker_up"] == 1
        lines = [record.getMessage() for record in caplog.records]
        assert lines == ["broker: no metrics: connection refused", "broker: metrics again"]

    @pytest.mark.parametrize(
        ("settings", "parts"),
        [
            (
                Settings(database_url="sqlite:///x.db"),
                {"queue", "workers", "dead_letters", "jobs", "journals"},
            ),
            (Settings(), {"queue", "workers", "journals"}),
            (
                Settings(database_url="sqlite:///x.db", celery_enabled=False),
                {"dead_letters", "jobs", "journals"},
            ),
        ],
    )
    def test_what_the_settings_do_not_name_is_not_asked(self, settings: Settings, parts: set[str]) -> None:
        """A machine of hosts may not even reach the database; the table of the entries is asked nothing."""
        assert set(SystemCollector(settings)._asking._reads) == parts


def read(name: str, settings: Settings) -> dict[str, float]:
    """The samples of one part, without the prefix of all names."""
    found: Facts = {}
    facts.PARTS[name](settings, found)
    metrics = system_metrics._METRICS[name](found, settings)
    return {key.removeprefix(NAME): value for key, value in samples(metrics).items()}


class TestBroker:
    """What a Redis says; the integration tests ask a real one."""

    @pytest.fixture
    def redis(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Replaces the broker."""

        def replace(*, may_ask: bool, length: QueueLength = LENGTH) -> None:
            monkeypatch.setattr(facts, "open_channel", FakeRedis(may_ask=may_ask).open)
            monkeypatch.setattr(facts, "measure_queue", lambda *_: length)

        return replace

    def test_queue_and_memory(self, redis: Callable[..., None]) -> None:
        """Without what Redis itself does not count when it refuses a write."""
        redis(may_ask=True)
        found = read("queue", Settings(queue_max_messages=7))
        assert found.pop("queue_oldest_age_seconds") > 200_000_000, "since 2020"
        assert found == {
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
        found = read("queue", Settings())
        assert found["queue_messages"] == 3
        assert not any("memory" in name for name in found)

    def test_a_broker_that_tells_nothing_but_a_length(self, redis: Callable[..., None]) -> None:
        """What is not known is absent, and not 0."""
        redis(may_ask=False, length=QueueLength(3))
        assert set(read("queue", Settings())) == {"queue_messages", "queue_limit_messages"}


class TestTables:
    """What the database says."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        """A SQLite file."""
        return Settings(database_url=f"sqlite:///{tmp_path / 'logs.db'}")

    @pytest.fixture(autouse=True)
    def tables(self, tmp_path: Path) -> None:
        """The tables, with a dead letter."""

        async def run() -> None:
            async with SqliteSite(tmp_path / "logs.db") as site:
                make_tables(site.path)
                await site.write(encoded(id=...), encoded())

        asyncio.run(run())

    @staticmethod
    def execute(path: Path, script: str) -> None:
        """Change them."""
        with closing(sqlite3.connect(path / "logs.db")) as connection:
            connection.executescript(script)

    def test_dead_letters(self, settings: Settings) -> None:
        """How many there are."""
        assert read("dead_letters", settings) == {"dead_letters": 1}

    def test_jobs(self, settings: Settings, tmp_path: Path) -> None:
        """One that has never succeeded says 0; one that an earlier version had says nothing."""
        self.execute(
            tmp_path,
            "UPDATE execution_log_job_runs SET succeeded_at = '2026-11-22 02:00:00.000000' "
            "WHERE name = 'retention'; "
            "INSERT INTO execution_log_job_runs "
            "(name, known_since, summary, slices, interruptions, past_runs) "
            "SELECT 'report', known_since, summary, slices, interruptions, past_runs "
            "FROM execution_log_job_runs WHERE name = 'health'",
        )
        name = "job_last_success_timestamp_seconds"
        assert read("jobs", settings) == {
            f'{name}{{name="health"}}': 0,
            f'{name}{{name="statistics"}}': 0,
            f'{name}{{name="retention"}}': 1795312800,
        }

    @pytest.mark.parametrize(("part", "table"), [("dead_letters", "dead_letters"), ("jobs", "job_runs")])
    def test_missing_tables_are_an_error(
        self, settings: Settings, tmp_path: Path, part: str, table: str
    ) -> None:
        """Which says what to do."""
        self.execute(tmp_path, f"DROP TABLE execution_log_{table}")
        with pytest.raises(StoreUnavailableError, match="execution-logger db upgrade"):
            read(part, settings)


class TestJournals:
    """What is on the disk of this machine."""

    @staticmethod
    def read(folder: Path) -> dict[str, float]:
        """The samples, without the prefix of all names."""
        return read("journals", Settings(journal_directory=str(folder)))

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

        def refuse(folder: Path) -> None:
            raise PermissionError(13, "Permission denied", str(folder))

        monkeypatch.setattr(survey, "own_folders", refuse)
        with pytest.raises(JournalUnreadableError, match=f"{tmp_path} cannot be read: Permission denied"):
            self.read(tmp_path)
