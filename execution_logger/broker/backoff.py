"""The pauses between failed attempts."""

import random
from collections.abc import Callable

FIRST_PAUSE_SECONDS = 0.5


class Backoff:
    """Pauses that double up to a maximum, each shortened by a random part.

    The random part keeps a fleet of hosts from knocking on a recovered broker in step ("equal
    jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter").
    """

    def __init__(self, max_seconds: float, random_fraction: Callable[[], float] = random.random) -> None:
        self._max_seconds = max_seconds
        self._random_fraction = random_fraction
        self._failures = 0

    def next_pause_seconds(self) -> float:
        """The pause after one more failure: between half of the full pause and all of it."""
        full = min(self._max_seconds, FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return full * (0.5 + self._random_fraction() / 2)

    def reset(self) -> None:
        """Start again with the shortest pause."""
        self._failures = 0
