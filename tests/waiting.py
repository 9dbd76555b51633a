"""Waiting on conditions, never on hope: the only place of the tests that sleeps."""

import time
from collections.abc import Callable

_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.5
_REST = 9.0
"""A pause is so many times as long as the look before it: who waits must not hold up those who work."""

PATIENCE = 8
"""Machines differ: what takes seconds on one may take so many times as long on another that is busy. A
condition that comes true costs nothing of it."""


def wait_until(
    condition: Callable[[], object],
    timeout_seconds: float = 10.0,
    *,
    message: Callable[[], str] = str,
    pause_seconds: float = _PAUSE_SECONDS,
) -> None:
    """Return as soon as `condition()` is true; `timeout_seconds` is what an idle, fast machine may need.

    `message` is called on failure only: it tells what the condition was waiting for. A condition
    that costs more than a look at memory is asked less often.

    Raises:
        TimeoutError: it was not true within `PATIENCE` times `timeout_seconds`.
    """
    looked_at = time.monotonic()
    deadline = looked_at + timeout_seconds * PATIENCE
    while not condition():
        now = time.monotonic()
        if now >= deadline:
            name = getattr(condition, "__qualname__", repr(condition))
            raise TimeoutError(f"{name} was not true within {timeout_seconds * PATIENCE:g} s. {message()}")
        rest_seconds = min(_REST * (now - looked_at), _LONGEST_PAUSE_SECONDS)
        time.sleep(max(pause_seconds, rest_seconds))
        looked_at = time.monotonic()


def let_pass(seconds: float) -> None:
    """Let some time pass: the length of a fault, or a moment that a test drew at random.

    Never to wait for something that is to happen meanwhile.
    """
    time.sleep(seconds)
