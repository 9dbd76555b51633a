"""The watch: the facts and the doctor's findings, looked at once for all who ask at the same time."""

import asyncio
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from execution_logger.operate.asking import Part
from execution_logger.settings import Settings

if TYPE_CHECKING:
    from execution_logger.operate.doctor import Finding
    from execution_logger.operate.facts import StatusReader

FRESH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look has shown.

    Attributes:
        asked_at: when it began, in UTC.
        parts: the pipeline's, as `StatusReader` tells them.
        findings: the doctor's.
    """

    asked_at: datetime
    parts: Mapping[str, Part]
    findings: Sequence["Finding"]


class Watch:
    """Looks at the pipeline, and remembers what it has seen for a few seconds.

    Args:
        settings: name all parts.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._status: StatusReader | None = None
        self._lock = threading.Lock()
        self._seen: Seen | None = None
        self._fresh_until = 0.0

    async def look(self) -> Seen:
        """What was seen last, or a new look, which takes seconds where something does not answer."""
        return await asyncio.to_thread(self._look)

    def _look(self) -> Seen:
        # They load Celery, a third of what a server of the page has to load: for those who ask.
        from execution_logger.operate.doctor import Subject, examine  # noqa: PLC0415
        from execution_logger.operate.facts import StatusReader  # noqa: PLC0415

        # Whoever waits here finds what the one before has seen.
        with self._lock:
            if self._seen is None or time.monotonic() > self._fresh_until:
                asked_at = datetime.now(UTC)
                self._status = self._status or StatusReader(self._settings)
                findings = examine(Subject(self._settings, os.environ, time.time))
                self._seen = Seen(asked_at, self._status.read(), findings)
                self._fresh_until = time.monotonic() + FRESH_SECONDS
            return self._seen
