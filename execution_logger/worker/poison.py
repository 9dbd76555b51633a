"""Poison messages: those that end their worker. They are counted, tried with care, and moved aside."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from execution_logger.broker.message import problem_of
from execution_logger.broker.queue import BrokerUnavailableError, is_redis, open_channel, quarantine_key
from execution_logger.diagnostics import our_logger, untraced
from execution_logger.errors import StoreUnavailableError
from execution_logger.settings import Settings

if TYPE_CHECKING:  # commands read this, too, and need no worker
    from execution_logger.worker.batch import ReceivedBatch
    from execution_logger.worker.confirmations import Confirmer

logger = our_logger("execution_logger.supervisor")

CAREFUL_DEATHS = 3
"""After so many a batch is stored entry by entry: less to choke on, and what is stored stays stored."""

MOST_DEATHS = 8
"""After so many it is not tried any more. Workers are killed for other reasons, too, again and again."""

ID_PREFIX = "message-"
_LISTED = 50
_SLICE_SECONDS = 0.1
_PAGE = 20
_MAX_SECONDS = 10.0
_LOOK_SECONDS = 10.0

# One step each, because other workers and Celery's redelivery go on meanwhile: an item is moved
# once, or not at all when somebody else was faster. Pushed before it is removed: what Redis refuses
# (the target is no list, the memory is full) ends a script in the middle, and undoes nothing.
_MOVE = """
redis.call('lpush', KEYS[2], ARGV[1])
if redis.call('lrem', KEYS[1], ARGV[2], ARGV[1]) == 1 then return 1 end
redis.call('lpop', KEYS[2])
return 0
"""
_MOVE_IN_FLIGHT = """
redis.call('lpush', KEYS[3], ARGV[2])
redis.call('zrem', KEYS[2], ARGV[1])
if redis.call('hdel', KEYS[1], ARGV[1]) == 1 then return 1 end
redis.call('lpop', KEYS[3])
return 0
"""


class Watch:
    """While it is entered and not ended, the end of the process is a death over the batch.

    Of the batches that come again one at a time is tried: when the worker dies, only that one is to blame.

    A message says only that a worker was given it before. That counts as a death, unless the worker
    handed it back, or waited for the database: then `end()` has taken it off. So nothing is counted
    for a batch that comes for the first time and is written at once.

    Args:
        batch: to be tried.
        confirmer: knows how many have died over it.
        one_at_a_time: of the process.
        may_wait: asked while others come first.
    """

    def __init__(
        self,
        batch: "ReceivedBatch",
        confirmer: "Confirmer",
        one_at_a_time: threading.Lock,
        may_wait: Callable[[], bool],
    ) -> None:
        self.deaths = 0
        self._batch = batch
        self._confirmer = confirmer
        self._lock = one_at_a_time
        self._may_wait = may_wait
        self._is_over = False

    @property
    def is_suspicious(self) -> bool:
        """Whether the batch is to be tried with care."""
        return self.deaths >= CAREFUL_DEATHS

    @property
    def is_deadly(self) -> bool:
        """Whether the batch is not to be tried."""
        return self.deaths >= MOST_DEATHS

    def __enter__(self) -> Self:
        if self._batch.is_redelivered:
            self._wait()
            self.deaths = self._confirmer.add_deaths(self._batch, 1)
        return self

    def end(self) -> None:
        """The batch was tried and nobody has died; it will be tried again."""
        if not self._is_over:
            self._release()
            self._confirmer.add_deaths(self._batch, -1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.end()
            return
        if not self._is_over:
            self._release()
        if self._batch.is_redelivered:
            self._confirmer.forget_deaths(self._batch)

    def _wait(self) -> None:
        while not self._lock.acquire(timeout=_SLICE_SECONDS):
            if not self._may_wait():
                raise StoreUnavailableError("other batches that come again take too long")

    def _release(self) -> None:
        self._is_over = True
        if self._batch.is_redelivered:
            self._lock.release()


def quarantine_malformed(settings: Settings) -> int:
    """Move what would end a worker from the queue to the list `<queue>.quarantine`; return how many.

    Looks at all that waits, first at what workers take next, as far as it comes in ten seconds; and at
    what a killed worker held. Brokers other than Redis forget a message as soon as a worker has taken
    it, so it ends only one. Says what it did in one ERROR line, and never raises because of the broker.
    """
    try:
        return _quarantine(settings, _MAX_SECONDS)
    except BrokerUnavailableError as error:
        logger.warning("the queue cannot be looked through for malformed messages: %s", error)
    except Exception as error:  # noqa: BLE001 - whatever the queue holds, the worker has to start
        _report(error)
    return 0


def quarantine_next(settings: Settings) -> int:
    """Do the same with the few messages that workers hold or take next.

    Some of them end no worker, but are given to it again and again. Of a broker that is away the
    worker itself says enough.
    """
    with suppress(BrokerUnavailableError):
        return _quarantine(settings, 0.0)
    return 0


def keep_looking(settings: Settings, every_seconds: float = _LOOK_SECONDS) -> threading.Event:
    """Call `quarantine_next` again and again in a thread, until the event is set or this process ends."""
    stop = threading.Event()

    def look() -> None:
        said = ""
        while not stop.wait(every_seconds):
            try:
                quarantine_next(settings)
            except Exception as error:  # noqa: BLE001 - the next look may be better
                if said != repr(error):
                    said = repr(error)
                    _report(error)

    threading.Thread(target=look, name="execution-logger-queue", daemon=True).start()
    return stop


def _report(error: Exception) -> None:
    logger.error("the queue cannot be looked after: %s: %s", type(error).__name__, error)


def _quarantine(settings: Settings, max_seconds: float) -> int:
    with untraced(), open_channel(settings) as channel:
        if not is_redis(channel):
            return 0
        problems = [*_move_in_flight(channel, settings), *_move_waiting(channel, settings, max_seconds)]
    if problems:
        logger.error(
            "messages that can end a worker were moved from %r to %r: %d. The first one: %s",
            settings.queue,
            quarantine_key(settings),
            len(problems),
            problems[0],
        )
    return len(problems)


def _move_waiting(channel: Any, settings: Settings, max_seconds: float) -> Iterator[str]:
    """What is wrong with each that was moved; of each priority one page is looked at in any case."""
    client, target = channel.client, quarantine_key(settings)
    stop_at = time.monotonic() + max_seconds
    for key in {channel._q_for_pri(settings.queue, step) for step in channel.priority_steps}:  # noqa: SLF001
        kept = 0
        while items := client.lrange(key, -kept - _PAGE, -kept - 1):
            problems = [(item, problem) for item in items if (problem := problem_of(item))]
            moved = [p for item, p in problems if client.eval(_MOVE, 2, key, target, item, -1)]
            yield from moved
            kept += len(items) - len(moved)
            if time.monotonic() >= stop_at:
                break


def _move_in_flight(channel: Any, settings: Settings) -> Iterator[str]:
    keys = (channel.unacked_key, channel.unacked_index_key, quarantine_key(settings))
    for tag, item in list(channel.client.hscan_iter(keys[0], count=_PAGE)):
        envelope, problem = _examine_in_flight(item, settings)
        if problem and channel.client.eval(_MOVE_IN_FLIGHT, 3, *keys, tag, envelope):
            yield problem


def _examine_in_flight(item: bytes, settings: Settings) -> tuple[str | bytes, str | None]:
    """The message that a worker holds, or what there is instead of one; and what is wrong with it."""
    try:
        message, _, routing_key = msgspec.convert(json.loads(item), tuple[dict[str, Any], str, str])
        envelope = json.dumps(message)
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        return item, f"it is not what Celery keeps of a message in hand: {error}"
    return envelope, problem_of(envelope) if routing_key == settings.queue else None


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """A message that was moved aside.

    Attributes:
        id: made of its content; equal messages have the same.
        item: what was on the queue, byte for byte.
    """

    id: str
    item: bytes

    @property
    def problem(self) -> str | None:
        """Why no worker should be given it; None when it is all right by today's rules."""
        return problem_of(self.item)


