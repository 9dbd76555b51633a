"""The facts of a site: what journals, queue, workers and tables say, asked at once and none for long.

They are asked for here only; `status`, `health`, the exporter and the doctor show the same ones.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.broker.queue import is_redis, measure_queue, open_channel
from execution_logger.delivery.database import ThreadLoop
from execution_logger.errors import ExecutionLoggerError
from execution_logger.journal import find_destination
from execution_logger.journal.directory import state_directory
from execution_logger.journal.survey import survey
from execution_logger.operate.asking import Asking, Facts, Part
from execution_logger.read.overview import count_dead_letters, read_overview
from execution_logger.settings import Settings
from execution_logger.store.engine import create_engine
from execution_logger.store.faults import attempt
from execution_logger.store.table import look_up_table
from execution_logger.text import public_url
from execution_logger.worker.inspection import workers_online
from execution_logger.worker.job_status import read_jobs

ANSWER_SECONDS = 5.0
"""How long the status waits for an answer; the attempts of the parts themselves are shorter."""

_OF_CELERY = ("queue", "workers")
_ATTEMPTS = {"tables": 2}  # one that takes too long leaves time for another one
_ATTEMPT_SHARE = 0.85
_NOT_USED = "not used: CELERY_ENABLED=false"

_T = TypeVar("_T")


class JournalUnreadableError(ExecutionLoggerError):
    """The journals of this machine cannot be looked through."""


def _read_journals(settings: Settings, facts: Facts) -> None:
    """The `destinations` of this machine and user, and which of them is the `own` one."""
    directory = state_directory(settings)
    facts |= {"directory": directory, "own": find_destination(settings).folder, "destinations": ()}
    try:
        for destination in survey(directory):
            facts["destinations"] += (destination,)
    except OSError as error:
        reason = error.strerror or error
        raise JournalUnreadableError(f"{error.filename or directory} cannot be read: {reason}") from error


def _read_queue(settings: Settings, facts: Facts) -> None:
    """The `length` of the queue; of a Redis that tells it also the `memory` that it has used, and may use."""
    with open_channel(settings) as channel:
        facts["length"] = measure_queue(channel, settings)
        facts["memory"] = _memory(channel) if is_redis(channel) else None


def _memory(channel: Any) -> tuple[int, int] | None:
    """What Redis compares itself when it refuses a write; None where this user may not ask."""
    try:
        found = channel.client.info("memory")
    except channel.ResponseError:
        return None
    if "used_memory" not in found:  # a server that is like Redis, but for this
        return None
    return found["used_memory"] - found.get("mem_not_counted_for_evict", 0), found.get("maxmemory", 0)


def _read_workers(settings: Settings, facts: Facts) -> None:
    """The names of those that take from the queue."""
    facts["online"] = workers_online(settings)


def _read_tables(settings: Settings, facts: Facts) -> None:
    """The database, and what there is in its tables."""

    async def read(engine: AsyncEngine) -> None:
        url = public_url(engine.url.render_as_string(hide_password=True), user="***@")
        facts.update(url=url, table=settings.table)
        await read_overview(engine, settings, facts)

    _ask_database(settings, read)


def _read_table(settings: Settings, facts: Facts) -> None:
    """Whether the table of the entries can be used; counts nothing."""
    facts["table"] = _ask_connection(settings, partial(look_up_table, settings=settings)).table.name


def _read_dead_letters(settings: Settings, facts: Facts) -> None:
    facts["dead_letters"] = _ask_connection(settings, partial(count_dead_letters, settings=settings))


def _read_jobs(settings: Settings, facts: Facts) -> None:
    facts["jobs"] = _ask_database(settings, partial(read_jobs, settings=settings))


def _ask_connection(settings: Settings, read: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
    async def ask(engine: AsyncEngine) -> _T:
        async with attempt(engine, settings.database_timeout_seconds), engine.connect() as connection:
            return await read(connection)

    return _ask_database(settings, ask)


def _ask_database(settings: Settings, read: Callable[[AsyncEngine], Awaitable[_T]]) -> _T:
    settings.require_database("status")

    async def ask() -> _T:
        engine = create_engine(settings, pool_size=1)
        try:
            return await read(engine)
        finally:
            await engine.dispose()

    # Looking up a host may take longer than we wait, and the exit would wait for an executor's thread.
    with asyncio.Runner(loop_factory=ThreadLoop) as runner:
        return runner.run(ask())


PARTS: Mapping[str, Callable[[Settings, Facts], None]] = MappingProxyType(
    {
        "journals": _read_journals,
        "queue": _read_queue,
        "workers": _read_workers,
        "tables": _read_tables,
        "table": _read_table,
        "dead_letters": _read_dead_letters,
        "jobs": _read_jobs,
    }
)
"""How to ask each part, in the order of an entry's way."""


