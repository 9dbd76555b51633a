"""Things that happen one after the other, on machines with so many cores: a discrete-event simulation.

Every process is a line of work in which one thing happens at a time. A machine runs as many of its
processes at once as it has cores; who has waited longest is next.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from math import ceil

Then = Callable[[], object]

_SLICE_SECONDS = 0.004


class Events:
    """What happens next, in the order of time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Then]] = []
        self._numbers = count()

    def after(self, seconds: float, then: Then) -> None:
        """Let it happen; what is for the same time happens in the order in which it was said."""
        heapq.heappush(self._heap, (self.now + seconds, next(self._numbers), then))

    def run(self, until: Callable[[], bool]) -> None:
        """One after the other, until that is so or nothing is left."""
        while self._heap and not until():
            self.now, _, then = heapq.heappop(self._heap)
            then()


class Machine:
    """So many cores, and the processes that are ready to run on them."""

    def __init__(self, events: Events, cores: int) -> None:
        self.busy_seconds = 0.0
        self.cores = cores
        self._events = events
        self._free = cores
        self._ready: deque[tuple[float, Then]] = deque()

    def run(self, seconds: float, then: Then) -> None:
        """Take a core for that long, as soon as there is one."""
        self._ready.append((seconds, then))
        self._dispatch()

    def keep_busy(self, cores: float) -> None:
        """Let processes that are no concern of ours take so many cores, in time slices."""
        for _ in range(number := ceil(cores)):
            self._take_slices(pause=_SLICE_SECONDS * (number / cores - 1))

    def _take_slices(self, pause: float) -> None:
        again = partial(self._take_slices, pause)
        self.run(_SLICE_SECONDS, lambda: self._events.after(pause, again))

    def _dispatch(self) -> None:
        while self._free and self._ready:
            seconds, then = self._ready.popleft()
            self._free -= 1
            self.busy_seconds += seconds
            self._events.after(seconds, partial(self._done, then))

    def _done(self, then: Then) -> None:
        self._free += 1
        then()
        self._dispatch()


class Process:
    """A line of work: one thing at a time, in order."""

    def __init__(self, machine: Machine, noise: random.Random) -> None:
        self._machine = machine
        self._noise = noise
        self._work: deque[tuple[float, Then]] = deque()

    def run(self, seconds: float, then: Then) -> None:
        """Do that when all before is done; it takes that long on average (Erlang, a spread of a half)."""
        self._work.append((seconds * self._noise.gammavariate(4, 0.25), then))
        if len(self._work) == 1:
            self._next()

    def _next(self) -> None:
        self._machine.run(self._work[0][0], self._done)

    def _done(self) -> None:
        # It stays at the head meanwhile: what comes with it has to wait, and is begun once.
        self._work[0][1]()
        self._work.popleft()
        if self._work:
            self._next()
