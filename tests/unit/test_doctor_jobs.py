"""What the doctor makes of the scheduled jobs."""

from datetime import UTC, datetime
from typing import Any

from execution_logger.operate.doctor.jobs import judge_jobs
from execution_logger.worker.jobs.status import JobStatus

AT = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


def job(name: str, **changes: Any) -> JobStatus:
    """One that is all right."""
    facts: dict[str, Any] = {
        "name": name, "meaning": "", "schedule": "* * * * *", "state": "succeeded", "started_at": AT,
        "finished_at": AT, "succeeded_at": AT, "duration_seconds": 0.0, "summary": {}, "error": None,
        "next_at": AT, "is_missed": False, "problem": None, "past_runs": [],
    }  # fmt: skip
    return JobStatus(**facts | changes)


def test_jobs_that_run_are_no_finding() -> None:
    """Nor are those that have not been due yet."""
    assert judge_jobs([job("health"), job("retention", state="never")]) == []


def test_jobs_that_nobody_sends_are_one_finding() -> None:
    """Beat is missing; who does not want it switches them off."""
    late = {"is_missed": True, "problem": "it is late", "state": "never"}
    (finding,) = judge_jobs([job("health", **late), job("statistics"), job("retention", **late)])
    assert finding.what == "jobs that are late, the first since 2026-11-22 09:30 UTC: health, retention"
    assert "execution-logger beat" in finding.advice
    assert "EXECUTION_LOGGER_SCHEDULE_HEALTH=off" in finding.advice


def test_each_job_that_failed_is_a_finding() -> None:
    """With its reason, and how to run it again."""
    failed = job("retention", state="failed", problem="it failed: permission denied")
    lost = job("report", state="interrupted", is_missed=True, problem="its worker was lost")
    first, second = judge_jobs([failed, lost])
    assert first.what == "job retention: it failed: permission denied"
    assert first.advice == "execution-logger jobs run retention"
    assert "its worker was lost" in second.what
