"""The journal of a living process: every entry on the disk, and a disk that fails stops nothing."""

import errno
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from children import in_fork, run_script
from doubles import signals
from execution_logger import Settings
from execution_logger.journal import Journal
from execution_logger.journal.directory import LOCK_NAME
from execution_logger.journal.segment import Segment, line_of
from execution_logger.shipping.buffer import Buffer
from journals import destination_in, entries, entries_in, entry, numbers_of, replace_write

SMALL = 1_048_576
"""The smallest budget: segments of a quarter of it."""
MakeJournal = Callable[..., Journal]


@pytest.fixture
def make_journal(tmp_path: Path) -> Iterator[MakeJournal]:
    """Makes journals in the test's folder; lets go of them."""
    journals: list[Journal] = []

    def make(process: str = "p", **settings: Any) -> Journal:
        journal = Journal(destination_in(tmp_path), process, Settings(**settings), threading.RLock())
        journals.append(journal)
        return journal

    yield make
    for journal in journals:
        journal.abandon()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the journal is."""
    return destination_in(tmp_path).folder / "p"


def log(journal: Journal, first: int, last: int, size_bytes: int = 0) -> list[bool]:
    """Append entries, and return which are on the disk."""
    return [journal.append(number, entry(number, size_bytes)) for number in range(first, last + 1)]


def on_disk(folder: Path) -> list[int]:
    """The numbers that the entries on the disk tell, in the order of the files."""
    return numbers_of(each for file in sorted(folder.glob("*.entries")) for each in entries_in(file))


def segments_in(folder: Path) -> int:
    """How many there are."""
    return len(list(folder.glob("*.entries")))


class TestAppending:
    """What a call waits for."""

    def test_nothing_is_made_before_the_first_entry(self, make_journal: MakeJournal, folder: Path) -> None:
        """A process that never logs leaves no folder; there is nothing to look after."""
        journal = make_journal()
        journal.look_after(lambda: 1)
        assert not folder.parent.exists()
        assert (journal.size_bytes, journal.is_used, journal.is_settled, journal.error) == (
            0,
            False,
            False,
            None,
        )

    def test_entries_are_on_the_disk_when_it_returns(self, make_journal: MakeJournal, folder: Path) -> None:
        """As they are, one a line."""
        journal = make_journal()
        for number in range(1, 4):
            assert journal.append(number, entry(number))
            assert on_disk(folder) == list(range(1, number + 1))
        assert journal.size_bytes == sum(len(line_of(each)) for each in entries(1, 3))

    def test_nobody_else_can_read_them(self, make_journal: MakeJournal, folder: Path) -> None:
        """Folders and files are this user's, whatever the umask allows."""
        before = os.umask(0)
        try:
            log(journal := make_journal(), 1, 3)
            journal.settle(1)
        finally:
            os.umask(before)
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.parent.rglob("*")}
        assert modes.pop("p") == 0o700
        assert set(modes) == {"destination", LOCK_NAME, f"{1:020}.entries", "marks"}
        assert set(modes.values()) == {0o600}
        assert folder.parent.stat().st_mode & 0o777 == 0o700

    def test_the_destination_is_noted_down_for_people(self, make_journal: MakeJournal, folder: Path) -> None:
        """Without a password, once."""
        log(make_journal("p"), 1, 1)
        log(make_journal("q"), 1, 1)
        assert (folder.parent / "destination").read_text() == "redis://localhost logs\n"

    @pytest.mark.parametrize(("fsync", "syncs"), [(False, 0), (True, 3)])
    def test_fsync_is_an_option(
        self,
        make_journal: MakeJournal,
        monkeypatch: pytest.MonkeyPatch,
        fsync: bool,  # noqa: FBT001
        syncs: int,
    ) -> None:
        """With it, each call waits for the disk; without, for none."""
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", synced.append)
        log(make_journal(journal_fsync=fsync), 1, 3)
        assert len(synced) == syncs

    def test_a_sync_that_fails_is_a_disk_that_fails(
        self, make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The entry is not safe, and the next one begins a new file."""
        journal = make_journal(journal_fsync=True)
        log(journal, 1, 2)
        with monkeypatch.context() as patched:
            patched.setattr(Segment, "sync", fail_with(errno.EIO))
            assert not journal.append(3, entry(3))
        assert "Input/output error" in str(journal.error)
        journal.look_after(lambda: 4)
        assert log(journal, 4, 4) == [True]
        assert numbers_of(journal.read_again(4, 1)) == [4]

    def test_a_number_that_does_not_follow_begins_a_segment(
        self, make_journal: MakeJournal, folder: Path
    ) -> None:
        """Files are named by the numbers in them."""
        journal = make_journal()
        log(journal, 1, 2)
        log(journal, 5, 6)
        assert segments_in(folder) == 2
        assert journal.has(1, 2)
        assert journal.has(5, 2)
        assert not journal.has(2, 4)
        assert numbers_of(journal.read_batch(5, 10, SMALL).entries) == [5, 6]


class TestSettling:
    """What is stored leaves the disk."""

    def test_under_continuous_load_segments_go(self, make_journal: MakeJournal, folder: Path) -> None:
        """As soon as all in them is safe, and not before; the budget is never exceeded."""
        journal = make_journal(journal_max_bytes=SMALL)
        for number in range(1, 101):
            assert journal.append(number, entry(number, 50_000))
            assert journal.size_bytes <= SMALL
            if number > 5:
                journal.settle(number - 5)
                assert journal.has(number - 4, 5)
        assert segments_in(folder) <= 3
        assert on_disk(folder)[-5:] == [96, 97, 98, 99, 100]

    def test_when_all_is_settled_it_can_be_emptied(self, make_journal: MakeJournal, folder: Path) -> None:
        """An idle process has an empty file, and goes on in it."""
        journal = make_journal()
        log(journal, 1, 5)
        journal.settle(4)
        assert not journal.is_settled
        journal.empty()
        assert on_disk(folder) == [1, 2, 3, 4, 5]
        journal.settle(5)
        assert (journal.is_settled, journal.is_used) == (True, False)
        journal.empty()
        assert (on_disk(folder), segments_in(folder), journal.size_bytes) == ([], 1, 0)
        assert not journal.is_settled, "there is nothing to empty"
        assert log(journal, 6, 7) == [True, True]
        assert on_disk(folder) == [6, 7]
        assert numbers_of(journal.read_again(6, 2)) == [6, 7]

    def test_closing_removes_everything(self, make_journal: MakeJournal, folder: Path) -> None:
        """Nothing is left of a process that has stored all; and it may go on."""
        journal = make_journal()
        for first in (1, 4):
            log(journal, first, first + 2)
            journal.settle(first + 2)
            journal.close()
            assert not folder.exists()
            assert (journal.size_bytes, journal.is_used) == (0, False)

    def test_closing_keeps_what_is_not_settled(self, make_journal: MakeJournal, folder: Path) -> None:
        """And its lock: this process may go on, and others ship it after its end."""
        journal = make_journal()
        log(journal, 1, 3)
        journal.settle(2)
        journal.close()
        assert on_disk(folder) == [1, 2, 3]
        assert log(journal, 4, 4) == [True]
        assert numbers_of(journal.read_again(3, 2)) == [3, 4]

    def test_an_error_is_forgotten_when_it_is_closed(
        self, make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What it opens next works, and nobody would look after the old one."""
        journal = make_journal()
        log(journal, 1, 2)
        with monkeypatch.context() as patched:
            patched.setattr(Segment, "append", fail_with(errno.ENOSPC))
            assert log(journal, 3, 3) == [False]
        assert journal.is_full
        journal.settle(3)
        journal.close()
        assert (journal.error, journal.is_full) == (None, False)
        assert log(journal, 4, 4) == [True]


class TestBudget:
    """The disk is bounded."""

    def test_it_is_full_and_has_room_again(self, make_journal: MakeJournal, folder: Path) -> None:
        """Entries are refused meanwhile, the reason is told, and settling makes room."""
        journal = make_journal(journal_max_bytes=SMALL)
        kept = log(journal, 1, 40, 50_000)
        assert not kept[-1]
        count = sum(kept)
        assert kept == [True] * count + [False] * (40 - count)
        assert 15 <= count <= 20
        assert "EXECUTION_LOGGER_JOURNAL_MAX_BYTES=1048576" in str(journal.error)
        assert (journal.is_full, journal.has_room) == (True, False)
        assert journal.size_bytes <= SMALL
        journal.look_after(lambda: 41)
        assert journal.is_full
        journal.settle(10)
        assert journal.has_room
        journal.look_after(lambda: 41)
        assert (journal.error, journal.is_full) == (None, False)
        assert log(journal, 41, 41) == [True]
        assert numbers_of(journal.read_batch(11, 1000, 10 * SMALL).entries)[0] == 11
        assert on_disk(folder)[-1] == 41


def fail_with(number: int) -> Callable[..., Any]:
    """A function that fails like the system."""

    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


class TestDisk:
    """Real disks that fail."""

    def test_one_that_is_full(self, tmp_path: Path) -> None:
        """A limit of the system's stands for it: lines are whole, and it goes on when there is room."""
        output = run_script(
            """
            import resource, signal, sys, threading
            from pathlib import Path
            from execution_logger import Settings
            from execution_logger.journal import Journal
            from journals import destination_in, entry, numbers_of

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            journal = Journal(destination_in(Path(sys.argv[1])), "p", Settings(), threading.RLock())
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
            kept = [number for number in range(1, 11) if journal.append(number, entry(number, 900))]
            print(kept, journal.error is not None)
            journal.look_after(lambda: 11)
            print(journal.error is not None, "the disk takes no probe")
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            journal.look_after(lambda: 11)
            kept += [number for number in range(11, 21) if journal.append(number, entry(number, 900))]
            print(journal.error, numbers_of(journal.read_again(1, 5)), numbers_of(journal.read_again(11, 10)))
            journal.settle(20)
            journal.close()
            print(*Path(sys.argv[1]).glob("*/p"))
            """,
            tmp_path,
        )
        assert output.splitlines() == [
            "[1, 2, 3, 4, 5] True",
            "True the disk takes no probe",
            "None [1, 2, 3, 4, 5] [11, 12, 13, 14, 15, 16, 17, 18, 19, 20]",
            "",
        ]

    def test_a_folder_that_cannot_be_made(self, make_journal: MakeJournal, folder: Path) -> None:
        """It is told once it is tried, and tried again only by the thread, not by calls."""
        folder.parent.parent.mkdir(exist_ok=True)
        folder.parent.write_text("a file in its place")
        journal = make_journal()
        assert log(journal, 1, 3) == [False] * 3
        assert str(folder) in str(journal.error)
        folder.parent.unlink()
        assert log(journal, 4, 4) == [False]
        journal.look_after(lambda: 5)
        assert journal.error is None
        assert log(journal, 5, 6) == [True, True]
        assert not journal.has(4, 2)
        assert on_disk(folder) == [5, 6]

    def test_a_read_only_folder(self, make_journal: MakeJournal, folder: Path) -> None:
        """As another user, since nothing is forbidden to root: no error leaves it."""
        folder.parent.mkdir(mode=0o555)
        folder.parent.parent.chmod(0o755)

        def as_nobody() -> tuple[list[bool], str]:
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)
            journal = make_journal()
            kept = log(journal, 1, 2)
            journal.look_after(lambda: 3)
            journal.settle(2)
            journal.close()
            return kept, str(journal.error)

        kept, error = in_fork(as_nobody)
        assert kept == [False, False]
        assert "Permission denied" in error

    @pytest.mark.parametrize("failing", ["write", "ftruncate", "open"])
    def test_any_call_that_fails(
        self, make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch, folder: Path, failing: str
    ) -> None:
        """Nothing is raised, and what is on the disk afterwards is right."""
        journal = make_journal(journal_max_bytes=SMALL)
        log(journal, 1, 2)
        with monkeypatch.context() as patched:
            replace_write(patched, fail_with(errno.EIO))
            if failing != "write":
                patched.setattr(os, failing, fail_with(errno.EIO))
            assert log(journal, 3, 4) == [False, False]
            journal.look_after(lambda: 5)
            journal.settle(1)
            journal.empty()
        journal.look_after(lambda: 5)
        assert log(journal, 5, 6) == [True, True]
        assert on_disk(folder) == [1, 2, 5, 6]
        assert numbers_of(journal.read_again(5, 2)) == [5, 6]


