"""The status: where the entries are, from the call to the row, as plain values by their names."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from execution_logger.operate.asking import Facts, Part
from execution_logger.operate.facts import ask_for
from execution_logger.settings import Settings
from execution_logger.text import public_url

ANSWER_SECONDS = 5.0
"""How long an answer is waited for; the attempts of the parts themselves are shorter."""

_NOT_USED = "not used: CELERY_ENABLED=false"


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
    own, others = (
        [
            journal
            for each in facts["destinations"]
            if (each.folder == facts["own"]) == is_own
            for journal in each.journals
        ]
        for is_own in (True, False)
    )
    waiting = [journal for journal in own if journal.entries]
    told = {
        "directory": str(facts["directory"]),
        "entries": sum(journal.entries for journal in waiting),
        "size_bytes": sum(journal.size_bytes for journal in own),
        "processes": len(waiting),
        "oldest": min((journal.oldest_at for journal in waiting if journal.oldest_at), default=None),
        "other_destinations": sum(journal.entries for journal in others),
        "damaged_lines": sum(each.damaged_lines for each in facts["destinations"]),
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
