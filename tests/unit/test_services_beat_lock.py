"""The lock of the one Beat."""

import os
from pathlib import Path

import pytest

from execution_logger.operate.services import beat_lock
from execution_logger.operate.services.beat_lock import BeatRunsError, beat_process, lock_beat, note_begin


def test_a_beat_is_known_from_its_begin_to_its_end(tmp_path: Path) -> None:
    """Not while it is starting, and not by a number that an earlier one has left."""
    note_begin(tmp_path)
    assert beat_process(tmp_path) is None
    lock = lock_beat(tmp_path)
    assert beat_process(tmp_path) is None
    note_begin(tmp_path)
    assert beat_process(tmp_path) == os.getpid()
    lock.release()
    assert beat_process(tmp_path) is None


def test_a_second_beat_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the number of the first as soon as that is known; elsewhere it is welcome."""
    monkeypatch.setattr(beat_lock, "_WAIT_SECONDS", 0.05)
    lock = lock_beat(tmp_path)
    with pytest.raises(BeatRunsError, match=rf"^Beat runs already \({tmp_path}\), and one is enough"):
        lock_beat(tmp_path)
    note_begin(tmp_path)
    with pytest.raises(BeatRunsError, match=rf"\(process {os.getpid()}, {tmp_path}\)"):
        lock_beat(tmp_path)
    (tmp_path / "other").mkdir()
    lock_beat(tmp_path / "other").release()
    lock.release()
    lock_beat(tmp_path).release()
