"""Where a message is that has not arrived: still queued, in a worker's hands, or gone."""

from dataclasses import dataclass
from typing import Any

from execution_logger.broker.depth import is_redis, open_channel
from execution_logger.settings import Settings

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What the broker knows of a message.

    Attributes:
        ahead: how many messages a worker gets first; None when it does not wait in the queue.
        is_in_hand: a worker has it.
        is_known: False for brokers that cannot be asked.
    """

    ahead: int | None = None
    is_in_hand: bool = False
    is_known: bool = True


def find_message(settings: Settings, mark: str) -> Whereabouts:
    """Look for a message whose description holds `mark`.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    with open_channel(settings) as channel:
        if not is_redis(channel):
            return Whereabouts(is_known=False)
        for ahead, item in _waiting(channel.client, settings.queue):
            if mark.encode() in item:
                return Whereabouts(ahead=ahead)
        for _, item in channel.client.hscan_iter(channel.unacked_key, count=_PAGE):
            if mark.encode() in item:
                return Whereabouts(is_in_hand=True)
    return Whereabouts()


def take_back(settings: Settings, mark: str) -> bool:
    """Remove the message from the queue, if it still waits there.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    with open_channel(settings) as channel:
        if not is_redis(channel):
            return False
        items = (item for _, item in _waiting(channel.client, settings.queue) if mark.encode() in item)
        return any(channel.client.lrem(settings.queue, 0, item) for item in list(items))


def _waiting(client: Any, queue: str) -> Any:
    """The messages with how many come before each, newest first: what was sent just now is there."""
    length, start = client.llen(queue), 0
    while items := client.lrange(queue, start, start + _PAGE - 1):
        for number, item in enumerate(items, start):
            yield length - number - 1, item
        start += len(items)
