"""Where the entries are, after any sequence of calls, failures and pauses."""

import math
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from doubles import HandDrivenShipper, ManualClock, assemble
from execution_logger import Settings
from execution_logger.errors import DeliveryError
from execution_logger.testing import MemoryDelivery

DOWN = DeliveryError("the broker is away")


class Accounting(RuleBasedStateMachine):
    """Any sequence of calls, failures and pauses: accepted = delivered + waiting + dropped, in order."""

    @initialize(
        batch_size=st.integers(1, 5),
        more=st.integers(0, 5),
        buffer_max_entries=st.integers(1, 40),
        buffer_max_bytes=st.integers(1024, 3000),
    )
    def begin(self, batch_size: int, more: int, buffer_max_entries: int, buffer_max_bytes: int) -> None:
        """Start with small limits, which are met often."""
        self.clock = ManualClock()
        self.delivery = MemoryDelivery()
        self.settings = Settings(
            batch_size=batch_size,
            max_batch_entries=batch_size + more,
            max_entry_bytes=1024,
            max_batch_bytes=1024,
            buffer_max_entries=buffer_max_entries,
            buffer_max_bytes=buffer_max_bytes,
        )
        self.shipper = assemble(HandDrivenShipper, lambda: self.delivery, self.settings, monotonic=self.clock)
        self.accepted: list[bytes] = []
        self.calls = self.dropped = 0
        self.flushes: list[tuple[Any, int, float]] = []
        self.shutdowns: list[tuple[Any, int, float]] = []

    @rule(size=st.integers(0, 1000), times=st.integers(1, 6))
    def accept(self, size: int, times: int) -> None:
        """The host logs."""
        for _ in range(times):
            self.calls += 1
            entry = b'["%d","%s"]' % (self.calls, b"x" * size)
            if self.shipper.accept(entry):
                self.accepted.append(entry)
            else:
                self.dropped += 1

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @rule()
    def deliver(self) -> None:
        """The thread wakes up, and ends if that was asked for."""
        self.shipper.run_due()
        self.shipper._ended()

    @rule(times=st.integers(1, 4), error=st.sampled_from([DOWN, ValueError("a bug")]))
    def break_down(self, times: int, error: Exception) -> None:
        """The next attempts fail."""
        self.delivery.failures += [error] * times

    @rule()
    def repair(self) -> None:
        """The broker is back."""
        self.delivery.failures.clear()

    @rule(timeout_seconds=st.floats(0, 10), then_stop=st.booleans())
    def flush(self, timeout_seconds: float, then_stop: bool) -> None:  # noqa: FBT001
        """Somebody waits."""
        done = self.shipper.flush(timeout_seconds, then_stop=then_stop)
        request = (done, len(self.accepted), self.clock() + timeout_seconds)
        (self.shutdowns if then_stop else self.flushes).append(request)

    @precondition(lambda self: not self.delivery.failures)
    @rule()
    def deliver_all(self) -> None:
        """After a flush that nothing disturbs, nothing waits, and everybody has an answer."""
        self.shipper.flush(100.0)
        self.clock.advance(30.0)
        for _ in range(3):  # a shutdown on its way ends each of the first two
            self.deliver()
        assert self.shipper.buffer.held == 0
        assert all(done.done() for done, *_ in self.flushes + self.shutdowns)

    @invariant()
    def nothing_is_lost_doubled_or_out_of_order(self) -> None:
        """What was accepted is delivered or waits, and the account says so."""
        buffer = self.shipper.buffer
        delivered = [entry for batch in self.delivery.batches for entry in batch.entries]
        assert delivered == self.accepted[: len(delivered)]
        assert buffer.settled == len(delivered)
        assert buffer.queued == len(self.accepted)
        assert buffer.held == len(self.accepted) - len(delivered)
        assert buffer.held_bytes == sum(map(len, self.accepted[len(delivered) :]))
        assert self.calls == buffer.settled + buffer.held + self.dropped

    @invariant()
    def limits_are_kept(self) -> None:
        """Of the memory, and of each batch."""
        assert self.shipper.buffer.held <= self.settings.buffer_max_entries
        assert self.shipper.buffer.held_bytes <= self.settings.buffer_max_bytes
        for batch in self.delivery.batches:
            assert len(batch) <= self.settings.max_batch_entries
            assert batch.size_bytes <= self.settings.max_batch_bytes or len(batch) == 1

    @invariant()
    def nobody_is_answered_too_early(self) -> None:
        """Before all is delivered, or the time is over."""
        for done, ticket, expires_at in self.flushes + self.shutdowns:
            if done.done():
                assert self.shipper.buffer.settled >= ticket or self.clock() >= expires_at

    @invariant()
    def what_waits_has_its_time(self) -> None:
        """Within the longest pause there will be an attempt; an empty shipper sleeps."""
        seconds = self.shipper.seconds_until_due()
        if self.shipper.buffer.held:
            assert 0 <= seconds <= self.settings.retry_pause_max_seconds + 1e-6
        elif not self.shipper._flushes and not self.shipper._stops:
            assert seconds == math.inf


def test_the_account_is_right_after_any_sequence(internal_errors: list[tuple[str, BaseException]]) -> None:
    """See `Accounting`; what it breaks, it breaks on purpose."""
    limits = settings(stateful_step_count=40)
    run_state_machine_as_test(Accounting, settings=limits)
    internal_errors.clear()
