"""The scheduled jobs: whether Beat sends them, and what became of them."""

from collections.abc import Sequence

from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncConnection

from execution_logger.operate.doctor.finding import Finding, warning
from execution_logger.operate.doctor.tables import may
from execution_logger.settings import PREFIX, Settings
from execution_logger.store.job_runs import job_run_table
from execution_logger.worker.jobs.job import JOBS
from execution_logger.worker.jobs.status import JobStatus, job_statuses


async def examine_jobs(connection: AsyncConnection, settings: Settings) -> list[Finding]:
    """Look at their rows, where there are any that this user may read."""
    table = job_run_table(settings)
    exists = await connection.run_sync(lambda sync: inspect(sync).has_table(table.name, table.schema))
    # Without Celery there is neither Beat nor a worker.
    if not exists or not settings.celery_enabled or not await may(connection, table, "SELECT"):
        return []
    return judge_jobs(await job_statuses(connection, settings))


def judge_jobs(jobs: Sequence[JobStatus]) -> list[Finding]:
    """Late ones have one cause, each of the failed ones its own."""
    findings = [
        warning("database.jobs", f"job {job.name}: {job.problem}", f"execution-logger jobs run {job.name}")
        for job in jobs
        if job.problem and not _is_late(job)
    ]
    if late := [job for job in jobs if _is_late(job)]:
        since = min(job.next_at for job in late if job.next_at is not None)
        variable = f"{PREFIX}{JOBS[late[0].name].setting.upper()}"
        names = ", ".join(job.name for job in late)
        findings.append(
            warning(
                "database.jobs",
                f"jobs that are late, the first since {since:%Y-%m-%d %H:%M} UTC: {names}",
                f"start execution-logger beat and a worker; or switch off what is not needed: {variable}=off",
            )
        )
    return findings


def _is_late(job: JobStatus) -> bool:
    return job.is_missed and job.state != "interrupted"
