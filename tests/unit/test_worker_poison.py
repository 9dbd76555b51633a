"""The looks at the queue, whatever it holds."""

import logging
import threading

import pytest

from doubles import DEADLINE_SECONDS
from execution_logger import Settings
from execution_logger.worker import poison
from execution_logger.worker.poison import keep_looking, quarantine_malformed


def test_a_look_that_fails_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker starts, looks again and again, and one failure is one line."""
    looks: list[float] = []
    third = threading.Event()

    def fail(_: Settings, max_seconds: float) -> int:
        looks.append(max_seconds)
        if len(looks) > 3:
            third.set()
        raise KeyError("no such field")

    monkeypatch.setattr(poison, "_quarantine", fail)
    with caplog.at_level(logging.ERROR):
        assert quarantine_malformed(Settings()) == 0
        assert caplog.messages == ["the queue cannot be looked after: KeyError: 'no such field'"]
        stop = keep_looking(Settings(), every_seconds=0.001)
        assert third.wait(DEADLINE_SECONDS)
        stop.set()
    for thread in threading.enumerate():
        if thread.name == "execution-logger-queue":
            thread.join(DEADLINE_SECONDS)
    assert caplog.messages[1:] == caplog.messages[:1]
    assert caplog.records[0].exc_info is None