class TestDeleted:
    """Somebody tidies up, and deletes what is in use."""

    @pytest.mark.parametrize("what", ["segments", "lock", "folder", "destination"])
    def test_everything_is_written_anew(self, make_journal: MakeJournal, folder: Path, what: str) -> None:
        """From the files that are still open: nothing is lost."""
        journal = make_journal(journal_max_bytes=SMALL)
        log(journal, 1, 10, 50_000)
        journal.settle(2)
        for path in tuple(folder.iterdir()):
            if what in ("folder", "destination") or path.match("0*" if what == "segments" else LOCK_NAME):
                path.unlink()
        if what in ("folder", "destination"):
            folder.rmdir()
        if what == "destination":
            (folder.parent / "destination").unlink()
            folder.parent.rmdir()
        assert log(journal, 11, 11) == [True], "it has nobody's name, and is there all the same"
        journal.look_after(lambda: 12)
        assert journal.error is None
        assert log(journal, 12, 12) == [True]
        assert on_disk(folder)[-10:] == list(range(3, 13))
        assert (folder / LOCK_NAME).exists()
        assert numbers_of(journal.read_again(3, 10)) == list(range(3, 13))
        log(other := make_journal("q"), 1, 1)
        assert other.error is None

    def test_the_newest_are_written_anew_however_many_there_are(
        self, make_journal: MakeJournal, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Eight segments are kept open; of older ones nothing is left when somebody deletes them."""
        monkeypatch.setattr("execution_logger.journal.journal._SEGMENT_BYTES", 1000)
        journal = make_journal()
        log(journal, 1, 100, 500)
        journal.look_after(lambda: 101)
        assert journal.has(1, 100)
        shutil.rmtree(folder)
        journal.look_after(lambda: 101)
        assert journal.error is None
        log(journal, 101, 101)
        assert on_disk(folder) == list(range(85, 102))
        assert numbers_of(journal.read_again(85, 17)) == list(range(85, 102))
        with pytest.raises(FileNotFoundError):
            journal.read_again(84, 1)
        journal.look_after(lambda: 102)
        assert segments_in(folder) == 9

    def test_a_call_begins_a_segment_while_they_are_looked_at(
        self, make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That closes the oldest one, which nobody has deleted: the journal goes on."""
        monkeypatch.setattr("execution_logger.journal.journal._SEGMENT_BYTES", 1000)
        journal = make_journal()
        log(journal, 1, 100, 500)
        stat, numbers = Path.stat, iter(range(101, 200))

        def stat_and_log(path: Path, **named: Any) -> os.stat_result:
            if path.suffix == ".entries" and (number := next(numbers)) < 110:
                log(journal, number, number, 500)
            return stat(path, **named)

        monkeypatch.setattr(Path, "stat", stat_and_log)
        journal.look_after(lambda: 110)
        assert journal.error is None
        assert (following := next(numbers)) > 101, "it was looked at"
        assert log(journal, following, following) == [True]

    def test_nothing_is_written_while_nothing_is_missing(
        self, make_journal: MakeJournal, folder: Path
    ) -> None:
        """It is looked at every second."""
        journal = make_journal()
        log(journal, 1, 3)
        before = {path.name: path.stat().st_ino for path in folder.iterdir()}
        journal.look_after(lambda: 4)
        assert {path.name: path.stat().st_ino for path in folder.iterdir()} == before


class TestInterruptions:
    """Signal handlers within a call."""

    def make_buffer(self, tmp_path: Path) -> Buffer:
        """A buffer with a journal, that has little room in memory."""
        settings = Settings(buffer_max_entries=10)
        return Buffer(settings, "p", partial(Journal, destination_in(tmp_path), "p", settings))

    def test_numbers_on_the_disk_are_those_in_memory(self, tmp_path: Path, folder: Path) -> None:
        """Handlers that log, at any moment of many calls: the order is one, and each is there once."""
        buffer = self.make_buffer(tmp_path)
        made = iter(range(1, 10**9))

        def put() -> None:
            assert buffer.put(entry(next(made)))

        with signals(300, put) as over:
            while not over.is_set():
                put()
        in_memory = numbers_of(each for each in buffer._entries if isinstance(each, bytes))
        assert sorted(on_disk(folder)) == list(range(1, buffer.queued + 1))
        assert on_disk(folder)[: len(in_memory)] == in_memory
        assert len(drain(buffer)) == buffer.queued
        buffer.journal.close()
        assert not folder.exists()

    @pytest.mark.parametrize("moment", ["before the write", "after the write", "after the line", "begin"])
    def test_a_handler_that_raises(
        self, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
    ) -> None:
        """Ctrl-C within a call: the entry is there or not, and those after it have their numbers."""
        buffer = self.make_buffer(tmp_path)
        for number in range(1, 6):
            buffer.put(entry(number))
        write, append = os.write, Segment.append
        with monkeypatch.context() as patched:

            def write_and_raise(fd: int, data: bytes) -> int:
                if moment == "after the write":
                    write(fd, data)
                raise KeyboardInterrupt

            def append_and_raise(segment: Segment, line: bytes) -> None:
                append(segment, line)
                raise KeyboardInterrupt

            if moment == "after the line":
                patched.setattr(Segment, "append", append_and_raise)
            elif moment == "begin":
                patched.setattr(buffer.journal, "append", write_and_raise)
            else:
                replace_write(patched, write_and_raise)
            with pytest.raises(KeyboardInterrupt):
                buffer.put(entry(-1))
        assert buffer.queued == 5
        for number in range(6, 31):
            assert buffer.put(entry(number))
        assert drain(buffer) == list(range(1, 31)), "memory and disk agree, also beyond the window in memory"
        assert buffer.settled == 30
        buffer.journal.close()

    def test_a_handler_that_logs_and_raises(self, tmp_path: Path, folder: Path) -> None:
        """As of SIGTERM: its entry is on the disk, whatever becomes of the call that it interrupts."""
        buffer = self.make_buffer(tmp_path)
        buffer.put(entry(1))
        append = buffer.journal.append

        def handle(*_: object) -> None:
            buffer.put(entry(2))
            raise SystemExit

        def interrupted(number: int, encoded: bytes) -> bool:
            buffer.journal.append = append  # type: ignore[method-assign]
            signal.raise_signal(signal.SIGUSR1)
            return append(number, encoded)

        before = signal.signal(signal.SIGUSR1, handle)
        try:
            buffer.journal.append = interrupted  # type: ignore[method-assign]
            with pytest.raises(SystemExit):
                buffer.put(entry(-1))
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert on_disk(folder) == [1, 2]
        assert drain(buffer) == [1, 2]
        buffer.journal.close()


def drain(buffer: Buffer) -> list[int]:
    """Take, send and settle everything; the numbers that the entries tell."""
    found: list[int] = []
    expected = 1
    while (batch := buffer.take()) is not None:
        assert batch.first == expected
        expected += batch.count
        found += [json.loads(each)["number"] for each in batch.entries]
        buffer.sent(batch)
        buffer.settle(batch.first, batch.count)
    assert buffer.held == buffer.held_bytes == buffer.memory_bytes == 0
    return found


class TestSpill:
    """What has no room in memory is on the disk only, and comes back in its order."""

    def test_an_outage_costs_disk_and_not_memory(self, tmp_path: Path) -> None:
        """Thousands of entries in a window of ten."""
        settings = Settings(buffer_max_entries=10)
        buffer = Buffer(settings, "p", partial(Journal, destination_in(tmp_path), "p", settings))
        for number in range(1, 3001):
            assert buffer.put(entry(number)) == number
        assert buffer.memory_entries == 10
        assert (buffer.held, buffer.keeps_all) == (3000, True)
        assert drain(buffer) == list(range(1, 3001))
        assert buffer.put(entry(3001)) == 1
        assert buffer.memory_entries == 1, "there is room again"
        assert drain_from(buffer, 3001) == [3001]
        buffer.journal.close()

    @pytest.mark.parametrize(
        ("failure", "reason"),
        [(errno.EIO, "journal_failed"), (errno.ENOSPC, "journal_full"), (errno.EROFS, "journal_failed")],
    )
    def test_when_the_disk_fails_too_the_newest_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: int, reason: str
    ) -> None:
        """When memory is full as well: they have no number, and those before them stay."""
        buffer = self.make_buffer(tmp_path, window=10, buffer_max_entries=13)
        for number in range(1, 21):
            buffer.put(entry(number))
        with monkeypatch.context() as patched:
            patched.setattr(Segment, "append", fail_with(failure))
            assert all(buffer.put(entry(number)) for number in (21, 22, 23))
            assert [buffer.put(entry(-1)) for _ in range(3)] == [0, 0, 0]
            assert buffer.full_reason == reason
        buffer.journal.look_after(buffer.next_number)
        assert buffer.put(entry(24))
        assert drain(buffer) == list(range(1, 25))
        buffer.journal.close()

    def test_a_disk_that_comes_and_goes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Far beyond the window nothing is refused while memory has room, and the order is one."""
        buffer = self.make_buffer(tmp_path, window=10, buffer_max_entries=1000)
        number = 0
        for _ in range(5):
            for _ in range(40):
                assert buffer.put(entry(number := number + 1))
            with monkeypatch.context() as patched:
                patched.setattr(Segment, "append", fail_with(errno.ENOSPC))
                for _ in range(30):
                    assert buffer.put(entry(number := number + 1))
            buffer.journal.look_after(buffer.next_number)
        assert buffer.memory_entries == 10 + 5 * 30
        assert not buffer.keeps_all
        assert drain(buffer) == list(range(1, 351))
        buffer.journal.close()

    def test_a_folder_that_is_swept_beyond_the_window(self, tmp_path: Path, folder: Path) -> None:
        """Nothing is refused, and all is in its order, on the disk again after a second."""
        buffer = self.make_buffer(tmp_path, window=10, buffer_max_entries=1000, journal_max_bytes=SMALL)
        for number in range(1, 41):
            buffer.put(entry(number, 10_000))
        shutil.rmtree(folder.parent)
        for number in range(41, 81):
            assert buffer.put(entry(number, 10_000)), "into a segment that cannot be made"
        assert buffer.journal.error is not None
        buffer.journal.look_after(buffer.next_number)
        assert buffer.put(entry(81))
        assert buffer.journal.error is None
        assert on_disk(folder)[-1] == 81
        assert drain(buffer) == list(range(1, 82))
        buffer.journal.close()

    def test_what_cannot_be_read_any_more_stops_nothing(self, tmp_path: Path, folder: Path) -> None:
        """A file that somebody has cut: the rest of it is counted as lost, what comes after it is sent."""
        buffer = self.make_buffer(tmp_path, window=10, max_batch_entries=50)
        for number in range(1, 101):
            buffer.put(entry(number))
        os.truncate(folder / f"{1:020}.entries", 0)
        buffer.journal.look_after(buffer.next_number)
        batches = []
        while (batch := buffer.take()) is not None:
            batches.append(batch)
            buffer.sent(batch)
            buffer.settle(batch.first, batch.count)
        assert [(batch.first, len(batch), batch.missing) for batch in batches] == [(1, 10, 0), (11, 0, 90)]
        assert (buffer.held, buffer.held_bytes, buffer.settled) == (0, 0, 100)
        assert buffer.put(entry(101))
        assert buffer.memory_entries == 1
        assert drain_from(buffer, 101) == [101]
        buffer.journal.close()

    def make_buffer(self, tmp_path: Path, *, window: int, **settings: Any) -> Buffer:
        """A buffer that has more room in memory when the disk takes nothing."""
        chosen = Settings(**settings)
        buffer = Buffer(chosen, "p", partial(Journal, destination_in(tmp_path), "p", chosen))
        buffer._window_entries = window
        return buffer


def drain_from(buffer: Buffer, number: int) -> list[int]:
    """The rest, whose first entry has this number."""
    batch = buffer.take()
    assert batch is not None
    assert batch.first == number
    buffer.sent(batch)
    buffer.settle(batch.first, batch.count)
    return numbers_of(batch.entries)


def test_two_threads_do_not_open_it_twice(make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first call makes the folder, the thread that looks after it leaves it alone."""
    journal = make_journal()
    open_files = Journal._open_files
    opened: list[object] = []

    def opening(self: Journal) -> Any:
        journal.look_after(lambda: 1)
        opened.append(open_files(self))
        return opened[-1]

    monkeypatch.setattr(Journal, "_open_files", opening)
    assert log(journal, 1, 2) == [True, True]
    journal.look_after(lambda: 3)
    assert (len(opened), journal.error) == (1, None)
