"""What each job does, on SQLite."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batches import BAD, encoded
from execution_logger.broker.queue import BrokerUnavailableError, QueueLength
from execution_logger.errors import ExecutionLoggerError
from execution_logger.store import upgrade
from execution_logger.worker import health, maintenance
from execution_logger.worker.job_status import JobStatus, read_jobs
from execution_logger.worker.jobs import Result, Runner
from execution_logger.worker.schedule import HEALTH, RETENTION, STATISTICS, Job
from sqlite_site import SqliteSite, make_tables


class Site(SqliteSite):
    """A SQLite file, an embedded broker, and a runner."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder / "logs.db", **{"broker_url": f"embedded://{folder / 'broker'}", **settings})
        self.is_stopping = False

    async def run(self, job: Job) -> Result:
        """A tick of it, though it may not be due."""
        runner = Runner(self.engine, self.settings, lambda: self.is_stopping)
        return await runner.run(job, is_by_hand=True)

    async def status(self, job: Job) -> JobStatus:
        """What operators are shown."""
        (status,) = [each for each in await read_jobs(self.engine, self.settings) if each.job is job]
        return status

    async def log(self, *ages: timedelta, **fields: Any) -> None:
        """An entry of each age."""
        now = datetime.now(UTC)
        await self.write(*(encoded(created_at=(now - age).isoformat(), **fields) for age in ages))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Tables without rows."""
    async with Site(tmp_path) as site:
        make_tables(site.path)
        yield site


def days(number: float) -> timedelta:
    """So many."""
    return timedelta(days=number)


class TestRetention:
    """Old rows of all tables."""

    async def test_what_is_too_old_is_deleted(self, site: Site) -> None:
        """Entries, batches of processes that ended, dead letters and statistics, and it says how many."""
        await site.log(days(100), days(91), days(89), days(0))
        await site.write(BAD["no level"])
        for process, age in (("ended", 100), ("living", 1)):
            site.execute(
                "INSERT INTO execution_log_batches "
                "(batch_id, process, first, entries, dead_lettered, stored_at) "
                f"VALUES ('{process}1', '{process}', 1, 5, 0, datetime('now', '-100 days')), "
                f"('{process}2', '{process}', 6, 5, 0, datetime('now', '-{age} days'))"
            )
        site.execute(
            "UPDATE execution_log_dead_letters SET created_at = datetime('now', '-95 days');"
            "INSERT INTO execution_log_statistics (hour, dimension, name, entries, errors, timed) "
            "VALUES (datetime('now', '-401 days'), 'all', '', 1, 0, 0), "
            "(datetime('now', '-399 days'), 'all', '', 1, 0, 0)"
        )
        result = await site.run(RETENTION)
        assert (result.outcome, result.run.error) == ("succeeded", None)
        done = {name: value for name, value in result.run.summary.items() if isinstance(value, int)}
        assert done == {
            "entries": 2,
            "batches": 1,
            "dead_letters": 1,
            "statistics": 1,
        }  # two batches had become one
        assert len(site.rows()) == 2
        left = site.rows("SELECT process FROM execution_log_batches")
        assert {row["process"] for row in left} == {"living"}

    async def test_it_stops_in_time_and_goes_on(self, site: Site) -> None:
        """With the same limit, although time passes."""
        await site.log(*[days(100)] * 3)
        site.is_stopping = True
        first = await site.run(RETENTION)
        assert (first.outcome, first.run.summary["entries"]) == ("unfinished", 3)
        await site.log(days(100))
        site.is_stopping = False
        second = await site.run(RETENTION)
        assert (second.outcome, second.run.summary["entries"]) == ("succeeded", 4)
        assert second.run.summary["before"] == first.run.summary["before"]

    async def test_switched_off_it_says_so(self, tmp_path: Path) -> None:
        """Nobody is to believe that it works."""
        async with Site(tmp_path, retention_days=0) as site:
            make_tables(site.path)
            await site.log(days(10_000))
            result = await site.run(RETENTION)
            assert result.outcome == "succeeded"
            assert result.run.summary["off"] == "EXECUTION_LOGGER_RETENTION_DAYS=0 keeps everything"
            assert len(site.rows()) == 1

    async def test_switched_off_it_bounds_the_ledger(self, tmp_path: Path) -> None:
        """By more than a year: each of many short processes leaves a row there."""
        async with Site(tmp_path, retention_days=0) as site:
            make_tables(site.path)
            for process, age in (("long gone", 401), ("gone", 399)):
                site.execute(
                    "INSERT INTO execution_log_batches "
                    "(batch_id, process, first, entries, dead_lettered, stored_at) "
                    f"VALUES ('{process}', '{process}', 1, 5, 0, datetime('now', '-{age} days'))"
                )
            assert (await site.run(RETENTION)).run.summary["batches"] == 1
            assert site.rows("SELECT process FROM execution_log_batches") == [{"process": "gone"}]

    @pytest.mark.parametrize(("retention_days", "left"), [(None, 2), (0, 2), (90, 1)])
    async def test_a_table_of_the_hosts_is_deleted_from_when_that_was_asked_for(
        self, tmp_path: Path, retention_days: int | None, left: int
    ) -> None:
        """Its old rows were there before us; neither job takes them for too old."""
        async with Site(tmp_path, retention_days=retention_days, celery_enabled=False) as site:
            site.execute(
                "CREATE TABLE execution_logs (id CHAR(36) PRIMARY KEY, task_id TEXT, level TEXT, "
                "category TEXT, message TEXT, details JSON, created_at DATETIME)"
            )
            await upgrade(site.engine, site.settings)
            await site.log(days(1000), days(1))
            summary = (await site.run(HEALTH)).run.summary
            assert any("is of" in reason for reason in summary["reasons"]) == (left == 1)
            summary = (await site.run(RETENTION)).run.summary
            assert ("is set" in summary.get("off", "")) == (retention_days is None)
            assert len(site.rows()) == left

    async def test_rows_that_stay_are_a_failure(self, site: Site) -> None:
        """That names the cause, in the list of the jobs and in the health."""
        await site.log(days(100))
        site.execute("CREATE TRIGGER t BEFORE DELETE ON execution_logs BEGIN SELECT RAISE(IGNORE); END")
        result = await site.run(RETENTION)
        assert result.outcome == "failed"
        assert "should be deleted, and the database leaves them there" in str(result.run.error)
        reasons = (await site.run(HEALTH)).run.summary["reasons"]
        assert any("job retention: it failed" in reason for reason in reasons)
        assert any("although entries are kept for 90 days" in reason for reason in reasons)

    async def test_a_missing_index_is_named(self, site: Site) -> None:
        """It is slow without one."""
        site.execute("DROP INDEX ix_execution_logs_created_at")
        summary = (await site.run(RETENTION)).run.summary
        assert "CREATE INDEX CONCURRENTLY ON execution_logs (created_at)" in summary["advice"]


class TestStatistics:
    """Hours that are over."""

    async def test_missed_hours_are_counted(self, site: Site) -> None:
        """From the first entry on; the next time only the last ones, again."""
        await site.log(timedelta(hours=30), timedelta(hours=2))
        result = await site.run(STATISTICS)
        assert (result.outcome, result.run.summary["hours"]) == ("succeeded", 30)
        rows = site.rows("SELECT * FROM execution_log_statistics WHERE dimension = 'all' ORDER BY hour")
        assert (len(rows), sum(row["entries"] for row in rows)) == (30, 2)
        await site.log(timedelta(hours=2), timedelta(hours=25))
        assert (await site.run(STATISTICS)).run.summary["hours"] == 3
        again = site.rows("SELECT * FROM execution_log_statistics WHERE dimension = 'all' ORDER BY hour")
        assert len(again) == 30
        assert sum(row["entries"] for row in again) == 3, "what came a day late is not counted"

    async def test_the_first_time_it_goes_back_some_days(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A week and the one before: a table of years would take a day."""
        assert maintenance.FIRST_DAYS == 15
        monkeypatch.setattr(maintenance, "FIRST_DAYS", 2)
        await site.log(days(400))
        assert (await site.run(STATISTICS)).run.summary["hours"] == 2 * 24

    async def test_it_stops_in_time_and_goes_on(self, site: Site) -> None:
        """Hour by hour."""
        await site.log(timedelta(hours=2, minutes=1))
        site.is_stopping = True
        outcomes = [(await site.run(STATISTICS)).outcome for _ in range(2)]
        assert outcomes[0] == "unfinished"
        assert outcomes[-1] in ("unfinished", "succeeded")

    async def test_an_empty_table_is_counted_too(self, site: Site) -> None:
        """One hour, without entries."""
        assert (await site.run(STATISTICS)).run.summary["hours"] == 1


