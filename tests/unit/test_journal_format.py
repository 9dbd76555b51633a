"""The format of the journal: what docs/JOURNAL_FORMAT.md says of it, damage, and the format before it."""

import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from anything import EXAMPLES
from documents import Document
from execution_logger import Settings
from execution_logger.entry.batch import Batch
from execution_logger.journal import Adoption, Journal
from execution_logger.journal.adoption import AdoptedJournal
from execution_logger.journal.directory import DAMAGED_NAME, lock_folder
from execution_logger.journal.segment import line_of
from execution_logger.journal.survey import survey
from journals import (
    DyingProcess,
    destination_in,
    entries,
    entry,
    numbers_of,
    write_segment,
)

FOUR = entries(1, 4)


@pytest.fixture(scope="module")
def examples() -> dict[str, bytes]:
    """The files whose bytes the page shows, by their names."""
    files: dict[str, bytes] = defaultdict(bytes)
    for block in Document("docs/JOURNAL_FORMAT.md").blocks:
        if block.language == "text":
            for name, shown in re.findall(r"^([\w.]+): (.*)$", block.code, re.MULTILINE):
                files[name] += shown.replace("⇥", "\t").replace("⏎", "\n").encode()
    return files


def adopted(folder: Path, process: str = "living") -> AdoptedJournal:
    """The one journal that a dead process has left there."""
    (journal,) = Adoption(destination_in(folder), process, Settings()).look()
    return journal


def ship(journal: AdoptedJournal) -> list[Batch]:
    """Send and settle everything."""
    batches = []
    while (batch := journal.take()) is not None:
        journal.sent(batch)
        journal.settle(batch.first, batch.count)
        batches.append(batch)
    return batches


def shipped(folder: Path) -> list[bytes]:
    """The entries that are shipped of what a dead process has left; the journal is let go of."""
    journal = adopted(folder)
    try:
        return [each for batch in ship(journal) for each in batch.entries]
    finally:
        journal.close()


def ids_of(found: list[bytes]) -> list[int]:
    """The last digits of entries' ids."""
    return [int(json.loads(each)["id"][-1]) for each in found]


class TestThePage:
    """Its examples are what the code reads and writes."""

    def test_a_journal_made_by_hand_is_read(self, tmp_path: Path, examples: dict[str, bytes]) -> None:
        """Of the page's bytes: the rest is shipped, and what was sent is known."""
        folder = destination_in(tmp_path).folder / "by-hand"
        folder.mkdir(parents=True)
        for name in ("00000000000000000001.entries", "00000000000000000004.entries", "marks"):
            (folder / name).write_bytes(examples[name])
        journal = adopted(tmp_path)
        (mark,) = journal.unconfirmed
        assert (mark.id[-2:], mark.first, mark.count) == ("bb", 3, 1)
        assert journal.pending == 2
        assert ids_of(list(journal.read_again(3, 1))) == [3]
        assert [each for batch in ship(journal) for each in batch.entries] == [
            examples["00000000000000000004.entries"].partition(b"\t")[0]
        ]
        journal.settle(3, 1)
        assert journal.is_done
        assert journal.remove()

    def test_the_code_writes_the_same(self, tmp_path: Path, examples: dict[str, bytes]) -> None:
        """Byte by byte, under the same names."""
        journal = Journal(destination_in(tmp_path), "p", Settings(), threading.RLock())
        lines = examples["00000000000000000001.entries"].splitlines()
        for number, line in enumerate(lines, 1):
            assert journal.append(number, line.partition(b"\t")[0])
        for first, count, end, at in ((1, 2, "aa", 1795313633.5), (3, 1, "bb", 1795313634.5)):
            entries_sent = tuple(lines[first - 1 : first - 1 + count])
            batch = Batch(entries_sent, f"01936f00-0000-7000-8000-0000000000{end}", process="p", first=first)
            journal.mark_sent(batch, at)
        journal.settle(2)
        folder = destination_in(tmp_path).folder / "p"
        written = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert written.pop("lock") == b""
        assert written == {name: examples[name] for name in ("00000000000000000001.entries", "marks")}
        assert lock_folder(folder) is None, "its process lives"
        journal.abandon()

    def test_the_earlier_format_is_read(self, tmp_path: Path, examples: dict[str, bytes]) -> None:
        """As the page shows it."""
        folder = destination_in(tmp_path).folder / "before"
        folder.mkdir(parents=True)
        for name in ("00000000000000000001.ndjson", "marks.ndjson"):
            (folder / name).write_bytes(examples[name])
        assert ids_of(shipped(tmp_path)) == [1]

    def test_a_program_of_the_version_before_sees_no_segment(self, tmp_path: Path) -> None:
        """It looks for these names only, and deletes no folder that is not empty."""
        folder = DyingProcess(tmp_path).log(3).send(1, 2).die()
        names = [path.name for path in folder.iterdir()]
        assert not any(re.fullmatch(r"[0-9]{20}\.ndjson|marks\.ndjson", name) for name in names)


def changed(data: bytes, at: int, byte: int) -> bytes:
    """The same with another byte at one place."""
    at %= len(data)
    return data[:at] + bytes([byte]) + data[at + 1 :]


def flips(data: bytes) -> Iterator[bytes]:
    """The same with each of its bits flipped in turn."""
    for at in range(len(data)):
        for bit in range(8):
            yield changed(data, at, data[at] ^ 1 << bit)


