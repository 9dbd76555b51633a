"""A load test: some users, each of whom makes one request after the other."""

import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from threading import Event
from typing import Any

import httpx

from execution_logger import LogCategory, execution_logger
from flask_host.runs import Attempt
from flask_host.schemas import Scenario
from flask_host.target import make_client

_TICK_SECONDS = 0.25


def run(attempt: Attempt) -> dict[str, Any]:
    """Put the load on; the result. An attempt after a lost worker begins anew."""
    scenario = Scenario.model_validate(attempt.definition)
    with make_client() as client, ThreadPoolExecutor(scenario.user_count) as threads:
        client.get(scenario.paths[0])  # raises if nobody is there yet: the task is tried again
        load = Load(scenario, client)
        with execution_logger.sync.timed_operation(None, LogCategory.TOOL, "load") as timer:
            try:
                load.drive(attempt, threads)
            finally:
                load.is_over.set()
                timer.set_details(load.result)
    return load.result


class Load:
    """The users, and what came of their requests."""

    def __init__(self, scenario: Scenario, client: httpx.Client) -> None:
        self.is_over, self._users = Event(), 0
        self._scenario, self._client = scenario, client
        self._milliseconds: list[float] = []
        self._errors: list[str] = []

    @property
    def result(self) -> dict[str, Any]:
        """How it goes, or went."""
        times, errors = sorted(self._milliseconds) or [0.0], Counter(self._errors)
        median, late = statistics.median(times), times[int(0.95 * (len(times) - 1))]
        counts = {"users": self._users, "requests": len(self._milliseconds), "failed": errors.total()}
        return {**counts, "errors": errors, "median_ms": round(median, 1), "percentile_95_ms": round(late, 1)}

    def drive(self, attempt: Attempt, threads: ThreadPoolExecutor) -> None:
        """Have more and more users, until the time is over."""
        began_at = time.monotonic()
        while (seconds := time.monotonic() - began_at) < self._scenario.run_time:
            while self._users < min(self._scenario.user_count, 1 + int(seconds * self._scenario.spawn_rate)):
                threads.submit(self._use)
                self._users += 1
            attempt.report(**self.result)
            time.sleep(min(_TICK_SECONDS, self._scenario.run_time - seconds))

    def _use(self) -> None:
        for path in cycle(self._scenario.paths):
            began_at = time.perf_counter()
            try:
                self._client.get(path).raise_for_status()
            except httpx.HTTPError as error:
                self._errors.append(type(error).__name__)
            self._milliseconds.append((time.perf_counter() - began_at) * 1000)
            if self.is_over.wait(self._scenario.pause_seconds):
                return
