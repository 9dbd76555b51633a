"""Pauses between attempts grow, differ between processes, and have a maximum."""

from hypothesis import given
from hypothesis import strategies as st

from execution_logger.broker.connection import FIRST_PAUSE_SECONDS, Backoff


def test_pauses_double_up_to_the_maximum() -> None:
    """Without the random part."""
    backoff = Backoff(30.0, lambda: 1.0)
    assert [backoff.next_pause_seconds() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_the_random_part_shortens_a_pause_by_half_at_most() -> None:
    """A fleet of hosts does not knock on a recovered broker in step."""
    backoff = Backoff(30.0, lambda: 0.0)
    assert [backoff.next_pause_seconds() for _ in range(3)] == [0.25, 0.5, 1]


def test_after_a_success_pauses_are_short_again() -> None:
    """The next outage is another one."""
    backoff = Backoff(30.0, lambda: 1.0)
    for _ in range(5):
        backoff.next_pause_seconds()
    backoff.reset()
    assert backoff.next_pause_seconds() == FIRST_PAUSE_SECONDS


def test_an_outage_of_days_makes_no_endless_pause() -> None:
    """Nor a number that is too large."""
    backoff = Backoff(30.0, lambda: 1.0)
    for _ in range(5000):
        assert backoff.next_pause_seconds() <= 30


@given(st.floats(0.01, 3600), st.integers(1, 50))
def test_every_pause_is_within_its_bounds(max_seconds: float, failures: int) -> None:
    """With the true random part."""
    backoff = Backoff(max_seconds)
    for _ in range(failures):
        assert min(max_seconds, FIRST_PAUSE_SECONDS) / 2 <= backoff.next_pause_seconds() <= max_seconds
