"""Which workers there are."""

from execution_logger.exposition import Metric, gauge
from execution_logger.settings import Settings
from execution_logger.worker.online import workers_online


def read_workers(settings: Settings) -> list[Metric]:
    """How many take from the queue; those of one name count once.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    return [gauge("workers_online", "Workers that take from the queue.", len(workers_online(settings)))]
