"""The health check: whether all parts do what they are for, with a reason for each that does not."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from execution_logger.broker.queue import BrokerUnavailableError, QueueLength, queue_length
from execution_logger.diagnostics import logger
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.overview import Overview, overview
from execution_logger.settings import Settings
from execution_logger.store.compaction import AT_REST_AFTER, compact
from execution_logger.store.deletion import days_kept
from execution_logger.store.schema import dead_letter_table
from execution_logger.store.table import look_up_table
from execution_logger.worker.job_status import job_statuses

if TYPE_CHECKING:  # the jobs know what each does
    from execution_logger.worker.jobs import Tick

OK = "ok"
DEGRADED = "degraded"

MOST_WAITING_SECONDS = 300.0
"""An entry that waits longer in the queue is a reason: the workers do not keep up."""

MOST_QUEUE_SHARE = 0.5
"""Of the queue's limit: when it is reached, hosts hold their entries back."""

RETENTION_GRACE_DAYS = 2
"""The oldest entry may be so much older than the limit: the job comes once a day."""

_DEAD_LETTER_HOURS = 24

_LENGTHS = ("waiting", "in_flight", "quarantined")
"""Of the queue, in the summary: that is JSON, and has no times."""

_COMPACTED_SPAN = timedelta(days=2)


async def check_health(tick: "Tick") -> bool:
    """Look at each part once, and note what was found; what is wrong is the finding, and no failure.

    Raises:
        StoreUnavailableError: the database cannot be used now: there is no place to note it.
    """
    settings, now = tick.settings, tick.now
    reasons = await _check_broker(tick)
    reasons += await _check_tables(tick)
    reasons += await _compact(tick)
    async with tick.connection() as connection:
        letters = dead_letter_table(settings).c
        is_new = letters.created_at > now - timedelta(hours=_DEAD_LETTER_HOURS)
        new = (await connection.execute(select(func.count()).where(is_new))).scalar_one()
        statuses = await job_statuses(connection, settings)
    if new:
        reasons.append(f"{new:,} new dead letters in {_DEAD_LETTER_HOURS} hours: execution-logger dead list")
    others = [each for each in statuses if each.job.name != tick.run.name]
    reasons += [f"job {each.job.name}: {each.problem}" for each in others if each.problem]
    tick.summary["missed"] = [each.job.name for each in others if each.is_missed]
    _conclude(tick, reasons)
    return True


async def _check_tables(tick: "Tick") -> list[str]:
    """A large table of the host's without an index on the time cannot be looked at in time."""
    try:
        found = await overview(tick.engine, tick.settings)
        async with tick.connection() as connection:
            days = days_kept(tick.settings, await look_up_table(connection, tick.settings))
    except StoreUnavailableError as error:
        return [f"the tables cannot be looked at: {error}"]
    tick.summary |= {"rows": found.rows, "dead_letters": found.dead_letters}
    tick.summary["oldest"] = found.oldest and found.oldest.isoformat(timespec="seconds")
    return _age_reasons(found, days, tick.now)


async def _compact(tick: "Tick") -> list[str]:
    """Keep the ledger small; what has piled up before, the retention merges."""
    try:
        until = tick.now - AT_REST_AFTER
        since = tick.now - _COMPACTED_SPAN
        async for _ in compact(tick.engine, tick.settings, until, since, timeout_seconds=tick.limit_seconds):
            if not tick.has_time():
                break
    except StoreUnavailableError as error:
        return [f"the ledger grows: {error}"]
    return []


async def _check_broker(tick: "Tick") -> list[str]:
    """The broker is asked in a thread: its client blocks."""
    settings = tick.settings
    if not settings.celery_enabled:
        return []
    try:
        length = await asyncio.to_thread(queue_length, settings, tick.app)
    except BrokerUnavailableError as error:
        tick.summary["broker"] = "unavailable"
        return [f"the broker does not answer: {error}"]
    waits_seconds = max(0.0, tick.now.timestamp() - length.sent_at) if length.sent_at else 0.0
    lengths = {name: getattr(length, name) for name in _LENGTHS}
    tick.summary |= {"broker": OK, **lengths, "oldest_waiting_seconds": round(waits_seconds, 1)}
    return _queue_reasons(settings, length, waits_seconds)


def _queue_reasons(settings: Settings, length: QueueLength, waits_seconds: float) -> list[str]:
    reasons = []
    if length.waiting > settings.queue_max_messages * MOST_QUEUE_SHARE:
        reasons.append(
            f"{length.waiting:,} messages wait, and at {settings.queue_max_messages:,} hosts hold entries "
            "back: start more workers, or see what slows them down"
        )
    if waits_seconds > MOST_WAITING_SECONDS:
        reasons.append(f"the oldest message waits for {waits_seconds:,.0f} s: the workers do not keep up")
    if length.quarantined:
        reasons.append(f"{length.quarantined:,} messages were moved aside: execution-logger dead list")
    return reasons


def _age_reasons(found: Overview, days: int, now: datetime) -> list[str]:
    """Entries that are too old, whatever the jobs say of themselves."""
    if not days or found.oldest is None:
        return []
    too_old = now - timedelta(days=days + RETENTION_GRACE_DAYS)
    if found.oldest >= too_old:
        return []
    limit = f"although entries are kept for {days} days"
    return [f"the oldest entry is of {found.oldest:%Y-%m-%d}, {limit}: execution-logger jobs run retention"]


def _conclude(tick: "Tick", reasons: Sequence[str]) -> None:
    """Say it in the log as well, when it is not what the last check has found."""
    before: dict[str, Any] = dict(tick.run.past_runs[0]["summary"]) if tick.run.past_runs else {}
    tick.summary |= {"status": DEGRADED if reasons else OK, "reasons": list(reasons)}
    if reasons and before.get("status") != DEGRADED:
        logger.warning("health: %s", "; ".join(reasons))
    elif not reasons and before.get("status") == DEGRADED:
        logger.warning("health: all is well again")
