"""What the doctor makes of the journal's directory."""

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from children import FORKS, close_to_this_process, in_fork
from execution_logger import Settings
from execution_logger.journal.survey import DestinationSummary, JournalSummary
from execution_logger.operate.doctor import Finding, Level, Subject, journal
from execution_logger.operate.doctor.journal import (
    NETWORK,
    examine_journal,
    file_system,
    left_over,
    unwritable,
)

MOUNTS = """\
/dev/vda / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
server:/x /var/lib/shared nfs4 rw 0 0
/dev/vdb /var/lib/shared/local xfs rw 0 0
server:/y /mnt/with\\040blank cifs rw 0 0
overlay /twice overlay rw 0 0
/dev/vdc /twice ext4 rw 0 0
"""


def findings(directory: Path) -> list[Finding]:
    """What is found that is not all right."""
    subject = Subject(Settings(journal_directory=str(directory)), {}, lambda: 0.0)
    return [finding for finding in examine_journal(subject) if finding.level is not Level.OK]


def summary(folder: Path, *, alive: int = 0, dead: int = 0, damaged: int = 0) -> DestinationSummary:
    """A destination with entries of living and dead processes."""
    at = datetime.now(UTC)
    journals = [JournalSummary("a", True, alive, 1, at), JournalSummary("d", False, dead, 1, at)]
    shown = tuple(each for each in journals if each.entries)
    return DestinationSummary(folder, "redis://broker logs", shown, damaged)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/x", "ext4"),
        ("/run/x", "tmpfs"),
        ("/running", "ext4"),
        ("/var/lib/shared/x", "nfs4"),
        ("/var/lib/shared/local/x", "xfs"),
        ("/mnt/with blank/x", "cifs"),
        ("/twice", "ext4"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path, folder: str, kind: str) -> None:
    """The last one of a place lies on top."""
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert file_system(Path(folder), mounts) == kind


def test_a_system_without_mounts_tells_nothing(tmp_path: Path) -> None:
    """As macOS and Windows."""
    assert file_system(tmp_path, tmp_path / "nope") == ""


@pytest.mark.parametrize(
    ("kind", "level"), [("nfs4", Level.WARNING), ("ext4", None), ("overlay", None), ("", None)]
)
def test_a_network_file_system_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, level: Level | None
) -> None:
    """A container's own one only where a host has a journal there: the worker's container needs none."""
    monkeypatch.setattr(journal, "file_system", lambda folder: kind)
    assert [finding.level for finding in findings(tmp_path)] == ([] if level is None else [level])
    assert "nfs4" in NETWORK


def test_a_journal_in_a_container_without_a_volume_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with the container."""
    monkeypatch.setattr(journal, "file_system", lambda folder: "overlay")
    (tmp_path / "logs-1" / "host-1").mkdir(parents=True, mode=0o700)
    (tmp_path / "logs-1" / "host-1" / "00000000000000000001.ndjson").touch(0o600)
    (finding,) = findings(tmp_path)
    assert finding.name == "journal.place"
    assert "overlay" in finding.what


def test_a_directory_that_can_be_made_is_all_right(tmp_path: Path) -> None:
    """It is not made: its owner would be who asked."""
    assert unwritable(tmp_path / "a" / "b") is None
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_written_to_stays_empty(tmp_path: Path) -> None:
    """The attempt leaves nothing behind."""
    assert unwritable(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """Nor can one be made below it."""
    (tmp_path / "file").touch()
    assert unwritable(tmp_path / "file") == f"{tmp_path / 'file'} is no folder"
    assert unwritable(tmp_path / "file" / "below") == f"{tmp_path / 'file'} is no folder"


@pytest.mark.skipif(not FORKS, reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_directory_that_is_closed_to_this_user(tmp_path: Path) -> None:
    """It is said in its words, with the advice."""
    closed = tmp_path / "closed"
    closed.mkdir(0o700)

    def found() -> list[str]:
        close_to_this_process(closed)
        return [finding.advice for finding in findings(closed / "journal")]

    (advice,) = in_fork(found)
    assert "EXECUTION_LOGGER_JOURNAL_DIRECTORY" in advice


def test_a_full_disk_is_said_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no entry either."""

    def no_space(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", no_space)
    (finding,) = findings(tmp_path)
    assert finding.level is Level.ERROR
    assert "No space left on device" in finding.what


def test_a_directory_that_anybody_may_write_to_is_found(tmp_path: Path) -> None:
    """Unless it is sticky, as /tmp is."""
    tmp_path.chmod(0o777)
    (finding,) = findings(tmp_path)
    assert (finding.name, finding.advice) == ("journal.modes", f"chmod 700 {tmp_path}")
    tmp_path.chmod(0o1777)
    assert findings(tmp_path) == []


def test_journals_behind_a_private_directory_may_have_any_mode(tmp_path: Path) -> None:
    """Nobody comes to them."""
    (tmp_path / "logs-1").mkdir(mode=0o755)
    tmp_path.chmod(0o700)
    assert findings(tmp_path) == []
    tmp_path.chmod(0o755)
    assert [finding.name for finding in findings(tmp_path)] == ["journal.modes"]


def test_what_dead_processes_have_left_is_found_where_nobody_lives(tmp_path: Path) -> None:
    """A living process of the same destination sends it within seconds."""
    assert list(left_over([summary(tmp_path, alive=5, dead=7)], tmp_path)) == []
    (own,) = left_over([summary(tmp_path, dead=7)], tmp_path)
    assert "7 entries for redis://broker logs" in own.what
    assert own.advice == "execution-logger recover"
    (other,) = left_over([summary(tmp_path, dead=7)], tmp_path / "other")
    assert "with the settings of that destination" in other.advice


def test_damaged_lines_are_found(tmp_path: Path) -> None:
    """They say something of the disk."""
    (finding,) = left_over([summary(tmp_path, alive=1, damaged=3)], tmp_path)
    assert finding.name == "journal.damage"
    assert "3 lines" in finding.what


@pytest.mark.skipif(os.name != "posix", reason="who may write is a matter of POSIX here")
@pytest.mark.parametrize(
    "kind", ["open folder", "link to a folder", "open file", "link to a file", "open destination"]
)
def test_what_others_have_a_hand_in_is_found(tmp_path: Path, kind: str) -> None:
    """It is neither sent nor used, and somebody has to know."""
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    for folder in (state, state / "logs-1", state / "logs-1" / "host-1", elsewhere):
        folder.mkdir(mode=0o700)
    file = state / "logs-1" / "host-1" / "lock"
    match kind:
        case "open destination":
            culprit = state / "logs-1"
            culprit.chmod(0o777)
        case "open folder":
            culprit = file.parent
            culprit.chmod(0o777)
        case "link to a folder":
            culprit = state / "logs-1" / "host-2"
            culprit.symlink_to(elsewhere)
        case "open file":
            culprit = file
            file.touch()
            file.chmod(0o666)
        case _:
            culprit = file
            file.symlink_to("/etc/hostname")
    (finding,) = (each for each in findings(state) if each.name == "journal.refused")
    assert f"what is in {culprit} is neither sent nor used" in finding.what
    assert "recover" in finding.advice
