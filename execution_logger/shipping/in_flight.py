"""Batches that the broker has taken and nobody has confirmed: asked for, and sent again when lost.

Celery on Redis can lose a message: between BRPOP and the note of it a killed worker takes it along,
and a Redis without persistence forgets everything. So a batch is forgotten only when the worker says
that its rows are committed. The other way round, a batch that merely waits in a long queue must not
be sent again: a look at the queue tells the two apart.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from execution_logger.broker.connection import QueueView
from execution_logger.delivery.interface import Confirming
from execution_logger.diagnostics import report
from execution_logger.entry.batch import Batch, NotNowError, Source, recorded_at
from execution_logger.errors import DeliveryError
from execution_logger.settings import Settings

if TYPE_CHECKING:
    from execution_logger.journal.marks import SentMark

_ASKED_AT_ONCE = 500
_POLL_SECONDS = 0.2
_POLL_MAX_SECONDS = 1.0
_HURRIED_POLL_SECONDS = 0.005
_HURRIED_POLL_MAX_SECONDS = 0.25
_REVIEW_SECONDS = 3.0
_GONE_SECONDS = 2.0
"""A queue that is empty for so long has lost what is not confirmed: a worker notes down what it takes."""
_TRUSTED_ATTEMPTS = 8
"""After so many, nine minutes, a worker that has never confirmed anything will not. Not after few: a
network that swallows what Redis hands out, for a minute, looks the same."""


@dataclass(slots=True, eq=False)
class Sent:
    """A batch on its way."""

    source: Source
    id: str
    first: int
    count: int
    sent_at: float
    entries: tuple[bytes, ...] | None
    """None when the source can read them again."""
    missing: int = 0
    """How many of them could not be read from the disk any more."""
    attempts: int = 1
    missing_since: float | None = None
    """Since when (monotonic) it cannot be waiting in the queue."""
    recorded_at: float | None = None
    """When its first entry was recorded, in seconds since 1970, if that is known."""
    first_sent_at: float | None = None
    """When (monotonic) it was sent for the first time; None when another process did that."""

    @property
    def entries_count(self) -> int:
        """How many entries the message has."""
        return self.count - self.missing

    @property
    def retained_bytes(self) -> int:
        """What it holds in memory."""
        return sum(map(len, self.entries or ()))

    def to_batch(self) -> Batch:
        """The same batch again, without what cannot be read any more; raises OSError when nothing can."""
        entries = self.source.read_again(self.first, self.count) if self.entries is None else self.entries
        missing = self.count - len(entries)
        return Batch(entries, self.id, process=self.source.process, first=self.first, missing=missing)


class InFlight:
    """The batches on their way, in the order in which they were sent.

    Args:
        settings: the visibility timeout, after which a killed worker's batch comes back by itself.
        on_settled: called for each batch that is done, with the number of its dead letters, or None when
            waiting for a confirmation of it is given up.
        monotonic: seconds; tests inject their own.
        wall: seconds since 1970, to compare with what messages tell.
        on_missing: called with how many entries of a batch that is sent again cannot be read any more.
    """

    def __init__(
        self,
        settings: Settings,
        on_settled: Callable[[Sent, int | None], None],
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        on_missing: Callable[[Source, int], None] = lambda _, __: None,
    ) -> None:
        self.retained_bytes = 0
        """What the batches hold in memory that no journal has."""
        self.is_trusted = True
        """Whether workers confirm: not after a batch was taken again and again without a confirmation."""
        self._patience_seconds = 1.5 * settings.visibility_timeout_seconds
        self._on_settled = on_settled
        self._on_missing = on_missing
        self._monotonic = monotonic
        self._wall = wall
        self._sent: dict[str, Sent] = {}
        self._lost: dict[str, Sent] = {}
        self._is_confirmed = False
        self._polled_at = 0.0
        self._fruitless = 0
        self._cursor = 0
        self._added_at = 0.0
        self._reviewed_at = 0.0
        self._empty_since: float | None = None

    def __len__(self) -> int:
        return len(self._sent)

    def oldest_of(self, source: Source) -> float | None:
        """When the oldest entry of a source on its way was recorded; None when there is none."""
        own = (sent.recorded_at for sent in tuple(self._sent.values()) if sent.source is source)
        return next(own, None)

    @property
    def has_lost(self) -> bool:
        """Whether a batch must be sent again."""
        return bool(self._lost)

    def add(self, source: Source, batch: Batch, sent_at: float) -> None:
        """Follow a batch that was sent; its entries are kept here when its source does not keep them."""
        entries = None if source.keeps(batch.first, batch.count) else batch.entries
        sent = Sent(source, batch.id, batch.first, batch.count, sent_at, entries, batch.missing)
        sent.recorded_at = recorded_at(batch.entries[0])
        sent.first_sent_at = self._monotonic()
        self._add(sent)

    def adopt(self, source: Source, marks: "Iterable[SentMark]") -> None:
        """Follow what a dead process had sent."""
        for mark in marks:
            self._add(Sent(source, mark.id, mark.first, mark.count, mark.at, None))

    # Asking ----------------------------------------------------------------------------------

    def seconds_until_poll(self, *, is_hurried: bool) -> float:
        """Seconds until it is time to ask; `inf` when there is nothing to ask for."""
        if not self._sent:
            return math.inf
        first, longest = (
            (_HURRIED_POLL_SECONDS, _HURRIED_POLL_MAX_SECONDS)
            if is_hurried
            else (_POLL_SECONDS, _POLL_MAX_SECONDS)
        )
        pause = min(longest, first * 2.0 ** min(self._fruitless, 10))
        return max(0.0, self._polled_at + pause - self._monotonic())

    def poll(self, delivery: Confirming) -> None:
        """Ask for what is not confirmed; from time to time, find out what is lost.

        Raises:
            DeliveryError: nobody answers.
        """
        now = self._monotonic()
        self._fruitless += 1
        self._polled_at = now
        # Before asking: the worker confirms a batch before it acknowledges the message. So what is
        # no longer in the queue then, and not confirmed afterwards, is lost.
        view, error = None, None
        if self._is_review_due(now):
            try:
                view = delivery.look_at_queue()
            except DeliveryError as failure:  # the result backend may be another server
                error = failure
        while self._ask(delivery):
            pass
        if view is not None:
            self._review(view, now)
        self._polled_at = self._monotonic()
        if error is not None:
            raise error

    def _ask(self, delivery: Confirming) -> bool:
        """Ask for some; return whether all of them are done, so that it is worth to ask for more at once."""
        ids = self._next_ids()
        outcomes = delivery.collect(ids) if ids else {}
        for batch_id, outcome in outcomes.items():
            sent = self._sent[batch_id]
            if outcome.is_stored:
                self._fruitless = 0
                self._is_confirmed = self.is_trusted = True
                self._forget(sent, outcome.dead_lettered)
            else:
                # A worker has it, and waits for the database. If it gives up, the message goes to the end
                # of the queue: as if it had been sent now.
                sent.missing_since = None
                sent.sent_at = self._wall()
        return bool(ids) and not any(batch_id in self._sent for batch_id in ids)

    def _next_ids(self) -> list[str]:
        """The oldest, which are stored first; and some of the others in turn, should the oldest be lost."""
        half = _ASKED_AT_ONCE // 2
        ids = list(islice(self._sent, half))
        others = len(self._sent) - half
        if others > 0:
            start = half + self._cursor % others
            ids += islice(self._sent, start, start + half)
            self._cursor += half
        return ids

    # What is lost ----------------------------------------------------------------------------

    def next_lost(self) -> Batch | None:
        """A batch that must be sent again, and the same one until it is; None when there is none.

        Raises NotNowError.
        """
        while self._lost:
            sent = next(iter(self._lost.values()))
            try:
                batch = sent.to_batch()
            except NotNowError:
                raise
            except OSError as error:
                report(logging.ERROR, "batch %s cannot be sent again: %s", sent.id, error)
                self._forget(sent, None)
                continue
            if batch.missing > sent.missing:
                self._on_missing(sent.source, batch.missing - sent.missing)
                sent.missing = batch.missing
            return batch
        return None

    def sent_again(self, batch: Batch, sent_at: float) -> None:
        """The lost batch is on its way again."""
        sent = self._lost.pop(batch.id)
        sent.sent_at = sent_at
        sent.attempts += 1
        sent.missing_since = None

    def settle(self, batch: Batch, dead_lettered: int | None) -> None:
        """The lost batch has arrived some other way."""
        self._forget(self._sent[batch.id], dead_lettered)

    def lose_all(self) -> None:
        """Send everything again: nobody can tell what became of it."""
        self._fruitless += 1
        self._polled_at = self._monotonic()
        self._lost = dict(self._sent)

    def drop(self, source: Source) -> None:
        """Follow the batches of this source no longer."""
        for sent in [sent for sent in self._sent.values() if sent.source is source]:
            self._remove(sent)

    def release_oldest(self, may_go: Callable[[Sent], bool]) -> bool:
        """Give up waiting for the oldest batch that may go; False when none may."""
        for sent in self._sent.values():
            if may_go(sent):
                self._forget(sent, None)
                return True
        return False

    def _is_review_due(self, now: float) -> bool:
        oldest_wait = now - max(self._reviewed_at, self._added_at)
        return oldest_wait >= _REVIEW_SECONDS

    def _review(self, view: QueueView, now: float) -> None:
        self._reviewed_at = now
        is_empty = not view.waiting and view.in_flight == 0
        self._empty_since = (self._empty_since or now) if is_empty else None
        for sent in tuple(self._sent.values()):
            if sent.id not in self._lost and self._is_lost(sent, view, now):
                self._lose(sent)

    def _is_lost(self, sent: Sent, view: QueueView, now: float) -> bool:
        may_wait = view.waiting and (view.oldest_sent_at is None or view.oldest_sent_at <= sent.sent_at)
        if may_wait:
            sent.missing_since = None
            return False
        if sent.missing_since is None:
            sent.missing_since = now
        is_gone = self._empty_since is not None and now - self._empty_since >= _GONE_SECONDS
        patience = _GONE_SECONDS if is_gone else self._patience_seconds
        # Doubled each time: what cannot be stored must not come again and again in a storm.
        return now - sent.missing_since >= patience * 2.0 ** (sent.attempts - 1)

    def _lose(self, sent: Sent) -> None:
        if self._is_confirmed or (self.is_trusted and sent.attempts < _TRUSTED_ATTEMPTS):
            self._lost[sent.id] = sent
            return
        if self.is_trusted:
            self.is_trusted = False
            report(
                logging.WARNING,
                "no worker confirms what it stores: entries count as safe once the broker has taken them. "
                "Let the worker have the same CELERY_RESULT_BACKEND, or the same broker, as this process",
            )
        self._forget(sent, None)

    def _add(self, sent: Sent) -> None:
        if not self._sent:
            self._added_at = self._monotonic()
        self._sent[sent.id] = sent
        self._fruitless = 0
        self.retained_bytes += sent.retained_bytes

    def _remove(self, sent: Sent) -> None:
        del self._sent[sent.id]
        self._lost.pop(sent.id, None)
        self.retained_bytes -= sent.retained_bytes

    def _forget(self, sent: Sent, dead_lettered: int | None) -> None:
        self._remove(sent)
        sent.source.settle(sent.first, sent.count)
        self._on_settled(sent, dead_lettered)
