"""The whole: processes that log, send, are killed and inherited from, on a disk that fails now and then."""

import errno
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from anything import EXAMPLES
from doubles import ManualClock
from execution_logger import Settings
from execution_logger.entry.batch import Batch, Source
from execution_logger.journal import Adoption, Journal
from execution_logger.shipping.buffer import Buffer
from journals import destination_in, entry, replace_write


class Lives(RuleBasedStateMachine):
    """One process lives at a time; what it leaves is shipped by those that follow."""

    @initialize(window=st.integers(1, 8), max_batch_entries=st.integers(2, 6))
    def begin(self, window: int, max_batch_entries: int) -> None:
        """With little room in memory, and small segments."""
        self.folder = Path(tempfile.mkdtemp())
        self.patches = pytest.MonkeyPatch()
        self.settings = Settings(
            batch_size=2,
            max_batch_entries=max_batch_entries,
            buffer_max_entries=2 * window,
            journal_max_bytes=1_048_576,
        )
        self.calls = self.births = 0
        self.kept: dict[tuple[str, int], bytes] = {}
        """What the journal had when its call returned."""
        self.received: dict[str, list[Batch]] = {}
        """What was sent, by process."""
        self.marked: dict[str, int] = {}
        """Up to which number batches are known to be sent, by process, on a disk that has never failed."""
        self.unconfirmed: list[tuple[Source, int, int]] = []
        self.is_disk_well = True
        self.has_disk_failed = False
        self._be_born()

    def _be_born(self) -> None:
        self.births += 1
        self.process = f"process-{self.births}"
        destination = destination_in(self.folder)
        self.buffer = Buffer(
            self.settings, self.process, partial(Journal, destination, self.process, self.settings)
        )
        self.buffer._window_entries = self.settings.buffer_max_entries // 2
        self.adoption = Adoption(destination, self.process, self.settings, ManualClock())
        self.next_first = 1

    @property
    def journal(self) -> Journal:
        """That of the process that lives."""
        return self.buffer.journal

    @rule(times=st.integers(1, 6), size_bytes=st.sampled_from([0, 0, 60_000]))
    def put(self, times: int, size_bytes: int) -> None:
        """The host logs."""
        for _ in range(times):
            self.calls += 1
            number = self.buffer.next_number()
            encoded = entry(self.calls, size_bytes)
            if self.buffer.put(encoded):
                assert self.buffer.next_number() == number + 1
                if self.journal.error is None and self.is_disk_well:
                    assert self.buffer.keeps(number, 1)
                    self.kept[self.process, number] = encoded
            else:
                assert self.buffer.next_number() == number, "what is refused has no number"
                assert self.journal.error is not None, "nothing is refused while the disk takes it"
                assert self.buffer.memory_entries >= self.settings.buffer_max_entries, "nor before"

    @rule(is_awaited=st.booleans())
    def send(self, is_awaited: bool) -> None:  # noqa: FBT001
        """A batch of its own."""
        batch = self.buffer.take()
        if batch is None:
            assert self.buffer.held == 0
            return
        assert self.buffer.take() is batch
        assert (batch.process, batch.first, batch.missing) == (self.process, self.next_first, 0)
        self.next_first += batch.count
        self._send(self.buffer, batch, is_awaited=is_awaited)

    def _send(self, source: Source, batch: Batch, *, is_awaited: bool) -> None:
        self.received.setdefault(batch.process, []).append(batch)
        if is_awaited:
            source.sent(batch, awaited_since=1.0)
            self.unconfirmed.append((source, batch.first, batch.count))
        else:
            source.sent(batch)
            source.settle(batch.first, batch.count)
        if self.marked.get(batch.process, 0) == batch.first - 1:
            # What is sent without a confirmation, behind what waits for one, is sent once more.
            is_known = is_awaited or not any(each[0] is source for each in self.unconfirmed)
            self.marked[batch.process] = batch.first + batch.count - 1 if is_known else batch.first - 1

    @precondition(lambda self: self.unconfirmed)
    @rule(index=st.integers(0, 100))
    def confirm(self, index: int) -> None:
        """Confirmations, in any order."""
        source, first, count = self.unconfirmed.pop(index % len(self.unconfirmed))
        source.settle(first, count)

    @precondition(lambda self: self.unconfirmed)
    @rule(index=st.integers(0, 100))
    def read_again(self, index: int) -> None:
        """A batch was lost: as long as the journal says that it has it, it is what was sent."""
        source, first, count = self.unconfirmed[index % len(self.unconfirmed)]
        if source.keeps(first, count):
            sent = [
                each
                for batch in self.received.get(source.process, [])
                for each in batch.entries
                if batch.first == first and batch.count == count
            ]
            if sent:  # else its process had sent it, and died
                assert list(source.read_again(first, count)) == sent[:count]

    @rule()
    def look_after(self) -> None:
        """What the thread does every second."""
        self.journal.look_after(self.buffer.next_number)
        if self.journal.is_settled:
            self.journal.empty()
        if self.is_disk_well and self.journal.has_room:
            assert self.journal.error is None

    @rule(torn_bytes=st.integers(0, 30))
    def let_the_disk_fail(self, torn_bytes: int) -> None:
        """It takes the beginning of a line, and then nothing any more."""
        write = os.write

        def write_some(fd: int, data: bytes) -> int:
            write(fd, data[:torn_bytes])
            raise OSError(errno.EIO, "Input/output error")

        self.is_disk_well, self.has_disk_failed = False, True
        replace_write(self.patches, write_some)

    @rule()
    def repair_the_disk(self) -> None:
        """It takes everything again."""
        self.patches.undo()
        self.is_disk_well = True

    @rule()
    def shut_down(self) -> None:
        """Whoever has stored all leaves nothing; another one goes on."""
        self.journal.close()
        is_done = self.buffer.settled == self.buffer.queued
        if is_done and self.is_disk_well and self.buffer.queued:
            assert not (destination_in(self.folder).folder / self.process).exists()

    @rule()
    def kill(self) -> None:
        """Its memory is gone, its locks are free, and the next one begins."""
        self.journal.abandon()
        self.adoption.close()
        self.unconfirmed.clear()
        self._be_born()

    @rule(is_awaited=st.booleans(), limit=st.integers(1, 5))
    def adopt(self, is_awaited: bool, limit: int) -> None:  # noqa: FBT001
        """Some batches of those that died are sent by the one that lives."""
        self.adoption.remove_done()
        for journal in self.adoption.look():
            self.unconfirmed += [(journal, mark.first, mark.count) for mark in journal.unconfirmed]
        for journal in self.adoption.journals:
            for _ in range(limit):
                if (batch := journal.take()) is None:
                    break
                if not self.has_disk_failed:
                    assert batch.first > self.marked.get(journal.process, 0), "it was sent already"
                self._send(journal, batch, is_awaited=is_awaited)

    @invariant()
    def memory_is_bounded(self) -> None:
        """Whatever is on the disk only."""
        taken = self.settings.max_batch_entries
        assert self.buffer.memory_entries <= self.settings.buffer_max_entries + taken

    def teardown(self) -> None:
        """All that a journal had is sent, by its process or by a later one, and nothing is left over."""
        if not hasattr(self, "buffer"):
            return
        try:
            self.repair_the_disk()
            self.kill()
            for _ in range(200):
                self.adopt(is_awaited=False, limit=100)
                if not self.adoption.journals:
                    break
                while self.unconfirmed:
                    self.confirm(0)
            self._check()
        finally:
            self.adoption.close()
            self.journal.abandon()
            self.patches.undo()
            shutil.rmtree(self.folder)

    def _check(self) -> None:
        sent: dict[tuple[str, int], bytes] = {}
        for process, batches in self.received.items():
            for batch in batches:
                assert batch.missing == 0
                sent.update(((process, batch.first + i), each) for i, each in enumerate(batch.entries))
        missing = [key for key in self.kept if key not in sent]
        assert missing == []
        assert all(sent[key] == encoded for key, encoded in self.kept.items()), "each under its own number"
        folder = destination_in(self.folder).folder
        left = [path.name for path in folder.iterdir() if path.is_dir()] if folder.exists() else []
        # Folders without entries are tidied up when they are a minute old.
        assert all(not any((folder / name).glob("*.entries")) for name in left)


def test_nothing_that_the_disk_has_is_lost() -> None:
    """See `Lives`."""
    limits = hypothesis_settings(max_examples=2 * EXAMPLES, stateful_step_count=50)
    run_state_machine_as_test(Lives, settings=limits)
