"""The probe: one entry by the way that all take, timed, and looked for where it got stuck."""

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from execution_logger.broker.depth import BrokerUnavailableError
from execution_logger.entry.entry import LogCategory, LogLevel
from execution_logger.errors import ExecutionLoggerError, StoreUnavailableError
from execution_logger.operate.doctor.database import unreachable as unreachable_database
from execution_logger.operate.doctor.finding import Finding, error, ok
from execution_logger.operate.doctor.overheard import Listener
from execution_logger.operate.doctor.read_back import ReadBack
from execution_logger.operate.doctor.whereabouts import Whereabouts, find_message, take_back
from execution_logger.settings import Settings
from execution_logger.shipping.process import Pipeline

MESSAGE = "execution-logger doctor --end-to-end"

_LOOK_SECONDS = 0.02
_BEGIN_SECONDS = 10.0
_STOP_SECONDS = 0.5


@dataclass(slots=True)
class Probe:
    """What became of it.

    Attributes:
        seconds: how long each leg took: `queue` from the call to the broker, `row` from there to the
            database, `confirmation` from there back to the host; without Celery `row` only.
        findings: where it got stuck, or that it did not.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def send_probe(settings: Settings, timeout_seconds: float) -> Probe:
    """Send an entry, wait for its row, read it back by its id, and delete it.

    Args:
        settings: those of a host that has the database's URL, too; without that only the
            confirmation is waited for.
        timeout_seconds: how long to wait for the row.
    """
    # The journal is not examined here, and an entry of nobody's run must not outlive this process.
    settings = replace(
        settings, journal=False, batch_size=1, fallback="keep", shutdown_timeout_seconds=_STOP_SECONDS
    )
    probe = Probe()
    ears = Listener(settings)
    pipeline = Pipeline(settings, ears.make_delivery)
    try:
        with ReadBack(settings) as rows:
            _Journey(settings, pipeline, rows, ears, probe, timeout_seconds).go()
    except StoreUnavailableError as problem:
        probe.findings.append(replace(unreachable_database(str(problem)), name="probe.database"))
    except ExecutionLoggerError as problem:
        probe.findings.append(error("probe.broker", str(problem), "see what is said of the broker"))
    finally:
        pipeline.at_exit()
    return probe


class _Journey:
    """The way of the entry, leg by leg."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        rows: ReadBack,
        ears: Listener,
        probe: Probe,
        timeout_seconds: float,
    ) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._rows = rows
        self._ears = ears
        self._probe = probe
        # What a host does while it starts is no part of the way.
        pipeline.begin().result(_BEGIN_SECONDS)
        # By its form a task's id of the host's, which its column may insist on.
        self._task_id = str(uuid4())
        self._entry, encoded = pipeline.make_entry(
            self._task_id, LogLevel.INFO, LogCategory.WORKFLOW, MESSAGE
        )
        self._leg_began_at = time.monotonic()
        self._deadline = self._leg_began_at + timeout_seconds
        pipeline.accept(encoded)

    def go(self) -> None:
        """Follow it; what is said of it is in the probe."""
        problem = self._deliver() or (self._wait_for_row() if self._rows.is_there else None)
        problem = problem or self._wait_for_confirmation()
        if problem is not None:
            self._probe.findings.append(problem)
            self._take_back()
        stays = self._delete_row()
        if problem is None:
            legs = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in self._probe.seconds.items())
            self._probe.findings.append(ok("probe.row", f"{self._news()} ({legs}){stays}"))

    def _news(self) -> str:
        """What is known in the end."""
        if self._rows.is_there:
            return "an entry was stored and read back"
        told = "confirmation" in self._probe.seconds
        return (
            "a worker has stored an entry" if told else "the broker took an entry, and nobody tells the rest"
        )

    def _delete_row(self) -> str:
        """Delete the row, or say which one stays."""
        stays = f"; its row stays: task_id {self._task_id}"
        if not self._rows.is_there:
            return stays
        process = self._pipeline.stats()["process"]
        return "" if not self._rows.has(self._entry) or self._rows.delete(self._entry, process) else stays

    def _take_back(self) -> None:
        """Leave nothing behind: what was not delivered may be in the queue, too, if the answer was lost."""
        with suppress(BrokerUnavailableError):
            if self._settings.celery_enabled:
                take_back(self._settings, self._task_id)

    def _deliver(self) -> Finding | None:
        """To the broker, or without Celery to the database."""
        report = self._pipeline.flush(self._seconds_left()).wait()
        if report.complete:
            self._end_leg("queue" if self._settings.celery_enabled else "row")
            return None
        return error(
            "probe.delivery",
            f"the entry did not leave this process: {report.last_error or 'no answer in time'}",
            "see what is said of the broker and the database; hosts keep their entries meanwhile",
        )

    def _wait_for_row(self) -> Finding | None:
        while not self._rows.has(self._entry):
            said = self._pipeline.stats()
            is_told = bool(said["stored"] or said["dead_lettered"])
            is_over = is_told or self._ears.held or not self._seconds_left()
            if is_over and not self._rows.has(self._entry):
                return self._why_no_row(said)
            # So that it asks for confirmations meanwhile; no longer, or it would outlive the probe.
            self._pipeline.flush(_LOOK_SECONDS, until_stored=True).wait()
        if self._settings.celery_enabled:
            self._end_leg("row")
        return None

    def _wait_for_confirmation(self) -> Finding | None:
        if not self._settings.celery_enabled or self._pipeline.stats()["guarantee"] != "stored":
            return None
        if self._pipeline.flush(self._seconds_left(), until_stored=True).wait().complete:
            self._end_leg("confirmation")
            return None
        if not self._rows.is_there:
            return self._why_no_row(self._pipeline.stats())
        return error(
            "probe.confirmation",
            "the row is there, and its confirmation did not arrive: hosts send all again and again",
            "set the same CELERY_RESULT_BACKEND (or the same broker) for hosts and workers",
        )

    def _why_no_row(self, said: dict[str, Any]) -> Finding:
        refusal = self._rows.refusal(self._entry) if self._rows.is_there else None
        if refusal or said["dead_lettered"]:
            return error(
                "probe.database",
                f"the database has refused the entry: {refusal or 'see the dead letters'}",
                "execution-logger dead list; a constraint or trigger of the table may not suit log entries",
            )
        if said["stored"]:
            return error(
                "probe.database",
                f"a worker has stored the entry, and here table {self._settings.table!r} does not have it",
                "set the same DATABASE_URL and EXECUTION_LOGGER_TABLE for workers and readers",
            )
        return _stuck(self._find(), self._settings, self._ears.held)

    def _find(self) -> Whereabouts:
        try:
            return find_message(self._settings, self._task_id)
        except BrokerUnavailableError:  # not for this user to see
            return Whereabouts(is_known=False)

    def _end_leg(self, name: str) -> None:
        now = time.monotonic()
        self._probe.seconds[name] = now - self._leg_began_at
        self._leg_began_at = now

    def _seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())


def _stuck(where: Whereabouts, settings: Settings, held: str | None) -> Finding:
    """What the broker's view of a message says about the way that it did not take."""
    if where.ahead is not None:
        return error(
            "probe.queue",
            f"the entry waits in queue {settings.queue!r} behind {where.ahead:,} others, no worker took it",
            "start workers (execution-logger worker), or see why those that run do not keep up",
        )
    if held:
        return error(
            "probe.database",
            f"a worker has the entry and cannot write it: {held}",
            "see what is said of the database; the worker tries again by itself",
        )
    if where.is_in_hand or not where.is_known:
        return error(
            "probe.worker",
            "a worker has the entry in hand and does not finish"
            if where.is_known
            else "the entry is in the queue or in the hands of a worker",
            "see the worker's log, and pg_stat_activity for locks",
        )
    return error(
        "probe.worker",
        "the entry is neither in the queue nor in the database",
        "a worker without the task may have thrown it away, or one with another database has stored it: "
        "celery inspect registered",
    )
