"""What a host's ordinary logging costs through our handler, against a QueueHandler in the same run.

    python benchmarks/handler.py [--lines 20000] [--rounds 9] [--seconds 5] [--rate 5000]

All get the same lines by the same `logger.info(...)`: one with two arguments, and one with five names in
`extra` as well. Ours keeps each on disk when the call returns; a QueueHandler puts it into memory, and its
listener's thread has a handler that does nothing, or one that writes a file, as ours do.

1. The mean of calls at full speed. Ours delivers to nowhere. Rounds alternate between the handlers.
2. CPU time of the whole process, its background thread included, at an even rate, without what the same
   lines take with no handler. Ours delivers to a real Redis, too.
"""

import argparse
import gc
import logging
import logging.handlers
import queue
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from execution_logger import ExecutionLogger, Settings
from execution_logger.integrations.logging import Handler
from figures import Figures, Plot, Table, Target, main, number, progress, spread
from peers import Nowhere
from system import System, running_system

NONE = "no handler"
OURS = "ours"
OURS_IN_MEMORY = "ours, journal off"
OURS_TO_REDIS = "ours, to Redis"
QUEUE = "QueueHandler"
QUEUE_TO_FILE = "QueueHandler, to a file"

Log = Callable[[], object]
Kinds = Mapping[str, Log]
"""What logs a line, by the kind of line."""

EXTRA = {"task_id": "task-1", "step": "outline", "model": "m", "chapters": 3, "attempt": 1}


def lines_of(logger: logging.Logger) -> Kinds:
    """The two kinds, by this logger."""
    return {
        "two arguments": lambda: logger.info("%s finished after %d ms", "intent_analysis", 1500),
        "and `extra`": lambda: logger.info("%s finished after %d ms", "intent_analysis", 1500, extra=EXTRA),
    }


