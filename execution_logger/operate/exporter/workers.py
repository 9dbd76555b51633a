"""Which workers there are."""

from execution_logger.metrics import Metric, gauge
from execution_logger.operate.workers import workers_online
from execution_logger.settings import Settings


def read_workers(settings: Settings) -> list[Metric]:
    """How many take from the queue; those of one name count once.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    return [gauge("workers_online", "Workers that take from the queue.", len(workers_online(settings)))]
