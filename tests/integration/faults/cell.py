"""One cell of the matrix: how often a fault is repeated, at which moments, and what was counted."""

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from integration.faults.count import Count, number_of
from waiting import let_pass

REPETITIONS = "FAULTS_REPETITIONS"
MINUTES = "FAULTS_MINUTES"
SEED = "FAULTS_SEED"
RECORD = "FAULTS_RECORD"
"""Variables that the matrix program sets. Without them every cell takes its short form."""

_SHORT_REPETITIONS = 1
_TITLE = re.compile(r"(?:Test(?P<group>\w+)\.)?test_(?P<words>\w+?)(?:\[(?P<variant>.*)\])?$")


@dataclass
class Figures:
    """A line of the table."""

    fault: str
    repetitions: int = 0
    calls: int = 0
    rows: int = 0
    lost: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    recovery_seconds: float = 0.0
    is_exact: bool = True
    note: str = ""


class Cell:
    """What a test asks for its repetitions and its random moments, and tells what it counted.

    Args:
        name: of the test, as in "TestHost.test_killed_while_idle[sqlite]".
        seed: of the random moments; printed, so that a failure can be run again.
    """

    def __init__(self, name: str, seed: int) -> None:
        print(f"{name}: {SEED}={seed}")
        self.figures = Figures(title_of(name))
        self.random = Random(f"{seed} {name}")
        self._began_at = time.monotonic()

    @property
    def is_long(self) -> bool:
        """Whether the matrix program asked for the long form."""
        return REPETITIONS in os.environ

    @property
    def minutes(self) -> float | None:
        """How long what lasts is to last; None in the short form."""
        return float(os.environ[MINUTES]) if MINUTES in os.environ else None

    def repetitions(self, short: int = _SHORT_REPETITIONS) -> Iterator[int]:
        """Numbers from 0: as many as the matrix program asked for, or `short`: two where one shows less."""
        for number in range(int(os.environ.get(REPETITIONS, str(short)))):
            self.figures.repetitions += 1
            yield number

    def a_few(self) -> Iterator[int]:
        """The same for faults without a random moment: one, and in the long form a quarter of the others."""
        for number in range(max(1, int(os.environ.get(REPETITIONS, "1")) // 4)):
            self.figures.repetitions += 1
            yield number

    def let_pass_up_to(self, seconds: float) -> None:
        """Wait for a random moment; early ones, when most things begin, are the likelier ones."""
        let_pass(min(seconds, self.random.expovariate((3 if self.is_long else 6) / seconds)))

    def add(self, count: Count, recovery_seconds: float) -> None:
        """Take over what was counted, after each repetition or once for all of them."""
        figures = self.figures
        figures.calls += count.calls
        figures.rows += count.rows
        figures.lost += number_of(count.lost)
        figures.duplicates += number_of(count.duplicates) + number_of(count.foreign)
        figures.out_of_order += number_of(count.out_of_order)
        figures.recovery_seconds = max(figures.recovery_seconds, recovery_seconds)
        figures.is_exact = figures.is_exact and count.is_exact

    def write(self) -> None:
        """Append the figures to the file that the matrix program reads."""
        print(self.figures)
        if RECORD in os.environ:
            with Path(os.environ[RECORD]).open("a") as file:
                file.write(json.dumps(asdict(self.figures)) + "\n")


def title_of(name: str) -> str:
    """The words of a test's name, for people.

    >>> title_of("TestHost.test_killed_while_idle[sqlite]")
    'host: killed while idle (sqlite)'
    """
    match = _TITLE.match(name)
    if match is None:
        return name
    group, variant = match["group"], match["variant"]
    words = match["words"].replace("_", " ")
    title = f"{group}: {words}" if group else words
    return f"{title} ({variant})" if variant else title
