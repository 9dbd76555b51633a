"""Which workers are there."""

from typing import Any

from kombu.pidbox import Mailbox

from execution_logger.broker.depth import open_channel
from execution_logger.settings import Settings

_ANSWER_SECONDS = 1.0
_CELERY_MAILBOX = "celery"


def workers_online(settings: Settings) -> list[str]:
    """The names of the workers that take from the queue and answer within a second, sorted.

    Workers of one name, as several on one host have unless they are given `--hostname`, count once.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    answers = ask_workers(settings, "active_queues")
    return sorted({name for name, queues in answers if _has(queues, settings)})


def ask_workers(settings: Settings, command: str) -> list[tuple[str, Any]]:
    """What each worker answers to a command of Celery's `inspect` within a second.

    Over a connection of its own instead of a pool's.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    with open_channel(settings) as channel:
        mailbox = Mailbox(_CELERY_MAILBOX, type="fanout", accept=["json"])(channel.connection.client)
        answers = mailbox.multi_call(command, timeout=_ANSWER_SECONDS, channel=channel)
    return [item for answer in answers for item in answer.items()]


def _has(queues: Any, settings: Settings) -> bool:
    """Whether the queue is among them; no list is the answer of a worker that has failed to tell."""
    return isinstance(queues, list) and any(queue["name"] == settings.queue for queue in queues)