class TestHealth:
    """What is wrong, and what to do."""

    @pytest.fixture(autouse=True)
    def _broker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.length: Any = QueueLength(0, 0, 0)
        self.sent_at: float | None = None

        def queue_length(*_: object) -> QueueLength:
            if isinstance(self.length, Exception):
                raise self.length
            found: QueueLength = replace(self.length, sent_at=self.sent_at)
            return found

        monkeypatch.setattr(health, "queue_length", queue_length)

    async def reasons(self, site: Site) -> list[str]:
        """What a check finds."""
        result = await site.run(HEALTH)
        assert (result.outcome, result.run.error) == ("succeeded", None)
        found: list[str] = result.run.summary["reasons"]
        assert result.run.summary["status"] == ("degraded" if found else "ok")
        return found

    async def test_the_ledger_stays_small(self, site: Site) -> None:
        """What is at rest of the last days is merged, each time; what is older the retention merges."""
        ages = ("-3 days', 'start of day", "-1 days', 'start of day", "-1 minutes")
        for number, age in enumerate((*ages, *ages)):
            place = 2 * (number % 3) + number // 3
            site.execute(
                "INSERT INTO execution_log_batches "
                "(batch_id, process, first, entries, dead_lettered, stored_at) "
                f"VALUES ('b{number}', 'p', {1 + 5 * place}, 5, 0, datetime('now', '{age}'))"
            )
        sizes = "SELECT entries FROM execution_log_batches ORDER BY first"
        for job, expected in ((HEALTH, (5, 5, 10, 5, 5)), (RETENTION, (10, 10, 5, 5))):
            assert (await site.run(job)).outcome == "succeeded"
            assert tuple(row["entries"] for row in site.rows(sizes)) == expected

    async def test_all_is_well(self, site: Site) -> None:
        """With the figures."""
        await site.log(days(1))
        assert await self.reasons(site) == []
        summary = (await site.status(HEALTH)).run.summary
        assert (summary["rows"], summary["dead_letters"], summary["broker"]) == (1, 0, "ok")

    @pytest.mark.parametrize(
        ("length", "waits_seconds", "reason"),
        [
            (BrokerUnavailableError("redis://host: refused"), 0, "the broker does not answer: redis://host"),
            (QueueLength(5001, 0, 0), 0, "5,001 messages wait, and at 10,000 hosts hold entries back"),
            (QueueLength(10, 0, 0), 400, "the oldest message waits for 4"),
            (QueueLength(0, 0, 3), 0, "3 messages were moved aside: execution-logger dead list"),
        ],
    )
    async def test_the_queue(self, site: Site, length: Any, waits_seconds: float, reason: str) -> None:
        """Each kind of trouble has its own words."""
        self.length = length
        self.sent_at = datetime.now(UTC).timestamp() - waits_seconds
        (found,) = await self.reasons(site)
        assert reason in found

    async def test_new_dead_letters(self, site: Site) -> None:
        """Those of yesterday were seen yesterday."""
        await site.write(BAD["no level"])
        (found,) = await self.reasons(site)
        assert found == "1 new dead letters in 24 hours: execution-logger dead list"
        site.execute("UPDATE execution_log_dead_letters SET created_at = datetime('now', '-2 days')")
        assert await self.reasons(site) == []

    async def test_entries_that_retention_should_have_deleted(self, site: Site) -> None:
        """Whatever that job says of itself; a day or two may pass until it comes."""
        await site.log(days(91.9))
        assert await self.reasons(site) == []
        await site.log(days(92.1))
        (found,) = await self.reasons(site)
        assert "although entries are kept for 90 days: execution-logger jobs run retention" in found

    async def test_a_table_that_cannot_be_looked_at(self, site: Site) -> None:
        """It is a reason like the others: the jobs are looked after all the same."""
        self.length = QueueLength(3, 0, 0, oldest=datetime.now(UTC))
        site.execute("ALTER TABLE execution_logs RENAME TO elsewhere")
        (found,) = await self.reasons(site)
        assert found.startswith('the tables cannot be looked at: Table "execution_logs" does not exist')
        assert (await site.status(HEALTH)).run.summary["waiting"] == 3

    async def test_jobs_that_are_late_are_sent(self, site: Site) -> None:
        """Beat was away when they were due, or they were never sent."""
        assert await self.reasons(site) == []
        site.execute("UPDATE execution_log_job_runs SET known_since = datetime('now', '-3 days')")
        reasons = await self.reasons(site)
        assert [reason for reason in reasons if reason.startswith("job retention: it is late since")]
        assert "retention" in (await site.status(HEALTH)).run.summary["missed"]
        assert (await site.status(RETENTION)).is_missed

    async def test_jobs_that_are_off_are_never_late(self, tmp_path: Path) -> None:
        """Nobody waits for them."""
        async with Site(tmp_path, schedule_retention="off") as site:
            make_tables(site.path)
            site.execute("UPDATE execution_log_job_runs SET known_since = datetime('now', '-30 days')")
            reasons = await self.reasons(site)
            assert [reason.partition(":")[0] for reason in reasons] == ["job statistics"]

    async def test_a_job_that_is_not_finished_is_sent(self, site: Site) -> None:
        """Whether more is left or its worker was killed; neither is a reason by itself."""
        site.execute(
            "UPDATE execution_log_job_runs SET started_at = datetime('now', '-2 minutes'), "
            "held_until = datetime('now', '-1 minutes') WHERE name = 'statistics'"
        )
        assert await self.reasons(site) == []
        assert (await site.status(HEALTH)).run.summary["missed"] == ["statistics"]

    async def test_the_log_is_told_of_changes_only(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Not every five minutes."""
        with caplog.at_level(logging.INFO, "execution_logger"):
            for length in (0, 6000, 6000, 0, 0):
                self.length = QueueLength(length, 0, 0)
                await self.reasons(site)
        assert [record.message.partition(",")[0] for record in caplog.records] == [
            "health: 6",
            "health: all is well again",
        ]


async def test_a_database_that_is_away_is_an_error_of_ours(tmp_path: Path) -> None:
    """Which the task logs: there is no place to note it."""
    async with Site(tmp_path / "missing") as site:
        with pytest.raises(ExecutionLoggerError, match="cannot be used now"):
            await site.run(HEALTH)
