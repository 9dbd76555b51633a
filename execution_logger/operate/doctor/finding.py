"""What the doctor finds: one fact of a running system, and what to do about it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from execution_logger.settings import Settings

_FINAL = (".connection", ".commands", ".settings", ".cluster", ".pgbouncer", ".online", ".queues")


class Level(StrEnum):
    """How bad it is, from good to bad."""

    OK = "ok"
    WARNING = "warning"
    """Works today, and will cost entries, time or safety when something else goes wrong."""
    ERROR = "error"
    """Entries do not arrive now, or anybody could have code executed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact.

    Attributes:
        name: what was examined, e.g. `broker.eviction`; the part before the dot is its area.
        level: how bad it is.
        what: what was found, with names and values.
        advice: the command or the setting that changes it; empty when all is well.
    """

    name: str
    level: Level
    what: str
    advice: str = ""

    @property
    def area(self) -> str:
        """What it belongs to: settings, journal, broker, workers, results, database or probe."""
        return self.name.partition(".")[0]

    @property
    def is_final(self) -> bool:
        """Whether it is pointless to ask more of this server, or to send it anything."""
        return self.level is Level.ERROR and self.name.endswith(_FINAL)


def ok(name: str, what: str) -> Finding:
    """Nothing to do."""
    return Finding(name, Level.OK, what)


def warning(name: str, what: str, advice: str) -> Finding:
    """Something that will hurt."""
    return Finding(name, Level.WARNING, what, advice)


def error(name: str, what: str, advice: str) -> Finding:
    """Something that hurts."""
    return Finding(name, Level.ERROR, what, advice)


def advice_on(problem: str, causes: Mapping[str, str], otherwise: str) -> str:
    """What helps against this kind of failure; the causes are regular expressions, the first one counts."""
    found = (advice for signs, advice in causes.items() if re.search(signs, problem, re.IGNORECASE))
    return next(found, otherwise)


def worst(findings: Iterable[Finding]) -> Level:
    """The level of the worst of them; ok when there is none."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is examined.

    Attributes:
        settings: what this process would use.
        environ: where they come from, because a default and a decision may look the same.
        now: this machine's clock, in seconds since 1970.
    """

    settings: Settings
    environ: Mapping[str, str]
    now: Callable[[], float]


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