@contextmanager
def logger_with(name: str, *handlers: logging.Handler) -> Iterator[Kinds]:
    """A logger that has these handlers alone."""
    logger = logging.getLogger(f"benchmark.{name}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    yield lines_of(logger)
    for handler in handlers:
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def no_handler() -> Iterator[Kinds]:
    """What `logging` itself takes."""
    with logger_with("none", logging.NullHandler()) as kinds:
        yield kinds


@contextmanager
def ours(**more: Any) -> Iterator[Kinds]:
    """Our handler; its logger delivers to nowhere."""
    with tempfile.TemporaryDirectory() as folder:
        logger = ExecutionLogger(Settings(journal_directory=folder, **more), make_delivery=Nowhere)
        with logger_with("ours", Handler(logger=logger)) as kinds:
            yield kinds
        logger.sync.shutdown()


@contextmanager
def ours_to_redis(system: System) -> Iterator[Kinds]:
    """Our handler, with default settings; no worker runs."""
    logger = system.logger(queue_max_messages=10_000_000)
    with logger_with("redis", Handler(logger=logger)) as kinds:
        yield kinds
    logger.sync.shutdown()
    system.clear()


@contextmanager
def queue_handler(target: Callable[[], logging.Handler]) -> Iterator[Kinds]:
    """The standard library's QueueHandler; its listener's thread has the target."""
    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    handler = target()
    listener = logging.handlers.QueueListener(records, handler)
    listener.start()
    with logger_with("queue", logging.handlers.QueueHandler(records)) as kinds:
        yield kinds
    listener.stop()
    handler.close()


def to_file(folder: str) -> logging.Handler:
    """What writes a usual line of text."""
    handler = logging.FileHandler(Path(folder) / "lines.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    return handler


Makers = Mapping[str, Callable[[], AbstractContextManager[Kinds]]]


def makers(folder: str, system: System | None = None) -> Makers:
    """All that are compared; the system adds the one that delivers to its Redis."""
    redis = {} if system is None else {OURS_TO_REDIS: partial(ours_to_redis, system)}
    return {
        NONE: no_handler,
        OURS: partial(ours, journal=True),
        OURS_IN_MEMORY: partial(ours, journal=False),
        **redis,
        QUEUE: partial(queue_handler, logging.NullHandler),
        QUEUE_TO_FILE: partial(queue_handler, partial(to_file, folder)),
    }


Results = dict[str, dict[str, list[float]]]
"""Microseconds a line of each round, by the kind of line and the handler."""


def calls_us(log: Log, lines: int) -> float:
    """Microseconds a call, at full speed."""
    began = time.perf_counter()
    for _ in range(lines):
        log()
    return (time.perf_counter() - began) / lines * 1e6


def cpu_us(log: Log, per_second: float, seconds: float) -> float:
    """Microseconds of CPU a line, of all threads, evenly paced in bursts of 10 ms."""
    burst = max(1, round(per_second / 100))
    began, bursts, cpu = time.perf_counter(), int(seconds * per_second / burst), time.process_time()
    for turn in range(bursts):
        for _ in range(burst):
            log()
        time.sleep(max(0.0, began + (turn + 1) * burst / per_second - time.perf_counter()))
    return (time.process_time() - cpu) / (bursts * burst) * 1e6


def compare(makers: Makers, measure: Callable[[Log], float], rounds: int, what: str) -> Results:
    """Measure all, round after round; the first one warms up."""
    results: Results = defaultdict(lambda: defaultdict(list))
    for turn in range(rounds + 1):
        progress(f"{what}, round {turn}/{rounds}")
        for name, make in makers.items():
            with ExitStack() as stack:
                for kind, log in stack.enter_context(make()).items():
                    gc.collect()
                    log()
                    value = measure(log)
                    time.sleep(0.2)  # what the round left to the background is done before the next
                    if turn:
                        results[kind][name].append(value)
    return results


def ratio(values: list[float], others: list[float]) -> float:
    """The median of the ratios of rounds that were made one after the other."""
    return median(value / other for value, other in zip(values, others, strict=True))


def without(values: list[float], base: list[float]) -> list[float]:
    """What is added to what `logging` itself takes."""
    return [value - least for value, least in zip(values, base, strict=True)]


def table_of(title: str, results: Results, kind: str) -> Table:
    """A row for each handler; the ratios are those to the two QueueHandlers."""
    by_name = results[kind]
    rows = []
    for name, values in sorted(by_name.items(), key=lambda item: median(item[1])):
        added = without(values, by_name[NONE])
        rows.append(
            (
                name,
                spread(values),
                "" if name == NONE else number(median(added)),
                number(ratio(values, by_name[QUEUE])),
                number(ratio(values, by_name[QUEUE_TO_FILE])),
            )
        )
    columns = (
        "handler",
        "µs a line, median of rounds (quartiles)",
        "µs added",
        f"ratio to {QUEUE}",
        "to that to a file",
    )
    return Table(f"{title}: {kind}", columns, rows)


def measure(options: argparse.Namespace) -> Figures:
    """Both questions, for both kinds of lines."""
    lines, rounds, seconds = options.lines, options.rounds, options.seconds
    if options.quick:
        lines, rounds, seconds = 1_000, 1, 0.5
    with tempfile.TemporaryDirectory() as folder, running_system() as system:
        calls = compare(makers(folder), lambda log: calls_us(log, lines), rounds, "calls")
        cpu = compare(
            makers(folder, system), lambda log: cpu_us(log, options.rate, seconds), min(rounds, 5), "CPU"
        )
    at_rate = f"CPU of the process at {number(options.rate)} lines/s"
    tables = [table_of("A call at full speed", calls, kind) for kind in calls]
    tables += [table_of(at_rate, cpu, kind) for kind in cpu]
    bars = {kind: [(name, median(values)) for name, values in of.items()] for kind, of in calls.items()}
    plot = Plot("What a line of `logging` costs its caller", "", "µs a call", bars)
    targets = [
        Target(f"a line with {kind}, {what}, {name} / {other}", ratio(of[name], of[other]), 1)
        for name, other in ((OURS, QUEUE_TO_FILE), (OURS, QUEUE), (OURS_IN_MEMORY, QUEUE))
        for what, results in (("a call", calls), (f"CPU at {number(options.rate)} lines/s", cpu))
        for kind, of in results.items()
    ]
    return Figures(tables, [plot], targets)


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=5, help="of lines at the even rate")
    parser.add_argument("--rate", type=float, default=5_000, help="lines a second")


if __name__ == "__main__":
    main(__doc__, measure, add_options)
