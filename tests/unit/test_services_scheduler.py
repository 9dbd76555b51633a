"""Beat's scheduler: a job waits for the broker, and a damaged file is no crash."""

import logging
import shelve
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import EncodeError, OperationalError

from execution_logger.services.scheduler import PatientScheduler


class Site:
    """A schedule with one job that is due, and a broker that fails as often as the test says."""

    def __init__(self, folder: Path) -> None:
        self.app = Celery("test", broker="memory://", set_as_current=False)
        self.app.conf.result_expires = None  # else Celery adds a job of its own
        self.app.conf.beat_schedule = {"job": {"task": "a.job", "schedule": 0.0}}
        self.failures: list[Exception] = []
        self.sent: list[str] = []
        self.app.send_task = self._send
        self.folder = folder
        self.scheduler = self.make()

    def make(self) -> PatientScheduler:
        """A scheduler with the file of this folder, as Beat's next start makes one."""
        self.scheduler = PatientScheduler(self.app, schedule_filename=str(self.folder / "schedule"))
        self.scheduler.__dict__["producer"] = None  # nothing is connected
        return self.scheduler

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
def site(tmp_path: Path) -> Iterator[Site]:
    """A site whose schedule is closed at the end."""
    site = Site(tmp_path)
    yield site
    site.scheduler.close()


def test_a_job_that_is_due_waits_for_the_broker(
    site: Site, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """With growing pauses, each with a line that says why; Celery itself would give it up."""
    site.failures = [OperationalError("Connection refused")] * 8
    with caplog.at_level(logging.WARNING):
        site.scheduler.tick()
    assert site.sent == ["a.job"]
    assert len(pauses) == 8
    assert pauses[0] < 0.6
    assert 15 <= pauses[-1] <= 30
    assert len(caplog.messages) == 8
    assert caplog.messages[0].startswith("job job waits for the broker, the next attempt is in 0.")
    assert caplog.messages[0].endswith("Connection refused")


def test_a_job_that_cannot_be_sent_at_all_does_not_wait(site: Site, pauses: list[float]) -> None:
    """The others would wait behind it for ever."""
    site.failures = [EncodeError("no JSON")]
    site.scheduler.tick()
    site.scheduler.tick()
    assert site.sent == ["a.job"]
    assert pauses == []


def test_when_a_job_was_sent_is_remembered(site: Site) -> None:
    """Over a restart: a daily job is not sent twice a day, and a missed one is sent then."""
    site.scheduler.tick()
    site.scheduler.close()
    assert site.make().schedule["job"].total_run_count == 1


def test_when_a_job_was_sent_is_on_disk_at_once(site: Site, tmp_path: Path) -> None:
    """With the setting of Beat's process; Celery's own would lose three minutes in a kill -9."""
    site.app.conf.beat_sync_every = 1
    site.scheduler.close()
    site.make().tick()
    copied = tmp_path / "copy"
    shutil.copytree(site.folder, copied, ignore=lambda *_: ["copy"])
    with shelve.open(str(copied / "schedule")) as found:
        assert found["entries"]["job"].total_run_count == 1


@pytest.mark.parametrize("content", [b"\x00junk" * 100, b"{}"])
def test_a_damaged_file_is_made_anew(site: Site, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """With one warning that names it, and no traceback; then the jobs are there."""
    site.scheduler.close()
    for file in site.folder.glob("schedule*"):
        file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        site.make()
    assert list(site.scheduler.schedule) == ["job"]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.exc_info is None
    assert str(site.folder / "schedule") in record.message
    assert "made anew" in record.message
    site.scheduler.close()
    site.make()
    assert len(caplog.records) == 1


def test_damaged_contents_are_no_crash_either(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The file can be opened, and what is in it cannot be read."""
    site.scheduler._store.cache.clear()  # else it is written over the damage
    site.scheduler._store.dict[b"entries"] = b"\x80\x04c"  # half of a pickle
    site.scheduler._store.dict[b"tz"] = b""
    site.scheduler._store.close()
    with caplog.at_level(logging.WARNING):
        site.make()
    assert list(site.scheduler.schedule) == ["job"]
    assert len(caplog.records) == 1
