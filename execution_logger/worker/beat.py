"""Celery Beat's scheduler, with the patience that a broker needs which is away."""

import time
from typing import Any

from celery.beat import Scheduler, SchedulingError
from celery.utils.log import get_logger
from kombu.exceptions import OperationalError

from execution_logger.broker.backoff import Backoff

logger = get_logger("celery.beat")

_LONGEST_PAUSE_SECONDS = 30.0


class PatientScheduler(Scheduler):  # type: ignore[misc] # Celery has no types
    """Sends a job as soon as the broker takes it; Celery's own drops it until it is due again.

    Waiting here holds up nothing else, because nothing else could be sent either. It has no file: when
    each job ran last is in the database, which all Beats share and no restart forgets, and the health
    check sends what was missed.
    """

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
