"""The probe: one entry by the way that all take, timed, read back and deleted, as a host would do it."""

import time
from dataclasses import dataclass, field, replace
from uuid import uuid4

from execution_logger.api.logger import ExecutionLogger
from execution_logger.api.sync import SyncExecutionLogger
from execution_logger.entry.entry import LogCategory
from execution_logger.errors import StoreUnavailableError
from execution_logger.operate.doctor.finding import Finding, error, ok
from execution_logger.settings import Settings

MESSAGE = "execution-logger doctor --end-to-end"

_STOP_SECONDS = 0.5


@dataclass(slots=True)
class Probe:
    """What became of it.

    Attributes:
        seconds: how long each leg took: `queue` from the call to the broker, `stored` from there until
            its row is known to be committed; without Celery `stored` only.
        findings: where it got stuck, or that it did not.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def send_probe(settings: Settings, timeout_seconds: float) -> Probe:
    """Log an entry, wait until it is stored, read it back, and delete it.

    Args:
        settings: those of a host that has the database's URL, too; without that only the
            confirmation is waited for.
        timeout_seconds: how long to wait for the row.
    """
    # The journal is not examined here, and an entry of nobody's run must not outlive this process.
    settings = replace(
        settings, journal=False, batch_size=1, fallback="keep", shutdown_timeout_seconds=_STOP_SECONDS
    )
    logger = ExecutionLogger(settings).sync
    logger.start()  # what a host does while it starts is no part of the way
    probe = Probe()
    try:
        probe.findings.append(_Journey(settings, logger, probe.seconds, timeout_seconds).go())
    finally:
        logger.shutdown()
    return probe


class _Journey:
    """The way of the entry, leg by leg."""

    def __init__(
        self,
        settings: Settings,
        logger: SyncExecutionLogger,
        seconds: dict[str, float],
        timeout_seconds: float,
    ) -> None:
        self._settings = settings
        self._logger = logger
        self._seconds = seconds
        self._timeout_seconds = timeout_seconds
        # By its form a task's id of the host's, which its column may insist on.
        self._task_id = str(uuid4())
        self._leg_began_at = time.monotonic()
        self._deadline = self._leg_began_at + timeout_seconds

    def go(self) -> Finding:
        """Follow it to its end, and tell what is known of it."""
        self._logger.info(self._task_id, LogCategory.WORKFLOW, MESSAGE)
        if problem := self._deliver():
            return problem
        confirms = self._logger.stats()["guarantee"] == "stored"
        is_confirmed = confirms and self._logger.flush(self._seconds_left(), until="stored").complete
        if self._logger.stats()["dead_lettered"]:
            return error(
                "probe.database",
                "the database has refused the entry",
                "execution-logger dead list; a constraint or trigger of the table may not suit log entries",
            )
        if is_confirmed:
            self._end_leg("stored")
        if not self._settings.database_url:
            return self._without_database(confirms=confirms, is_confirmed=is_confirmed)
        return self._look_for_row(confirms=confirms, is_confirmed=is_confirmed)

    def _deliver(self) -> Finding | None:
        """To the broker, or without Celery to the database."""
        report = self._logger.flush(self._seconds_left())
        if report.complete:
            if self._settings.celery_enabled:
                self._end_leg("queue")
            return None
        return error(
            "probe.delivery",
            f"the entry did not leave this process: {report.last_error or 'no answer in time'}",
            "see what is said of the broker and the database; hosts keep their entries meanwhile",
        )

    def _without_database(self, *, confirms: bool, is_confirmed: bool) -> Finding:
        if confirms and not is_confirmed:
            return self._not_stored()
        news = (
            "a worker has stored an entry" if confirms else "the broker took an entry; nobody tells the rest"
        )
        return self._arrived(news, stays=True)

    def _look_for_row(self, *, confirms: bool, is_confirmed: bool) -> Finding:
        # A host that has no database has not the packages for it either.
        from execution_logger.operate.doctor.database import take_back, unreachable  # noqa: PLC0415

        try:
            is_there, is_deleted = take_back(
                self._settings, self._task_id, self._deadline, waits=not confirms
            )
        except StoreUnavailableError as problem:
            return replace(unreachable(str(problem)), name="probe.database")
        if confirms and not is_confirmed:
            return self._not_confirmed() if is_there else self._not_stored()
        if not is_there:
            return self._stored_elsewhere() if confirms else self._not_stored()
        if not is_confirmed:
            self._end_leg("stored")
        return self._arrived("an entry was stored and read back", stays=not is_deleted)

    def _arrived(self, news: str, *, stays: bool) -> Finding:
        legs = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in self._seconds.items())
        row = f"; its row stays: task_id {self._task_id}" if stays else ""
        return ok("probe.row", f"{news} ({legs}){row}")

    def _not_stored(self) -> Finding:
        return error(
            "probe.worker",
            f"the broker has the entry, and it is not stored after {self._timeout_seconds:g} s",
            "see what is said of workers and database, and execution-logger status for what waits where; "
            f"a worker may store it yet: task_id {self._task_id}",
        )

    def _not_confirmed(self) -> Finding:
        return error(
            "probe.confirmation",
            "the row is there, and its confirmation did not arrive: hosts send all again and again",
            "set the same CELERY_RESULT_BACKEND (or the same broker) for hosts and workers",
        )

    def _stored_elsewhere(self) -> Finding:
        return error(
            "probe.database",
            f"a worker has stored the entry, and here table {self._settings.table!r} does not have it",
            "set the same DATABASE_URL and EXECUTION_LOGGER_TABLE for workers and readers",
        )

    def _end_leg(self, name: str) -> None:
        now = time.monotonic()
        self._seconds[name] = now - self._leg_began_at
        self._leg_began_at = now

    def _seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())
