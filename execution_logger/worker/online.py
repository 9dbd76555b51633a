"""Which workers are there."""

from kombu.pidbox import Mailbox

from execution_logger.settings import Settings
from execution_logger.worker.queue import open_channel

_ANSWER_SECONDS = 1.0
_CELERY_MAILBOX = "celery"


def workers_online(settings: Settings) -> list[str]:
    """The names of the workers that take from the queue and answer within a second, sorted.

    Workers of one name, as several on one host have unless they are given `--hostname`, count once.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    with open_channel(settings) as channel:
        # What Celery's own `inspect` does, over this connection instead of a pool's.
        mailbox = Mailbox(_CELERY_MAILBOX, type="fanout", accept=["json"])(channel.connection.client)
        answers = mailbox.multi_call("active_queues", timeout=_ANSWER_SECONDS, channel=channel)
    return sorted({name for answer in answers for name, queues in answer.items() if _has(queues, settings)})


def _has(queues: list[dict[str, object]], settings: Settings) -> bool:
    return any(queue["name"] == settings.queue for queue in queues)