def ask_for(settings: Settings, names: Collection[str], answer_seconds: float) -> Asking:
    """What asks these of `PARTS`, as far as the settings name them."""
    reads = {}
    for name in names:
        # An attempt ends before it is given up there, so that the error is its own.
        seconds = _ATTEMPT_SHARE * answer_seconds / _ATTEMPTS.get(name, 1)
        seconds = min(seconds, settings.database_timeout_seconds)
        if settings.celery_enabled or name not in _OF_CELERY:
            reads[name] = partial(PARTS[name], replace(settings, database_timeout_seconds=seconds))
    return Asking(reads, answer_seconds)


class StatusReader:
    """Asks every part, again and again if need be; each time takes a few seconds at most.

    Args:
        settings: name all parts.
        answer_seconds: how long all answers are waited for.
    """

    def __init__(self, settings: Settings, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._settings = settings
        self._asking = ask_for(settings, ("journals", "queue", "workers", "tables", "jobs"), answer_seconds)

    def read(self) -> dict[str, Part]:
        """The parts by their names; `unwritten` is made of `journal` and `broker`."""
        found = self._asking.ask()
        parts = {
            "journal": _journal(found["journals"]),
            "broker": _broker(found.get("queue"), self._settings),
            **({"workers": found["workers"]} if "workers" in found else {}),
            "database": found["tables"],
            "jobs": _jobs(found["jobs"]),
        }
        return {"unwritten": _unwritten(parts), **parts}


def _journal(found: Part) -> Part:
    """What processes of this machine and user keep for this destination, and for others."""
    facts = found.facts
    if not facts:
        return found
    found_in = facts["destinations"]
    own = [journal for each in found_in if each.folder == facts["own"] for journal in each.journals]
    others = [journal for each in found_in if each.folder != facts["own"] for journal in each.journals]
    waiting = [journal for journal in own if journal.entries]
    told = {
        "directory": str(facts["directory"]),
        "entries": sum(journal.entries for journal in waiting),
        "size_bytes": sum(journal.size_bytes for journal in own),
        "processes": len(waiting),
        "oldest": min((journal.oldest_at for journal in waiting if journal.oldest_at), default=None),
        "other_destinations": sum(journal.entries for journal in others),
        "damaged_lines": sum(each.damaged_lines for each in found_in),
    }
    return Part(told, found.error)


def _broker(found: Part | None, settings: Settings) -> Part:
    if found is None:
        return Part({"state": _NOT_USED})
    facts: Facts = {"url": public_url(settings.broker_url), "queue": settings.queue}
    if "length" in found.facts:
        facts |= asdict(found.facts["length"])
        del facts["sent_at"]
    return Part(facts, found.error)


def _jobs(found: Part) -> Part:
    jobs = found.facts.get("jobs", ())
    return Part({job.job.name: job.problem or job.run.succeeded_at or job.state for job in jobs}, found.error)


def _unwritten(parts: Mapping[str, Part]) -> Part:
    """The age of the oldest entry that is on its way, as far as this machine can tell."""
    known = [parts[name].facts.get("oldest") for name in ("journal", "broker")]
    oldest = min((moment for moment in known if moment is not None), default=None)
    age_seconds = None if oldest is None else max(0.0, (datetime.now(UTC) - oldest).total_seconds())
    silent = [name for name in ("journal", "broker") if parts[name].error is not None]
    error = f"not all is known: see {' and '.join(silent)}" if silent else None
    return Part({"oldest": oldest, "age_seconds": age_seconds}, error)
