"""Celery Beat's scheduler, with the patience that a broker needs which is away."""

import time
from typing import Any

from celery.beat import PersistentScheduler, SchedulingError
from celery.utils.log import get_logger
from kombu.exceptions import OperationalError

from execution_logger.backoff import Backoff

logger = get_logger("celery.beat")

_LONGEST_PAUSE_SECONDS = 30.0


class PatientScheduler(PersistentScheduler):  # type: ignore[misc] # Celery has no types
    """Sends a job as soon as the broker takes it, and makes a damaged schedule file anew.

    Celery's own drops a job that is due while the broker is away, until it is due again: a daily one
    for a day. Waiting here holds up nothing else, because nothing else could be sent either.
    """

    _store: Any

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **options: Any) -> Any:  # noqa: FBT001, FBT002 - Celery's signature
        """Send one job; return when it is sent."""
        backoff = Backoff(_LONGEST_PAUSE_SECONDS)
        while True:
            try:
                return super().apply_async(entry, producer=producer, advance=advance, **options)
            except SchedulingError as error:
                if not isinstance(error.__context__, OperationalError):
                    raise
                pause_seconds = backoff.next_pause_seconds()
                logger.warning(
                    "job %s waits for the broker, the next attempt is in %.1f s: %s",
                    entry.name,
                    pause_seconds,
                    error.__context__,
                )
                time.sleep(pause_seconds)
                advance = False  # it is reserved already

    def setup_schedule(self) -> None:
        """Read when each job was last sent; what cannot be read is forgotten, with one warning."""
        try:
            super().setup_schedule()
        except Exception as error:  # noqa: BLE001 - a damaged pickle raises anything
            if self._store is not None:
                self._store.dict.close()
                self._store.dict = {}  # a shelf that is dropped writes once more
            self._store = self._destroy_open_corrupted_schedule(error)
            super().setup_schedule()

    def _destroy_open_corrupted_schedule(self, error: Exception) -> Any:
        # In Celery's place of this name, which logs an ERROR with a traceback.
        logger.warning(
            "the schedule file %s is damaged and made anew, so that the jobs' times count from now: %r",
            self.schedule_filename,
            error,
        )
        self._remove_db()
        return self._open_schedule()