def dead_messages(settings: Settings, limit: int | None = None) -> list[DeadMessage]:
    """Those that were moved aside, newest first; none with brokers other than Redis.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    with open_channel(settings) as channel:
        return list(islice(_read(channel, settings), limit))


def find_message(settings: Settings, message_id: str) -> DeadMessage | None:
    """One of them.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    with open_channel(settings) as channel:
        return next((found for found in _read(channel, settings) if found.id == message_id), None)


def put_back(settings: Settings, message: DeadMessage) -> str | None:
    """Put a message on the queue again; return why not, when there is still something wrong with it.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    if problem := message.problem:
        return problem
    with open_channel(settings) as channel:
        channel.client.eval(_MOVE, 2, quarantine_key(settings), settings.queue, message.item, 1)
    return None


def delete_messages(settings: Settings, messages: Sequence[DeadMessage]) -> int:
    """Delete messages for good; return how many there were.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    with open_channel(settings) as channel:
        return sum(channel.client.lrem(quarantine_key(settings), 0, message.item) for message in messages)


def _read(channel: Any, settings: Settings) -> Iterator[DeadMessage]:
    if not is_redis(channel):
        return
    start = 0
    while items := channel.client.lrange(quarantine_key(settings), start, start + _LISTED - 1):
        start += len(items)
        for item in items:
            yield DeadMessage(f"{ID_PREFIX}{hashlib.sha256(item).hexdigest()[:16]}", item)
