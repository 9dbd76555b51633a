"""What dead processes leave: shipped by exactly one living process, whatever state it is in."""

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from children import in_fork, run_script
from doubles import DEADLINE_SECONDS, ManualClock
from execution_logger import Settings
from execution_logger.entry.batch import Batch
from execution_logger.journal import Adoption, Journal
from execution_logger.journal import adoption as adoption_module
from execution_logger.journal import files as files_module
from execution_logger.journal import journal as journal_module
from execution_logger.journal.adoption import AdoptedJournal
from execution_logger.journal.directory import DAMAGED_NAME, LOCK_NAME, lock_folder
from execution_logger.journal.files import set_aside
from execution_logger.journal.segment import Segment, line_of
from execution_logger.journal.survey import survey
from journals import DyingProcess, destination_in, entries, entry, numbers_of, write_segment

MARKS = "marks"
MINUTES_AGO = -300.0
MakeAdoption = Callable[..., Adoption]


@pytest.fixture
def clock() -> ManualClock:
    """The time at which an adoption looks."""
    return ManualClock()


@pytest.fixture
def make_adoption(tmp_path: Path, clock: ManualClock) -> Iterator[MakeAdoption]:
    """Makes adoptions of the test's folder; closes them."""
    with ExitStack() as stack:

        def make(name: str = "living", **settings: Any) -> Adoption:
            adoption = Adoption(destination_in(tmp_path), name, Settings(**settings), clock)
            stack.callback(adoption.close)
            return adoption

        yield make


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten entries in each."""
    monkeypatch.setattr(journal_module, "_SEGMENT_BYTES", 10 * len(line_of(entry(1))))


def make_old(folder: Path) -> None:
    """Let a folder be minutes old."""
    then = folder.stat().st_mtime + MINUTES_AGO
    os.utime(folder, (then, then))


def ship(journal: AdoptedJournal, *, limit: int = 1000) -> list[Batch]:
    """Send and settle all that it has; fail when it goes on for ever."""
    batches: list[Batch] = []
    while (batch := journal.take()) is not None:
        assert len(batches) < limit
        assert journal.take() is batch
        journal.sent(batch)
        journal.settle(batch.first, batch.count)
        batches.append(batch)
    return batches


def numbers_in(batches: list[Batch]) -> list[int]:
    """The numbers of all their entries."""
    return numbers_of(each for batch in batches for each in batch.entries)


class TestLooking:
    """Which folders are adopted, and when."""

    def test_nothing_where_there_is_nothing(self, make_adoption: MakeAdoption) -> None:
        """Not even a folder: the first process of a machine has nobody to inherit from."""
        assert make_adoption().look() == []

    def test_a_dead_process_leaves_its_entries_to_the_first_one_that_looks(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """In their order and under its name; then the folder is gone."""
        folder = DyingProcess(tmp_path).log(120).die()
        adoption = make_adoption(max_batch_entries=50)
        (journal,) = adoption.look()
        assert (journal.process, journal.pending, journal.unconfirmed) == ("dead", 120, [])
        batches = ship(journal)
        assert [(batch.process, batch.first, batch.count) for batch in batches] == [
            ("dead", 1, 50), ("dead", 51, 50), ("dead", 101, 20),
        ]  # fmt: skip
        assert numbers_in(batches) == list(range(1, 121))
        adoption.remove_done()
        assert not folder.exists()
        assert adoption.journals == []

    def test_a_living_process_keeps_its_own(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """Its lock is held as long as it lives, in whichever state it is."""
        process = DyingProcess(tmp_path, "other").log(3)
        make_old(process.folder)
        adoption = make_adoption()
        assert adoption.look() == []
        process.die()
        assert [journal.process for journal in adoption.look()] == ["other"]

    def test_its_own_folder_is_none_of_them(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """Also when it is not locked: its name is enough."""
        DyingProcess(tmp_path, "living").log(3).die()
        assert make_adoption("living").look() == []

    def test_who_has_adopted_keeps_it_from_others(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """Until it leaves the rest to them, or dies."""
        DyingProcess(tmp_path).log(3).die()
        first, second = make_adoption("first"), make_adoption("second")
        assert len(first.look()) == 1
        assert second.look() == []
        assert first.look() == [], "and not twice by the same one"
        first.close()
        assert len(second.look()) == 1

    def test_four_at_a_time_the_oldest_first(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """Open files are few; the next ones follow as soon as there is room."""
        for age, name in enumerate("fdbeca"):
            folder = DyingProcess(tmp_path, name).log(1).die()
            os.utime(folder, (2000 - age, 2000 - age))
        adoption = make_adoption()
        assert [journal.process for journal in adoption.look()] == ["a", "c", "e", "b"]
        assert adoption.look() == []
        ship(adoption.journals[1])
        adoption.remove_done()
        assert adoption.seconds_until_look() == 0
        assert [journal.process for journal in adoption.look()] == ["d"]

    def test_it_looks_from_time_to_time(self, make_adoption: MakeAdoption, clock: ManualClock) -> None:
        """At once at first, then every ten seconds."""
        adoption = make_adoption()
        assert adoption.seconds_until_look() == 0
        adoption.look()
        assert adoption.seconds_until_look() == 10
        clock.advance(10)
        assert adoption.seconds_until_look() == 0

    def test_young_folders_without_entries_are_left_alone(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """A process makes its folder first, and locks it then; old ones are tidied up."""
        folder = destination_in(tmp_path).folder / "young"
        folder.mkdir(parents=True)
        adoption = make_adoption()
        assert adoption.look() == []
        make_old(folder)
        (journal,) = adoption.look()
        assert journal.is_done
        assert journal.take() is None
        adoption.remove_done()
        assert not folder.exists()

    def test_files_beside_the_folders_are_none_of_them(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """The destination's description and damaged lines are there."""
        DyingProcess(tmp_path).log(1).die()
        folder = destination_in(tmp_path).folder
        set_aside(folder, [b"?"])
        assert sorted(path.name for path in folder.iterdir()) == ["damaged.ndjson", "dead", "destination"]
        assert [journal.process for journal in make_adoption().look()] == ["dead"]

    def test_a_folder_that_cannot_be_read_stops_no_other(
        self, tmp_path: Path, make_adoption: MakeAdoption, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A folder in the place of a segment is as good as a disk that fails; said once, and tried again."""
        folder = DyingProcess(tmp_path, "broken").log(1).die()
        DyingProcess(tmp_path, "other").log(1).die()
        (folder / f"{2:020}.entries").mkdir()
        adoption = make_adoption()
        for _ in range(2):
            for journal in adoption.look():
                try:
                    assert numbers_in(ship(journal)) == [1]
                except PermissionError as error:
                    adoption.leave(journal, error)
            assert [journal.process for journal in adoption.journals] == ["other"]
        (record,) = caplog.records
        assert record.getMessage().count(str(folder)) == 2
        (folder / f"{2:020}.entries").rmdir()
        make_old(folder)
        (journal,) = adoption.look()
        assert (journal.process, ship(journal), journal.is_done) == ("broken", [], True)


class TestRemoving:
    """What is deleted, and what is not."""

    def test_foreign_files_are_not_ours_to_delete(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """Somebody keeps notes or copies there: our files are gone, theirs are not."""
        folder = DyingProcess(tmp_path).log(2).die()
        (folder / "notes.txt").write_text("important")
        (folder / "copy.ndjson").write_bytes(entry(1) + b"\n")
        (folder / "folder").mkdir()
        adoption = make_adoption()
        (journal,) = adoption.look()
        assert numbers_in(ship(journal)) == [1, 2]
        adoption.remove_done()
        assert {path.name for path in folder.iterdir()} == {"notes.txt", "copy.ndjson", "folder"}

    def test_segments_are_deleted_as_soon_as_all_in_them_is_safe(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """A large backlog gives its room back while it is shipped."""
        settings = Settings(journal_max_bytes=1_048_576)
        process = DyingProcess(tmp_path, settings=settings)
        for number in range(1, 13):
            assert process.journal.append(number, entry(number, 60_000))
        process.die()
        (journal,) = make_adoption(batch_size=1, max_batch_entries=1).look()
        sizes = []
        while batch := journal.take():
            journal.sent(batch)
            journal.settle(batch.first, batch.count)
            sizes.append(len(list(process.folder.glob("*.entries"))))
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] > sizes[-1]

    def test_nothing_is_deleted_before_it_is_safe(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """A batch that was sent, and not confirmed, is still the disk's."""
        folder = DyingProcess(tmp_path).log(2).die()
        adoption = make_adoption()
        (journal,) = adoption.look()
        batch = journal.take()
        assert batch is not None
        journal.sent(batch, awaited_since=5.0)
        adoption.remove_done()
        assert (journal.is_done, journal.has_more) == (False, False)
        assert journal.keeps(1, 2)
        assert journal.read_again(1, 2) == (entry(1), entry(2))
        adoption.close()
        assert folder.exists()
        (again,) = make_adoption("next").look()
        assert [(mark.id, mark.first, mark.count) for mark in again.unconfirmed] == [(batch.id, 1, 2)]
        assert again.take() is None


class TestMarks:
    """What the dead process had sent already."""

    def test_batches_that_were_sent_are_followed_and_not_sent_again(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """Under their ids; the others are sent, under new ones."""
        DyingProcess(tmp_path).log(30).send(1, 10).send(11, 20).settle(10).die()
        (journal,) = make_adoption().look()
        assert [(mark.id, mark.first, mark.count, mark.at) for mark in journal.unconfirmed] == [
            ("batch-11", 11, 10, 1011.0)
        ]
        assert (journal.pending, journal.has_more) == (20, True)
        assert numbers_in(ship(journal)) == list(range(21, 31))
        assert not journal.is_done
        journal.settle(11, 10)
        assert journal.is_done

    def test_without_marks_all_is_sent_once_more(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """They save work, and nothing depends on them."""
        folder = DyingProcess(tmp_path).log(3).send(1, 3).die()
        (folder / MARKS).unlink()
        (journal,) = make_adoption().look()
        assert journal.unconfirmed == []
        assert numbers_in(ship(journal)) == [1, 2, 3]

    def test_behind_a_mark_that_is_missing_all_is_sent_once_more(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """A disk that was full for a moment has not taken it."""
        folder = DyingProcess(tmp_path).log(30).send(1, 10).send(11, 20).send(21, 30).die()
        lines = (folder / MARKS).read_bytes().splitlines(keepends=True)
        (folder / MARKS).write_bytes(lines[0] + lines[2])
        (journal,) = make_adoption().look()
        assert [mark.id for mark in journal.unconfirmed] == ["batch-1"]
        assert numbers_in(ship(journal)) == list(range(11, 31))

    @pytest.mark.parametrize("cut", range(1, 60, 7))
    def test_a_torn_mark_is_none(self, tmp_path: Path, make_adoption: MakeAdoption, cut: int) -> None:
        """The process was killed while it wrote; those before count."""
        folder = DyingProcess(tmp_path).log(20).send(1, 10).send(11, 20).die()
        content = (folder / MARKS).read_bytes()
        (folder / MARKS).write_bytes(content[:-cut])
        (journal,) = make_adoption().look()
        known = 10 if cut > 1 else 20  # a line without its end is complete
        assert [mark.first for mark in journal.unconfirmed] == [1, 11][: known // 10]
        assert numbers_in(ship(journal)) == list(range(known + 1, 21))

    @pytest.mark.parametrize(
        "mark",
        [
            {"mark": "sent", "id": "x", "first": 1, "count": 0, "at": 0},
            {"mark": "sent", "id": "x", "first": 1, "count": -5, "at": 0},
            {"mark": "sent", "id": "x", "first": -3, "count": 10, "at": 0},
            {"mark": "sent", "id": "x", "first": 2, "count": 1, "at": 0},
            {"mark": "sent", "id": "x", "first": 1, "count": 1.5, "at": 0},
            {"mark": "settled", "number": -1},
            {"mark": "settled"},
            {"mark": "other", "number": 3},
            ["settled", 3],
            3,
            "\ud800",
        ],
    )
    def test_marks_that_make_no_sense_are_passed_over(
        self, tmp_path: Path, make_adoption: MakeAdoption, mark: object
    ) -> None:
        """As if they were not there: everything is sent."""
        folder = DyingProcess(tmp_path).log(3).die()
        (folder / MARKS).write_bytes(b"\xff\xfe\n\n" + line_of(json.dumps(mark).encode()))
        (journal,) = make_adoption().look()
        assert numbers_in(ship(journal)) == [1, 2, 3]
        assert journal.is_done

    def test_marks_that_contradict_each_other(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """Of two that begin alike one is followed; what the highest settled mark covers is safe."""
        folder = DyingProcess(tmp_path).log(10).die()
        marks = [
            {"mark": "settled", "number": 4},
            {"mark": "settled", "number": 2},
            {"mark": "sent", "id": "a", "first": 1, "count": 3, "at": 0},
            {"mark": "sent", "id": "b", "first": 5, "count": 2, "at": 0},
            {"mark": "sent", "id": "c", "first": 5, "count": 4, "at": 0},
        ]
        (folder / MARKS).write_bytes(b"".join(line_of(json.dumps(mark).encode()) for mark in marks))
        (journal,) = make_adoption().look()
        assert [mark.id for mark in journal.unconfirmed] == ["b"]
        assert numbers_in(ship(journal)) == [7, 8, 9, 10]
        journal.settle(5, 2)
        assert journal.is_done


class TestGaps:
    """Entries that were in the dead process's memory only."""

    def test_in_the_middle(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """What is on the disk is shipped under its own numbers."""
        DyingProcess(tmp_path).log(3).log_in_memory_only(4).log(3).die()
        (journal,) = make_adoption().look()
        batches = ship(journal)
        assert [(batch.first, batch.count) for batch in batches] == [(1, 3), (8, 3)]
        assert numbers_in(batches) == [1, 2, 3, 8, 9, 10]
        assert journal.is_done

    def test_at_the_end(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """The last segment was begun, and nothing came any more: it is done, and does not go on for ever."""
        folder = DyingProcess(tmp_path).log(3).log_in_memory_only(4).die()
        adoption = make_adoption()
        (journal,) = adoption.look()
        assert numbers_in(ship(journal)) == [1, 2, 3]
        assert (journal.is_done, journal.has_more) == (True, False)
        adoption.remove_done()
        assert not folder.exists()

    def test_at_the_beginning(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """A journal that was emptied begins where it went on, also without its marks."""
        process = DyingProcess(tmp_path).log(3).settle(3)
        process.journal.empty()
        folder = process.log(2).die()
        (folder / MARKS).unlink()
        (journal,) = make_adoption().look()
        assert journal.pending == 2, "this is what people are told"
        assert numbers_in(ship(journal)) == [4, 5]
        assert journal.is_done

    def test_an_idle_process_that_was_killed_without_its_marks(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """All was stored, and the file that says so is gone: nothing is left to do."""
        process = DyingProcess(tmp_path).log(3).settle(3)
        process.journal.empty()
        (process.die() / MARKS).unlink()
        (journal,) = make_adoption().look()
        assert (journal.take(), journal.is_done) == (None, True)

    def test_a_batch_that_was_sent_from_memory_is_not_made_of_others(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """Its entries are lost with the process, unless it arrives; those behind it are not its own."""
        DyingProcess(tmp_path).log(3).log_in_memory_only(2).log(3).send(1, 3).send(4, 5).send(6, 7).die()
        (journal,) = make_adoption().look()
        assert journal.unconfirmed == [], "a gap in the numbers may be damage: all is sent once more"
        while batch := journal.take():
            journal.sent(batch, awaited_since=5.0)
        assert not journal.keeps(4, 2)
        assert journal.read_again(4, 2) == ()
        assert numbers_of(journal.read_again(3, 4)) == [3, 6]
        assert numbers_of(journal.read_again(6, 2)) == [6, 7]


class TestDamage:
    """Lines that are no entries any more stop nothing."""

    def test_a_torn_last_line_does_not_count(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """Its call never returned."""
        folder = DyingProcess(tmp_path).log(3).die()
        with (folder / f"{1:020}.entries").open("ab") as file:
            file.write(entry(4)[:-5])
        (journal,) = make_adoption().look()
        assert numbers_in(ship(journal)) == [1, 2, 3]
        assert journal.is_done

    def test_damaged_lines_are_kept_aside(
        self, tmp_path: Path, make_adoption: MakeAdoption, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Somebody may read them yet; the numbers of the others stay, and one error tells."""
        folder = DyingProcess(tmp_path).log(5).die()
        path = folder / f"{1:020}.entries"
        lines = path.read_bytes().splitlines()
        lines[1] = b"\0\0\0\xff"
        lines[3] = lines[3].replace(b"task_id", b"tusk_id")
        path.write_bytes(b"\n".join(lines) + b"\n")
        (journal,) = make_adoption().look()
        (batch,) = ship(journal)
        assert numbers_of(batch.entries) == [1, 3, 5]
        assert (batch.first, batch.count, batch.missing) == (1, 5, 2)
        assert journal.is_done
        damaged = folder.parent / DAMAGED_NAME
        assert damaged.read_bytes().splitlines() == [lines[1], lines[3]]
        assert damaged.stat().st_mode & 0o777 == 0o600
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert record.getMessage() == f"damaged lines of {folder}, which are in damaged.ndjson now: 2"

    @pytest.mark.parametrize("room", [0, 5])
    def test_damaged_lines_that_cannot_be_kept_are_lost(
        self,
        tmp_path: Path,
        make_adoption: MakeAdoption,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
        room: int,
    ) -> None:
        """The disk is full, at once or in the middle: the error says so."""
        folder = DyingProcess(tmp_path).log(2).die()
        path = folder / f"{1:020}.entries"
        path.write_bytes(b"0123456789\n" + path.read_bytes())
        (journal,) = make_adoption().look()
        write = os.write

        def write_some(fd: int, data: bytes) -> int:
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(fd, data[:room])

        monkeypatch.setattr(files_module, "os", SimpleNamespace(write=write_some, close=os.close))
        assert numbers_in(ship(journal)) == [1, 2]
        (record,) = caplog.records
        assert record.getMessage() == (
            f"damaged lines of {folder}, which are lost, as the disk takes nothing: 1"
        )

    def test_a_line_that_is_nested_too_deep_is_damaged(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """However deep, of the version before, which had no checksums: it stops nothing."""
        folder = DyingProcess(tmp_path).log(2).die()
        path = (folder / f"{1:020}.entries").rename(folder / f"{1:020}.ndjson")
        path.write_bytes(
            entry(1)[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n" + entry(2) + b"\n"
        )
        (journal,) = make_adoption().look()
        assert numbers_in(ship(journal)) == [2]
        assert journal.is_done

    def test_a_segment_of_foreign_bytes(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """All of its lines are kept aside, and those of the other segments shipped."""
        folder = DyingProcess(tmp_path).log(3).die()
        (folder / f"{4:020}.entries").write_bytes(bytes(range(256)) * 9000)
        write_segment(folder, 9004, entries(9004, 9005))
        (journal,) = make_adoption().look()
        assert numbers_in(ship(journal)) == [1, 2, 3, 9004, 9005]
        assert journal.is_done
        assert (folder.parent / DAMAGED_NAME).stat().st_size > 2_000_000

    def test_lines_too_many_cost_no_entry_however_often_it_is_adopted(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """Their numbers are not those of the files any more: the next one knows nothing of the new ones."""
        folder = DyingProcess(tmp_path).log(0).die()
        folder.mkdir(parents=True)
        for first in (1, 4, 7):
            with write_segment(folder, first, entries(first, first + 2)).open("ab") as file:
                file.write(b"?\n" * (first == 1))
        adoption = make_adoption("first", batch_size=1, max_batch_entries=1)
        (journal,) = adoption.look()
        sent: list[Batch] = []
        while numbers_in(sent)[-1:] != [6]:
            batch = journal.take()
            assert batch is not None
            journal.sent(batch)
            journal.settle(batch.first, batch.count)
            sent.append(batch)
        adoption.close()
        (journal,) = make_adoption("second").look()
        assert numbers_in(sent) == [1, 2, 3, 4, 5, 6]
        assert numbers_in(ship(journal)) == [7, 8, 9]

    def test_a_segment_that_was_cut_meanwhile(
        self, tmp_path: Path, make_adoption: MakeAdoption, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What cannot be read any more is said, counted, and not waited for."""
        folder = DyingProcess(tmp_path).log(3).log_in_memory_only(0).die()
        write_segment(folder, 4, entries(4, 5))
        (journal,) = make_adoption(batch_size=1, max_batch_entries=1).look()
        batch = journal.take()
        assert batch is not None
        journal.sent(batch, awaited_since=5.0)
        os.truncate(folder / f"{1:020}.entries", 0)
        assert numbers_in(ship(journal)) == [4, 5]
        journal.settle(1, 1)
        assert journal.is_done
        assert "2 entries of a journal cannot be read any more" in caplog.text


_CHILD = """
    import sys
    from pathlib import Path
    from execution_logger import Settings
    from execution_logger.journal import Adoption
    from journals import destination_in

    adoption = Adoption(destination_in(Path(sys.argv[1])), "child", Settings())
    print("ready", flush=True)
    sys.stdin.readline()
    print(*(journal.process for journal in adoption.look()), flush=True)
    sys.stdin.readline()
"""


class TestVanishing:
    """Others tidy up while this process looks."""

    @pytest.mark.parametrize("moment", ["listed", "told apart", "locked"])
    def test_a_folder_that_vanishes_stops_no_other(
        self,
        tmp_path: Path,
        make_adoption: MakeAdoption,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        moment: str,
    ) -> None:
        """At whichever moment: the others are adopted, and nothing is said of it."""
        gone = DyingProcess(tmp_path, "a").log(1).die()
        DyingProcess(tmp_path, "b").log(1).die()
        owner, name = {
            "listed": (adoption_module, "check_folder"),
            "told apart": (Segment, "left_in"),
            "locked": (AdoptedJournal, "adopt"),
        }[moment]
        look = getattr(owner, name)

        def sweep(*arguments: Any) -> Any:
            if arguments[0] == gone:
                shutil.rmtree(gone, ignore_errors=True)
            return look(*arguments)

        monkeypatch.setattr(owner, name, sweep)
        assert [journal.process for journal in make_adoption().look()] == ["b"]
        assert caplog.records == []

    @pytest.mark.parametrize("name", ["9" * 5000, "٣" * 20, "1", f"{1:020}x"])
    def test_files_with_other_names_are_no_segments(
        self, tmp_path: Path, make_adoption: MakeAdoption, name: str
    ) -> None:
        """Whatever digits are in them."""
        folder = DyingProcess(tmp_path).log(2).die()
        with suppress(OSError):  # too long a name for most disks
            (folder / f"{name}.entries").write_bytes(b"?\n")
        (journal,) = make_adoption().look()
        assert numbers_in(ship(journal)) == [1, 2]

    def test_a_journal_that_cannot_be_read_is_left(
        self, tmp_path: Path, make_adoption: MakeAdoption, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With its lock free, for whoever looks next."""
        DyingProcess(tmp_path).log(2).die()

        def fail(*_: object) -> None:
            raise RuntimeError

        with monkeypatch.context() as patched:
            patched.setattr("execution_logger.journal.files.Marks.read", fail)
            with pytest.raises(RuntimeError):
                make_adoption("first").look()
        (journal,) = make_adoption("second").look()
        assert numbers_in(ship(journal)) == [1, 2]

    def test_those_that_cannot_be_read_take_no_places(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """However many there are, the others have their turn."""
        for name in "abcdef":
            folder = DyingProcess(tmp_path, name).log(1).die()
            if name != "f":
                (folder / LOCK_NAME).unlink()
                (folder / LOCK_NAME).mkdir()
            os.utime(folder, (1000 + ord(name), 1000 + ord(name)))
        adoption = make_adoption()
        adoption.look()
        assert [journal.process for journal in adoption.journals] == ["f"]


class TestTurns:
    """A large journal is read little by little."""

    @pytest.fixture
    def measured(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The first numbers of the segments that were measured."""
        numbers: list[int] = []
        measure = Segment.measure

        def measuring(segment: Segment) -> None:
            if not segment.is_measured:
                numbers.append(segment.first)
            measure(segment)

        monkeypatch.setattr(Segment, "measure", measuring)
        return numbers

    def test_nothing_is_read_before_its_turn(
        self, tmp_path: Path, make_adoption: MakeAdoption, small_segments: None, measured: list[int]
    ) -> None:
        """To adopt gigabytes costs nothing; each segment is read when all before it is sent."""
        DyingProcess(tmp_path).log(100).die()
        (journal,) = make_adoption(batch_size=1, max_batch_entries=5).look()
        assert measured == []
        assert journal.pending == 100
        assert measured == [91], "the last one tells where they end"
        while (batch := journal.take()) is not None:
            assert max(each for each in measured if each != 91) <= batch.first
            journal.sent(batch)
            journal.settle(batch.first, batch.count)
        assert sorted(measured) == list(range(1, 100, 10))
        assert journal.is_done

    def test_what_was_sent_already_is_found_out_step_by_step(
        self, tmp_path: Path, make_adoption: MakeAdoption, small_segments: None, measured: list[int]
    ) -> None:
        """One segment at a time, up to where the marks reach."""
        process = DyingProcess(tmp_path).log(100)
        for first in range(1, 50, 10):
            process.send(first, first + 9)
        process.die()
        (journal,) = make_adoption().look()
        steps = 0
        while not journal.begin():
            steps += 1
            assert len(measured) <= steps
        assert measured == [1, 11, 21, 31, 41]
        assert [mark.first for mark in journal.unconfirmed] == measured[:5]
        assert numbers_in(ship(journal)) == list(range(51, 101))

    def test_a_journal_of_many_segments_needs_few_descriptors(self, tmp_path: Path) -> None:
        """Four of them, and the process's own: a host with a low limit goes on."""
        output = run_script(
            """
            import resource, sys
            from functools import partial
            from pathlib import Path
            from execution_logger import Settings
            from execution_logger.journal import Adoption, Journal, journal
            from execution_logger.shipping.buffer import Buffer
            from journals import DyingProcess, destination_in, entry, numbers_of

            journal._SEGMENT_BYTES = 1000
            folder = Path(sys.argv[1])
            for name in "abcd":
                process = DyingProcess(folder, name)
                for _ in range(20):
                    process.log(100)
                    process.journal.look_after(lambda: process._number + 1)
                process.die()
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            settings, to = Settings(buffer_max_entries=10), destination_in(folder)
            buffer = Buffer(settings, "own", partial(Journal, to, "own", settings))
            for number in range(1, 2001):
                assert buffer.put(entry(number))
                if number % 100 == 0:
                    buffer.journal.look_after(buffer.next_number)
            print(buffer.journal.error, len(list(buffer.journal._folder.iterdir())) > 100)
            adoption = Adoption(to, "own", settings)
            sources = [buffer, *adoption.look()]
            found = {source.process: [] for source in sources}
            while batches := [(each, batch) for each in sources if (batch := each.take()) is not None]:
                for source, batch in batches:
                    found[source.process] += numbers_of(batch.entries)
                    source.sent(batch)
                    source.settle(batch.first, batch.count)
            found = found.values()
            print([len(each) for each in found], all(each == sorted(each) for each in found))
            adoption.remove_done()
            buffer.journal.close()
            print(*(path.name for path in to.folder.iterdir()))
            """,
            tmp_path,
        )
        assert output.splitlines() == ["None True", "[2000, 2000, 2000, 2000, 2000] True", "destination"]


def disown(path: Path) -> None:
    """Give a file or folder to another user; takes root."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(path, 65534, 65534, follow_symlinks=False)


class TestForeign:
    """What others have put there is neither shipped nor written to."""

    @pytest.mark.parametrize("what", ["destination", "process", "lock", "segment"])
    @pytest.mark.parametrize("how", ["another user's", "open to all", "a link"])
    def test_is_refused(
        self,
        tmp_path: Path,
        make_adoption: MakeAdoption,
        caplog: pytest.LogCaptureFixture,
        what: str,
        how: str,
    ) -> None:
        """With one warning, however often it is looked at; a link's target is left alone."""
        folder = DyingProcess(tmp_path).log(2).die()
        path = {
            "destination": folder.parent,
            "process": folder,
            "lock": folder / LOCK_NAME,
            "segment": folder / f"{1:020}.entries",
        }[what]
        if how == "another user's":
            disown(path)
        elif how == "open to all":
            path.chmod(0o777)
        else:
            target = path.rename(tmp_path / "elsewhere")
            path.symlink_to(target)
        before = content_of(tmp_path)
        adoption = make_adoption()
        for _ in range(2):
            for journal in adoption.look():
                with pytest.raises(PermissionError, match="not used") as refused:
                    journal.take()
                adoption.leave(journal, refused.value)
        assert adoption.journals == []
        assert content_of(tmp_path) == before
        # A link in the place of a process's folder is no folder: nothing says that it is one.
        assert len(caplog.records) == (0 if (what, how) == ("process", "a link") else 1)

    @pytest.mark.parametrize("name", [MARKS, DAMAGED_NAME, "probe"])
    def test_nothing_is_written_through_a_link(self, tmp_path: Path, name: str) -> None:
        """Nor is a pipe waited for, which nobody reads."""
        precious = tmp_path / "precious"
        precious.write_text("precious")
        process = DyingProcess(tmp_path).log(2)
        folder = process.folder.parent if name == DAMAGED_NAME else process.folder
        for make in (lambda path: path.symlink_to(precious), os.mkfifo):
            (folder / name).unlink(missing_ok=True)
            make(folder / name)
            process.settle(1)
            process.journal._suspend(OSError("the disk is full"))
            process.journal.look_after(lambda: 3)
            assert not set_aside(process.folder.parent, [b"?"]) or name != DAMAGED_NAME
        assert precious.read_text() == "precious"
        process.die()

    def test_what_is_the_groups_or_roots_is_ours(self, tmp_path: Path, make_adoption: MakeAdoption) -> None:
        """A volume in Kubernetes gives its group that right; and root decides anyway."""
        folder = DyingProcess(tmp_path).log(2).die()
        for path in (folder.parent, folder, *folder.iterdir()):
            path.chmod(path.stat().st_mode | 0o060)
        with pytest.MonkeyPatch.context() as patched:
            if os.geteuid() == 0:
                patched.setattr(os, "geteuid", lambda: 1000)
            (journal,) = make_adoption().look()
            assert numbers_in(ship(journal)) == [1, 2]

    def test_a_foreign_destination_costs_the_host_its_journal_only(self, tmp_path: Path) -> None:
        """Its entries are in memory, and the reason is told."""
        to = destination_in(tmp_path)
        to.folder.mkdir()
        to.folder.chmod(0o777)
        journal = Journal(to, "living", Settings(), threading.RLock())
        assert not journal.append(1, entry(1))
        assert "anybody may write to it (mode 777)" in str(journal.error)
        assert list(to.folder.iterdir()) == []
        to.folder.chmod(0o700)
        journal.look_after(lambda: 2)
        assert journal.append(2, entry(2))
        journal.abandon()

    def test_nobody_else_is_surveyed(self, tmp_path: Path) -> None:
        """Commands show what this user's processes have, and read nothing through a link."""
        DyingProcess(tmp_path, "mine").log(2).die()
        foreign = DyingProcess(tmp_path, "foreign").log(2).die()
        foreign.chmod(0o777)
        (tmp_path / "logs-2").symlink_to(tmp_path / "logs-1")
        (tmp_path / "secret").write_text("secret")
        (foreign.parent / "destination").unlink()
        (foreign.parent / "destination").symlink_to(tmp_path / "secret")
        (found,) = survey(tmp_path)
        assert [journal.process for journal in found.journals] == ["mine"]
        assert found.description == ""


def content_of(folder: Path) -> dict[str, tuple[int, int]]:
    """What is in it, with inode and size."""
    return {
        str(path): (path.lstat().st_ino, path.lstat().st_size)
        for path in folder.rglob("*")
        if not path.is_dir()
    }


class TestProcesses:
    """Real ones."""

    def test_exactly_one_of_several_adopts_each_journal(self, tmp_path: Path) -> None:
        """They start at the same moment, as the children of a restarted server do."""
        names = [f"dead-{number}" for number in range(6)]
        for name in names:
            DyingProcess(tmp_path, name).log(1).die()
        command = [sys.executable, "-c", textwrap.dedent(_CHILD), str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with ExitStack() as stack:
            children = []
            for _ in range(3):
                child = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
                )
                stack.enter_context(child)
                stack.callback(child.kill)
                children.append(child)
            answers = [ask(child, "") for child in children]
            for child in children:
                ask(child, "go", wait=False)
            answers = [ask(child, "") for child in children]
        adopted = [name for answer in answers for name in answer.split()]
        assert sorted(adopted) == names

    def test_a_killed_process_is_inherited_from_at_once(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """Killed in the middle of its calls, with whatever it has locked."""
        run_script(
            """
            import os, signal, sys
            from pathlib import Path
            from journals import DyingProcess
            DyingProcess(Path(sys.argv[1])).log(100)
            os.kill(os.getpid(), signal.SIGKILL)
            """,
            tmp_path,
            code=-9,
        )
        (journal,) = make_adoption().look()
        assert numbers_in(ship(journal)) == list(range(1, 101))

    def test_a_forked_child_does_not_keep_the_lock_of_its_parent(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """The child lives on after the parent's death, and lets go of what it has inherited."""
        process = DyingProcess(tmp_path).log(3)
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            process.journal.abandon()
            os.write(writing, b"1")
            threading.Event().wait(DEADLINE_SECONDS)
            os._exit(0)
        try:
            assert os.read(reading, 1)
            assert make_adoption("second").look() == [], "the parent lives, and has its lock"
            process.die()
            assert [journal.process for journal in make_adoption().look()] == ["dead"]
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            os.close(reading)
            os.close(writing)

    def test_a_forked_child_does_not_end_the_lock_of_its_parent(
        self, tmp_path: Path, make_adoption: MakeAdoption
    ) -> None:
        """What the child closes is its own."""
        process = DyingProcess(tmp_path).log(3)
        adopting = make_adoption("parent")
        DyingProcess(tmp_path, "earlier").log(1).die()
        assert [journal.process for journal in adopting.look()] == ["earlier"]

        def let_go() -> None:
            process.journal.abandon()
            adopting.close()

        in_fork(let_go)
        assert make_adoption().look() == []
        process.die()


def ask(child: "subprocess.Popen[str]", line: str, *, wait: bool = True) -> str:
    """Write a line to a child, if there is one, and read its answer."""
    assert child.stdin is not None
    assert child.stdout is not None
    if line:
        child.stdin.write(line + "\n")
        child.stdin.flush()
    return child.stdout.readline() if wait else ""


def test_a_lock_whose_file_was_deleted_is_none(tmp_path: Path) -> None:
    """Who is done deletes it; whoever opened it just before must not believe to have the folder."""
    fd = lock_folder(tmp_path)
    assert fd is not None
    try:
        assert lock_folder(tmp_path) is None
        (tmp_path / LOCK_NAME).unlink()
        other = lock_folder(tmp_path)
        assert other is not None, "a new file is another lock"
        os.close(other)
    finally:
        os.close(fd)


def test_a_folder_that_is_gone_is_no_error(
    tmp_path: Path, make_adoption: MakeAdoption, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process was faster, and is done with it already."""
    adoption = make_adoption()
    folder = DyingProcess(tmp_path).log(1).die()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(adoption, "_left_folders", lambda: iter([folder]))
        assert adoption.look() == []
    assert caplog.records == []


def test_the_entries_of_a_journal_are_those_that_were_logged(
    tmp_path: Path, make_adoption: MakeAdoption
) -> None:
    """Byte for byte, through segments, batches and the bounds of messages."""
    process = DyingProcess(tmp_path, settings=Settings(journal_max_bytes=1_048_576))
    expected = [entry(number, number * 37 % 5000) for number in range(1, 201)]
    for number, each in enumerate(expected, 1):
        assert process.journal.append(number, each)
    process.die()
    (journal,) = make_adoption(max_entry_bytes=8000, max_batch_bytes=8000, max_batch_entries=50).look()
    batches = ship(journal)
    assert [each for batch in batches for each in batch.entries] == expected
    assert all(batch.size_bytes <= 8000 for batch in batches)
