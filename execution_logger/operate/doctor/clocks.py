"""Whether two machines agree on the time."""

from collections.abc import Iterator

from execution_logger.operate.doctor.finding import Finding, warning

TOLERANCE_SECONDS = 2.0
"""What NTP keeps machines within is a hundredth of this."""


def compare_clocks(
    area: str, whose: str, told: float, asked_at: float, answered_at: float
) -> Iterator[Finding]:
    """What to say of a clock that told a time between two looks at our own, all in seconds since 1970.

    Nothing while the two may be equal: how long the answer was on its way is not known.
    """
    doubt = (answered_at - asked_at) / 2
    ahead = told - (asked_at + doubt)
    if abs(ahead) - doubt > TOLERANCE_SECONDS:
        yield warning(
            f"{area}.clock",
            f"{whose} clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's",
            "let NTP set both (see: timedatectl, chronyc tracking); rows are ordered and expire by time",
        )
