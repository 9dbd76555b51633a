"""How large a process's batches are, and how long they take."""

from execution_logger.histogram import Histogram

BATCH_ENTRIES = (1, 5, 10, 25, 50, 100, 250, 500, 1000)
_DELIVERY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_STORE_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)


class Distributions:
    """Of the process's own batches that were sent; observed by the shipper's thread, once for each."""

    def __init__(self) -> None:
        self.batch_entries = Histogram(BATCH_ENTRIES)
        self.delivery_seconds = Histogram(_DELIVERY_SECONDS)
        """Of the attempt that succeeded."""
        self.store_seconds = Histogram(_STORE_SECONDS)
        """From the first time it was sent to the worker's word, which is asked for about once a second."""
