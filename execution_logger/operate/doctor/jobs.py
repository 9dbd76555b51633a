"""The scheduled jobs: whether Beat sends them, and what became of them."""

from collections.abc import Sequence

from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncConnection

from execution_logger.operate.doctor.finding import Finding, warning
from execution_logger.operate.doctor.tables import may
from execution_logger.settings import PREFIX, Settings
from execution_logger.store.job_runs import job_run_table
from execution_logger.worker.job_status import JobStatus, job_statuses


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
        warning(
            "database.jobs",
            f"job {each.job.name}: {each.problem}",
            f"execution-logger jobs run {each.job.name}",
        )
        for each in jobs
        if each.problem and not each.is_late
    ]
    if late := [each for each in jobs if each.is_late]:
        since = min(each.next_at for each in late if each.next_at is not None)
        variable = f"{PREFIX}{late[0].job.setting.upper()}"
        names = ", ".join(each.job.name for each in late)
        findings.append(
            warning(
                "database.jobs",
                f"jobs that are late, the first since {since:%Y-%m-%d %H:%M} UTC: {names}",
                f"start execution-logger beat and a worker; or switch off what is not needed: {variable}=off",
            )
        )
    return findings
