"""What the shipper's thread does: sends the next batch, and finds out what became of the others."""

import logging
import math
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from execution_logger.broker.connection import Backoff
from execution_logger.delivery import Delivery
from execution_logger.delivery.interface import Confirming, Guarantee, Receipt
from execution_logger.diagnostics import report
from execution_logger.entry.batch import Batch, NotNowError, Source
from execution_logger.errors import BrokerFullError, DeliveryError
from execution_logger.journal.adoption import AdoptedJournal, Adoption
from execution_logger.settings import Settings
from execution_logger.shipping.accounts import Accounts
from execution_logger.shipping.buffer import Buffer
from execution_logger.shipping.flush import Flushes
from execution_logger.shipping.forks import free_locks_of_properties
from execution_logger.shipping.in_flight import InFlight

_IMPATIENT_PAUSE_SECONDS = 0.25
"""Longest pause between attempts while somebody waits in flush()."""
_LOST, _OWN, _ADOPTED = range(3)  # whose turn it was


class Sender:
    """Sends batches of the buffer, lost ones and those of dead processes in turn; follows them until stored.

    Everything is called by one thread at a time, the shipper's.

    Args:
        settings: pauses and bounds.
        buffer: the process's own entries.
        adoption: of the journals of dead processes.
        in_flight: batches that were sent.
        accounts: where all this is counted.
        flushes: who waits.
        make_delivery: called at the first attempt.
        after_delivery: called after each batch of the buffer's that was sent.
        monotonic: seconds; tests inject their own.
    """

    def __init__(
        self,
        settings: Settings,
        buffer: Buffer,
        adoption: Adoption,
        in_flight: InFlight,
        accounts: Accounts,
        flushes: Flushes,
        make_delivery: Callable[[], Delivery],
        *,
        after_delivery: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_ending = False
        """Whether it sends what is left as if somebody waited, until it is closed."""
        # Held during each attempt, and waited for by nobody but a fork: what a delivery has locked in the
        # middle of one (kombu's properties, modules that are being imported) is locked in the child for ever.
        self.delivering = threading.RLock()
        self._buffer = buffer
        self._in_flight = in_flight
        self._accounts = accounts
        self._flushes = flushes
        self._adoption = adoption
        self._make_delivery = make_delivery
        self._after_delivery = after_delivery
        self._monotonic = monotonic
        self._max_retained_bytes = settings.buffer_max_bytes
        self._delivery: Delivery | None = None
        self._backoff = Backoff(settings.retry_pause_max_seconds)
        self._impatient_pause_seconds = min(_IMPATIENT_PAUSE_SECONDS, settings.retry_pause_max_seconds)
        self._retry_at = 0.0
        self._poll_backoff = Backoff(settings.retry_pause_max_seconds)
        self._poll_retry_at = 0.0
        self._attempt_now = False
        self._is_preparing = False
        self._turn = 0

    @property
    def _is_hurried(self) -> bool:
        """Whether somebody waits in flush()."""
        return bool(self._flushes) or self.is_ending

    @property
    def has_others(self) -> bool:
        """Whether batches wait that are no news: lost ones, and those of dead processes."""
        return self._in_flight.has_lost or any(journal.has_more for journal in self._adoption.journals)

    @property
    def is_adopting(self) -> bool:
        """Whether journals of dead processes are not done yet, or it is time to look for more."""
        return bool(self._adoption.journals) or self._adoption.seconds_until_look() == 0

    def look_for_children(self) -> bool:
        """Before the process ends, adopt what its children have left, and no more; whether that may be."""
        return self._adoption.look_for_children()

    def look_for_all(self) -> None:
        """The process goes on: adopt what anybody has left again."""
        self._adoption.look_for_all()

    # When ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the delivery with the next step, though there is nothing to deliver yet."""
        self._is_preparing = True

    def hurry(self) -> None:
        """Make the next attempt now, whatever pause is under way."""
        self._attempt_now = True

    def seconds_until_due(self) -> float:
        """Seconds until there is something to do; 0 for now, `inf` for never."""
        return min(
            0.0 if self._is_preparing else math.inf,
            self._seconds_until_send(),
            self._seconds_until_poll(),
            self._buffer.seconds_until_look_after(),
            self._adoption.seconds_until_look(),
        )

    def _seconds_until_send(self) -> float:
        due = self._buffer.seconds_until_due()
        if self.has_others or (self._is_hurried and due < math.inf):
            due = 0.0
        return due if self._attempt_now else max(due, self._retry_at - self._monotonic())

    def _seconds_until_poll(self) -> float:
        due = self._in_flight.seconds_until_poll(is_hurried=self._is_hurried)
        return max(due, self._poll_retry_at - self._monotonic())

    # What ------------------------------------------------------------------------------------

    def step(self) -> None:
        """Do what is due, with at most one batch. Never raises; what goes wrong is tried again."""
        try:
            if self._buffer.seconds_until_look_after() == 0:
                with self.delivering:  # a fork meanwhile would copy a lock that nobody knows of
                    self._buffer.look_after()
            self._adopt()
            if self._is_preparing:
                self._is_preparing = False
                self._make_ready()
            if self._seconds_until_poll() == 0:
                self._poll()
            if self._seconds_until_send() == 0:
                self._attempt_now = False  # before the attempt: who hurries us meanwhile wants another one
                self._send_next()
            self._make_room()
        except Exception as error:  # noqa: BLE001 - the batch is kept, and its turn comes again
            self.failed("".join(traceback.format_exception_only(error)).strip())
            self._accounts.errors.record("shipper", error)

    def _make_ready(self) -> None:
        try:
            with self.delivering:
                self._open()
        except DeliveryError as error:
            self.failed(str(error))

    def _send_next(self) -> None:
        """A batch of those that wait: lost, own and adopted ones in turn, so that none starves.

        Somebody who waits in flush() waits for own ones, lost ones among them: adopted ones come last then.
        """
        takers = (self._take_lost, self._take_own, self._take_adopted)
        order = [(self._turn + step) % len(takers) for step in (1, 2, 3)]
        if self._is_hurried:
            order = [_LOST, _OWN, _ADOPTED] if self._turn == _OWN else [_OWN, _LOST, _ADOPTED]
        try:
            for turn in order:
                self._turn = turn
                if (taken := takers[turn]()) is not None:
                    self._attempt(*taken)
                    return
        except NotNowError as error:
            self.failed(str(error))

    def _take_lost(self) -> tuple[None, Batch] | None:
        batch = self._in_flight.next_lost()
        return None if batch is None else (None, batch)

    def _take_own(self) -> tuple[Source, Batch] | None:
        if not self._is_hurried and self._buffer.seconds_until_due() != 0:
            return None
        batch = self._buffer.take()
        return None if batch is None else (self._buffer, batch)

    def _take_adopted(self) -> tuple[Source, Batch] | None:
        for journal in tuple(self._adoption.journals):
            if journal.is_begun:
                with self._reading(journal):
                    if (batch := journal.take()) is not None:
                        return journal, batch
        return None

    def _attempt(self, source: Source | None, batch: Batch) -> None:
        began_at = self._monotonic()
        try:
            receipt = self._deliver(batch)
        except DeliveryError as error:
            self._accounts.is_held_back = isinstance(error, BrokerFullError)
            self.failed(str(error))
            return
        if source is not None:
            self._accounts.sent(source, batch, self._monotonic() - began_at)
        # After the attempt: not earlier than what the message itself tells, or the first one in the queue
        # would not be found there.
        sent_at = time.time()
        is_followed = receipt.guarantee is not Guarantee.ACCEPTED and self._in_flight.is_trusted
        self._accounts.guarantee = "stored" if is_followed else "accepted"
        self._succeeded()
        self._note_sent(source, batch, receipt, sent_at)
        if source is self._buffer:
            self._after_delivery()

    def _deliver(self, batch: Batch) -> Receipt:
        if not batch.entries:  # none of them can be read any more
            return Receipt(Guarantee.ACCEPTED)
        with self.delivering:
            return self._open().deliver(batch) or Receipt(Guarantee.ACCEPTED)

    def _open(self) -> Delivery:
        self._delivery = self._delivery or self._make_delivery()
        return self._delivery

    def _note_sent(self, source: Source | None, batch: Batch, receipt: Receipt, sent_at: float) -> None:
        is_awaited = receipt.guarantee is Guarantee.AWAITED
        dead_lettered = receipt.dead_lettered if receipt.guarantee is Guarantee.STORED else None
        if source is None:
            if is_awaited:
                self._in_flight.sent_again(batch, sent_at)
                self._accounts.batches_sent_again += 1
            else:
                self._in_flight.settle(batch, dead_lettered)
            return
        if is_awaited:
            self._in_flight.add(source, batch, sent_at)
            source.sent(batch, awaited_since=sent_at)
        else:
            source.sent(batch)
            source.settle(batch.first, batch.count)
            self._accounts.count(source, len(batch), dead_lettered)
            self._adoption.remove_done()

    def _succeeded(self) -> None:
        if self._accounts.last_error is not None:
            report(logging.INFO, "delivery works again; %d entries were kept", self._buffer.held)
        self._accounts.last_error = None
        self._accounts.is_held_back = False
        self._retry_at = 0.0
        self._backoff.reset()

    def failed(self, reason: str) -> None:
        """Note a failed attempt down, and pause."""
        failed_before = self._accounts.last_error is not None
        self._accounts.failed_attempts += 1
        self._accounts.last_error = reason
        # The attempts of an impatient flush() are no reason for longer pauses afterwards.
        pause = self._impatient_pause_seconds if self._is_hurried else self._backoff.next_pause_seconds()
        self._retry_at = self._monotonic() + pause
        if not failed_before:
            report(logging.WARNING, "delivery failed, entries are kept and sent again: %s", reason)

    # What became of batches ------------------------------------------------------------------

    def _poll(self) -> None:
        self._poll_retry_at = self._monotonic() + self._poll_backoff.next_pause_seconds()
        try:
            with self.delivering:
                delivery = self._open()
                if isinstance(delivery, Confirming) and delivery.is_confirming:
                    self._in_flight.poll(delivery)
                else:
                    self._in_flight.lose_all()
        except DeliveryError as error:
            if self._accounts.confirmation_error is None:
                report(logging.WARNING, "nobody tells what is stored; entries are kept until then: %s", error)
            self._accounts.confirmation_error = str(error)
        else:
            self._accounts.confirmation_error = None
            self._poll_retry_at = 0.0
            self._poll_backoff.reset()
        if not self._in_flight.is_trusted:
            self._accounts.guarantee = "accepted"
        self._adoption.remove_done()

    def _make_room(self) -> None:
        """Rather than drop new entries, trust the broker with the oldest ones that it has."""
        while self._buffer.memory_bytes + self._in_flight.retained_bytes > self._max_retained_bytes:
            if not self._in_flight.release_oldest(lambda sent: sent.entries is not None):
                break
        while self._buffer.is_disk_full:
            if not self._in_flight.release_oldest(lambda sent: sent.source is self._buffer):
                break

    # Journals --------------------------------------------------------------------------------

    def _adopt(self) -> None:
        """Look what dead processes have left, or read a little of it: own entries do not wait for more."""
        try:
            if self._adoption.seconds_until_look() == 0:
                self._adoption.remove_done()
                with self.delivering:  # a fork meanwhile would copy a lock that nobody knows of
                    self._adoption.look()
            for journal in self._adoption.journals:
                if not journal.is_begun:
                    with self._reading(journal):
                        self._begin(journal)
                    break
            self._adoption.remove_done()
        except Exception as error:  # noqa: BLE001 - no reason to hold back own entries
            self._accounts.errors.record("adoption", error)

    def _begin(self, journal: AdoptedJournal) -> None:
        if not journal.begin():
            return
        self._in_flight.adopt(journal, journal.unconfirmed)
        if count := journal.pending:
            report(logging.INFO, "entries that process %s has left are sent now: %d", journal.process, count)

    @contextmanager
    def _reading(self, journal: AdoptedJournal) -> Iterator[None]:
        """Give up a journal that cannot be read now, until the next look."""
        try:
            yield
        except OSError as error:
            self._in_flight.drop(journal)
            self._adoption.leave(journal, error)

    # The end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections, and leave to others what others have left."""
        self.is_ending = False
        for what, close in (
            ("the delivery", self._close_delivery),
            ("the journal", self._buffer.close),
            ("adopted journals", self._close_adopted),
        ):
            try:
                close()
            except BaseException as error:  # noqa: BLE001 - it is given up in any case, and a shutdown ends
                self._accounts.errors.record(f"closing {what}", error)

    def _close_delivery(self) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            with self.delivering:
                delivery.close()

    def _close_adopted(self) -> None:
        self._adoption.remove_done()
        for journal in self._adoption.journals:
            self._in_flight.drop(journal)
        self._adoption.close()

    def abandon(self) -> None:
        """Let go of the parent's files in a forked child."""
        if self.delivering.acquire(blocking=False):
            self.delivering.release()
        else:  # the fork has not waited, or ran no hooks: the thread was in the middle of an attempt
            free_locks_of_properties()
        self._buffer.abandon()
        self._adoption.close()
