"""The messages that were moved aside because they can end a worker: read, put back, deleted."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from execution_logger.broker.depth import is_redis, open_channel, quarantine_key
from execution_logger.broker.envelope import problem_of
from execution_logger.settings import Settings

ID_PREFIX = "message-"

_PAGE = 50

# One step, so that a message is in one of the two lists whatever happens; pushed first, as Redis may refuse.
_PUT_BACK = """
redis.call('lpush', KEYS[2], ARGV[1])
if redis.call('lrem', KEYS[1], 1, ARGV[1]) == 1 then return 1 end
redis.call('lpop', KEYS[2])
return 0
"""


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
    found: list[DeadMessage] = []
    with open_channel(settings) as channel:
        for message in _read(channel, settings):
            if limit is not None and len(found) >= limit:
                break
            found.append(message)
    return found


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
        channel.client.eval(_PUT_BACK, 2, quarantine_key(settings), settings.queue, message.item)
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
    while items := channel.client.lrange(quarantine_key(settings), start, start + _PAGE - 1):
        start += len(items)
        for item in items:
            yield DeadMessage(f"{ID_PREFIX}{hashlib.sha256(item).hexdigest()[:16]}", item)
