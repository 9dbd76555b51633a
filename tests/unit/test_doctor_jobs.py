"""What the doctor makes of the scheduled jobs."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from execution_logger.operate.doctor.database import judge_jobs
from execution_logger.store.job_runs import JobRun
from execution_logger.worker.job_status import JobStatus
from execution_logger.worker.schedule import JOBS

AT = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


def job(name: str, *, error: str | None = None, **changes: Any) -> JobStatus:
    """One that is all right."""
    run = replace(JobRun.never(name, AT), error=error)
    facts: dict[str, Any] = {"state": "succeeded", "schedule": "* * * * *", "next_at": AT, "is_late": False}
    return JobStatus(JOBS[name], run, **facts | changes)


def test_jobs_that_run_are_no_finding() -> None:
    """Nor are those that have not been due yet."""
    assert judge_jobs([job("health"), job("retention", state="never")]) == []


def test_jobs_that_nobody_sends_are_one_finding() -> None:
    """Beat is missing; who does not want it switches them off."""
    late: dict[str, Any] = {"is_late": True, "state": "never"}
    (finding,) = judge_jobs([job("health", **late), job("statistics"), job("retention", **late)])
    assert finding.what == "jobs that are late, the first since 2026-11-22 09:30 UTC: health, retention"
    assert "execution-logger beat" in finding.advice
    assert "EXECUTION_LOGGER_SCHEDULE_HEALTH=off" in finding.advice


def test_each_job_that_failed_is_a_finding() -> None:
    """With its reason, and how to run it again."""
    failed = job("retention", state="failed", error="permission denied")
    (finding,) = judge_jobs([failed, job("statistics", state="unfinished")])
    assert finding.what == "job retention: it failed: permission denied"
    assert finding.advice == "execution-logger jobs run retention"