class TestFlippedBits:
    """What is delivered is what was recorded, whatever becomes of the disk."""

    @given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
    @hypothesis_settings(max_examples=10 * EXAMPLES)
    def test_no_byte_that_changes_changes_an_entry(
        self, tmp_path_factory: pytest.TempPathFactory, at: int, byte: int
    ) -> None:
        """Lines that touch it are set aside and the others shipped; a line break may come or go, too."""
        folder = tmp_path_factory.mktemp("flip")
        process = destination_in(folder).folder / "dead"
        process.mkdir(parents=True)
        path = write_segment(process, 1, FOUR)
        data = path.read_bytes()
        path.write_bytes(changed(data, at, byte))
        found = shipped(folder)
        assert set(found) <= set(FOUR)
        assert len(found) >= len(FOUR) - 2
        damaged = (process.parent / DAMAGED_NAME).exists()
        assert damaged or found == FOUR or at % len(data) == len(data) - 1, "it is said"

    def test_each_bit_of_a_line(self, tmp_path: Path) -> None:
        """All of them, the checksum's own included: the line is set aside as it is, and counted."""
        process = destination_in(tmp_path).folder / "dead"
        process.mkdir(parents=True)
        path = write_segment(process, 1, [])
        whole = line_of(entry(1))[:-1]
        lines = [line for line in flips(whole) if b"\n" not in line]
        path.write_bytes(b"\n".join([*lines, whole, b""]))
        assert shipped(tmp_path) == [entry(1)]
        assert (process.parent / DAMAGED_NAME).read_bytes() == b"\n".join([*lines, b""])
        (found,) = survey(tmp_path)
        assert found.damaged_lines == len(lines)

    def test_each_bit_of_the_marks(self, tmp_path: Path) -> None:
        """None lets an entry count as stored that is not."""
        folder = DyingProcess(tmp_path).log(10).send(1, 2).settle(2).die()
        marks = (folder / "marks").read_bytes()
        for harmed in flips(marks):
            (folder / "marks").write_bytes(harmed)
            journal = adopted(tmp_path)
            try:
                assert journal.pending in (8, 10)
                batch = journal.take()
                assert batch is not None
                assert batch.first in (1, 3)
            finally:
                journal.close()

    def test_the_oldest_entry_of_a_survey(self, tmp_path: Path) -> None:
        """Its time is not told from a line that is damaged."""
        process = destination_in(tmp_path).folder / "dead"
        process.mkdir(parents=True)
        recorded = b'{"id":"i","task_id":"t","message":"m","created_at":"2026-11-22T02:13:53Z"}'
        path = write_segment(process, 1, [recorded])
        (found,) = survey(tmp_path)
        assert str(found.journals[0].oldest_at) == "2026-11-22 02:13:53+00:00"
        path.write_bytes(path.read_bytes().replace(b"2026", b"2027"))
        (found,) = survey(tmp_path)
        assert (found.journals[0].oldest_at, found.journals[0].entries) == (None, 1)


class TestUpgrade:
    """A journal of the version before is shipped whole by this one."""

    @pytest.fixture
    def before(self, tmp_path: Path) -> Path:
        """What a process of that version has left: ten entries, four sent, two of them settled."""
        folder = destination_in(tmp_path).folder / "before"
        folder.mkdir(parents=True)
        for first in (1, 6):
            lines = (each + b"\n" for each in entries(first, first + 4))
            (folder / f"{first:020}.ndjson").write_bytes(b"".join(lines))
        (folder / "marks.ndjson").write_bytes(
            b'{"mark":"sent","id":"a","first":1,"count":2,"at":1.0}\n'
            b'{"mark":"sent","id":"b","first":3,"count":2,"at":2.0}\n'
            b'{"mark":"settled","number":2}\n'
        )
        return folder

    def test_half_confirmed(self, tmp_path: Path, before: Path) -> None:
        """What was sent is asked for, the rest sent, and nothing is left."""
        journal = adopted(tmp_path)
        assert [mark.id for mark in journal.unconfirmed] == ["b"]
        assert numbers_of(journal.read_again(3, 2)) == [3, 4]
        assert numbers_of(each for batch in ship(journal) for each in batch.entries) == [5, 6, 7, 8, 9, 10]
        journal.settle(3, 2)
        assert journal.remove()
        assert not before.exists()

    def test_marks_of_both_formats_count(self, tmp_path: Path, before: Path) -> None:
        """Who goes on notes down new marks beside the old ones; the next one knows both."""
        first = adopted(tmp_path, "first")
        batch = first.take()
        assert batch is not None
        first.sent(batch, awaited_since=3.0)
        first.settle(3, 2)
        first.close()
        second = adopted(tmp_path, "second")
        assert [mark.id for mark in second.unconfirmed] == [batch.id]
        assert second.pending == 6
        assert numbers_of(second.read_again(batch.first, batch.count)) == [5, *range(6, 5 + batch.count)]
        second.close()
        assert (before / "marks.ndjson").exists()

    def test_segments_of_both_formats(self, tmp_path: Path, before: Path) -> None:
        """In one folder: each is read as its name says."""
        write_segment(before, 11, entries(11, 12))
        assert numbers_of(shipped(tmp_path)) == list(range(5, 13))

    def test_a_damaged_line_is_set_aside(self, tmp_path: Path, before: Path) -> None:
        """What is no entry any more; without a checksum no more can be seen."""
        path = before / f"{6:020}.ndjson"
        path.write_bytes(path.read_bytes().replace(b'"task_id"', b'"tusk_id"', 1))
        assert numbers_of(shipped(tmp_path)) == [5, 7, 8, 9, 10]
        assert (before.parent / DAMAGED_NAME).read_bytes().count(b"\n") == 1
