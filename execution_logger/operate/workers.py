"""Which workers are there."""

import socket
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
    answers = _ask(settings, "active_queues")
    return sorted({name for name, queues in answers if _has(queues, settings)})


def worker_processes(settings: Settings) -> list[int]:
    """The process ids of the workers that answer within a second and say to be on this machine.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    host = socket.gethostname()
    answers = [answer for name, answer in _ask(settings, "stats") if name.endswith(f"@{host}")]
    return [answer["pid"] for answer in answers if isinstance(answer.get("pid"), int)]


def _ask(settings: Settings, command: str) -> list[tuple[str, Any]]:
    """What Celery's own `inspect` does, over a connection of its own instead of a pool's."""
    with open_channel(settings) as channel:
        mailbox = Mailbox(_CELERY_MAILBOX, type="fanout", accept=["json"])(channel.connection.client)
        answers = mailbox.multi_call(command, timeout=_ANSWER_SECONDS, channel=channel)
    return [item for answer in answers for item in answer.items()]


def _has(queues: Any, settings: Settings) -> bool:
    """Whether the queue is among them; no list is the answer of a worker that has failed to tell."""
    return isinstance(queues, list) and any(queue["name"] == settings.queue for queue in queues)
