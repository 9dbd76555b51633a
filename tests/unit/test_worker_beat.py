"""Beat's scheduler: a job waits for the broker."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import EncodeError, OperationalError

from execution_logger.worker.schedule import PatientScheduler


class Site:
    """A schedule with one job that is due, and a broker that fails as often as the test says."""

    def __init__(self) -> None:
        self.app = Celery("test", broker="memory://", set_as_current=False)
        self.app.conf.result_expires = None  # else Celery adds a job of its own
        self.app.conf.beat_schedule = {"job": {"task": "a.job", "schedule": 0.0}}
        self.failures: list[Exception] = []
        self.sent: list[str] = []
        self.app.send_task = self._send
        self.scheduler = PatientScheduler(self.app)
        self.scheduler.__dict__["producer"] = None  # nothing is connected

    def _send(self, name: str, *_: Any, **__: Any) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(name)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; none takes any time."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


@pytest.fixture
def site() -> Iterator[Site]:
    """A site whose schedule is closed at the end."""
    site = Site()
    yield site
    site.scheduler.close()


def test_a_job_that_is_due_waits_for_the_broker(
    site: Site, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """With growing pauses, each with a line that says why; Celery itself would give it up."""
    site.failures = [OperationalError("\x1b[2JConnection refused")] * 8
    with caplog.at_level(logging.WARNING):
        site.scheduler.tick()
    assert site.sent == ["a.job"]
    assert len(pauses) == 8
    assert pauses[0] < 0.6
    assert 15 <= pauses[-1] <= 30
    assert len(caplog.messages) == 8
    assert caplog.messages[0].startswith("job job waits for the broker, the next attempt is in 0.")
    assert caplog.messages[0].endswith(r": \x1b[2JConnection refused")


def test_a_job_that_cannot_be_sent_at_all_does_not_wait(site: Site, pauses: list[float]) -> None:
    """The others would wait behind it for ever."""
    site.failures = [EncodeError("no JSON")]
    site.scheduler.tick()
    site.scheduler.tick()
    assert site.sent == ["a.job"]
    assert pauses == []


@pytest.mark.parametrize("failure", [ValueError("I/O operation on closed file"), OperationalError("closed")])
def test_who_tells_it_to_end_while_it_sends_is_heard(
    site: Site, pauses: list[float], failure: Exception
) -> None:
    """The exception of its signal handler is lost where what it interrupts fails to clean up."""

    def send(*_: Any, **__: Any) -> None:
        site.app.send_task = site._send
        try:
            raise SystemExit
        finally:
            raise failure

    site.app.send_task = send
    with pytest.raises(SystemExit):
        site.scheduler.tick()
    assert pauses == []
