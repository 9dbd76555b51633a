"""The status: what each part of a site says, asked all at once, and none of them for long."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any

from execution_logger.broker.depth import queue_length
from execution_logger.errors import ExecutionLoggerError
from execution_logger.journal import find_destination
from execution_logger.journal.directory import state_directory
from execution_logger.journal.survey import DestinationSummary, survey
from execution_logger.operate.workers import workers_online
from execution_logger.read.overview import read_overview
from execution_logger.settings import Settings
from execution_logger.store.engine import create_engine
from execution_logger.text import public_url
from execution_logger.worker.job_status import JobStatus, read_jobs

ANSWER_SECONDS = 5.0
"""How long an answer is waited for; the attempts of the parts themselves are shorter."""

Facts = dict[str, Any]
Read = Callable[[Facts], None]
"""Puts what a part says into the facts, one by one; raises `ExecutionLoggerError` where it says nothing."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one part says, and why it does not say more."""

    facts: Facts
    error: str | None = None


class Asking:
    """Asks parts again and again, each in a thread of its own.

    A part that hangs delays no other, and is not asked once more before it has answered. The threads
    do not keep the process from ending.

    Args:
        reads: how to ask each part, by its name.
        answer_seconds: how long all answers are waited for.
    """

    def __init__(self, reads: Mapping[str, Read], answer_seconds: float = ANSWER_SECONDS) -> None:
        self._reads = reads
        self._answer_seconds = answer_seconds
        self._under_way: dict[str, _Question] = {}

    def ask(self) -> dict[str, Part]:
        """Ask every part. Of one that does not answer in time there is what it has said so far."""
        for name, read in self._reads.items():
            if name not in self._under_way:
                self._under_way[name] = _Question(name, read)
        until = time.monotonic() + self._answer_seconds
        return {name: self._answer(name, until) for name in self._reads}

    def _answer(self, name: str, until: float) -> Part:
        question = self._under_way[name]
        question.thread.join(max(0.0, until - time.monotonic()))
        if question.thread.is_alive():
            seconds = time.monotonic() - question.asked_at
            return Part(dict(question.facts), f"no answer for {seconds:.0f} s")
        del self._under_way[name]
        if question.failure is not None:
            raise question.failure
        return Part(question.facts, question.error)


@dataclass
class _Question:
    """One part, asked once."""

    name: str
    read: Read
    facts: Facts = field(default_factory=dict)
    error: str | None = None
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.asked_at = time.monotonic()
        # A daemon: a part that hangs for good must not keep the command from ending.
        self.thread = threading.Thread(target=self._run, name=f"status-{self.name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.read(self.facts)
        except ExecutionLoggerError as error:
            self.error = str(error)
        except BaseException as failure:  # noqa: BLE001 - raised where it is asked for
            self.failure = failure


_ATTEMPT_SHARE = 0.4
_NOT_USED = "not used: CELERY_ENABLED=false"


class JournalUnreadableError(ExecutionLoggerError):
    """The journals of this machine cannot be looked through."""


class StatusReader:
    """Asks every part, again and again if need be; each time takes a few seconds at most.

    Args:
        settings: name all parts.
        answer_seconds: how long all answers are waited for.
    """

    def __init__(self, settings: Settings, answer_seconds: float = ANSWER_SECONDS) -> None:
        # An attempt ends before it is given up here, so that the error is its own.
        attempt_seconds = min(_ATTEMPT_SHARE * answer_seconds, settings.database_timeout_seconds)
        settings = replace(settings, database_timeout_seconds=attempt_seconds)
        without = () if settings.celery_enabled else ("workers",)
        self._asking = Asking(
            {name: partial(read, settings) for name, read in PARTS.items() if name not in without},
            answer_seconds,
        )

    def read(self) -> dict[str, Part]:
        """The parts by their names; `unwritten` is made of `journal` and `broker`."""
        parts = self._asking.ask()
        return {"unwritten": _unwritten(parts), **parts}


def _read_journal(settings: Settings, facts: Facts) -> None:
    """What processes of this machine and user keep for this destination, and for others."""
    directory, own = state_directory(settings), find_destination(settings).folder
    facts |= {"directory": str(directory), "entries": 0, "size_bytes": 0, "processes": 0, "oldest": None}
    facts |= {"other_destinations": 0, "damaged_lines": 0}
    try:
        for destination in survey(directory):
            facts["damaged_lines"] += destination.damaged_lines
            if destination.folder == own:
                facts |= _summed_up(destination)
            else:
                facts["other_destinations"] += sum(journal.entries for journal in destination.journals)
    except OSError as error:
        reason = error.strerror or error
        raise JournalUnreadableError(f"{error.filename or directory} cannot be read: {reason}") from error


def _summed_up(destination: DestinationSummary) -> Facts:
    waiting = [journal for journal in destination.journals if journal.entries]
    return {
        "entries": sum(journal.entries for journal in waiting),
        "size_bytes": sum(journal.size_bytes for journal in destination.journals),
        "processes": len(waiting),
        "oldest": min((journal.oldest_at for journal in waiting if journal.oldest_at), default=None),
    }


def _read_broker(settings: Settings, facts: Facts) -> None:
    if not settings.celery_enabled:
        facts["state"] = _NOT_USED
        return
    facts |= {"url": public_url(settings.broker_url), "queue": settings.queue}
    facts |= asdict(queue_length(settings))


def _read_workers(settings: Settings, facts: Facts) -> None:
    facts["online"] = workers_online(settings)


def _read_database(settings: Settings, facts: Facts) -> None:
    settings.require_database("status")
    asyncio.run(_read_tables(settings, facts))


async def _read_tables(settings: Settings, facts: Facts) -> None:
    engine = create_engine(settings, pool_size=1)
    url = public_url(engine.url.render_as_string(hide_password=True), user="***@")
    facts |= {"url": url, "table": settings.table}
    try:
        await read_overview(engine, settings, facts)
    finally:
        await engine.dispose()


def _read_jobs(settings: Settings, facts: Facts) -> None:
    settings.require_database("status")
    for job in asyncio.run(_job_statuses(settings)):
        facts[job.job.name] = job.problem or job.run.succeeded_at or job.state


async def _job_statuses(settings: Settings) -> list[JobStatus]:
    engine = create_engine(settings, pool_size=1)
    try:
        return await read_jobs(engine, settings)
    finally:
        await engine.dispose()


PARTS: Mapping[str, Callable[[Settings, Facts], None]] = MappingProxyType(
    {
        "journal": _read_journal,
        "broker": _read_broker,
        "workers": _read_workers,
        "database": _read_database,
        "jobs": _read_jobs,
    }
)
"""How to ask each part, in the order in which they are shown: from the call to the row."""


def _unwritten(parts: Mapping[str, Part]) -> Part:
    """The age of the oldest entry that is on its way, as far as this machine can tell."""
    known = [parts[name].facts.get(fact) for name, fact in (("journal", "oldest"), ("broker", "oldest"))]
    oldest = min((moment for moment in known if moment is not None), default=None)
    age_seconds = None if oldest is None else max(0.0, (datetime.now(UTC) - oldest).total_seconds())
    silent = [name for name in ("journal", "broker") if parts[name].error is not None]
    error = f"not all is known: see {' and '.join(silent)}" if silent else None
    return Part({"oldest": oldest, "age_seconds": age_seconds}, error)
