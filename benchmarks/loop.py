"""The gaps in the event loop of a host that logs, with a broker that is up, or away in each way.

    python benchmarks/loop.py [--rounds 5] [--seconds 2] [--rate 5000]

A ticker asks for a turn every millisecond while 100 workflows log evenly. The worst gap between two of
its turns is what a request of the host's would have waited. Three programs, each in a process of its
own, in rounds that alternate: one that awaits as the others do and logs nothing, one with this library,
and one with naive.py. The broker fails once the host has been logging for a second:

- refused: no Redis listens any more;
- hung: Redis is stopped (SIGSTOP), its connections stay open;
- black-holed: a proxy before it swallows everything.

And the first calls of a process are watched: of a host that enters `logger.lifespan` at its start, where
what a delivery needs is imported, and of one that does not.
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from subprocess import PIPE, Popen, TimeoutExpired
from tempfile import TemporaryDirectory

import msgspec
from msgspec.structs import replace

from figures import Figures, Plot, Table, Target, main, number, progress, spread
from watched_host import Options, Seen

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from integration.faults.proxy import Proxy
from servers import RedisServer

FOLDER = Path(__file__).resolve().parent
NAMES = {"none": "no logging", "ours": "execution_logger", "naive": "a list of dicts with `apply_async`"}
MOST_ABOVE_MS = 5.0


@dataclass
class Broker:
    """A Redis, and a proxy before it."""

    redis: RedisServer
    proxy: Proxy

    @contextmanager
    def up(self) -> Iterator[None]:
        """Nothing happens."""
        yield

    @contextmanager
    def refused(self) -> Iterator[None]:
        """Nobody listens."""
        self.redis.stop()
        yield
        self.redis.start()

    @contextmanager
    def hung(self) -> Iterator[None]:
        """It does not answer."""
        self.redis.pause()
        yield
        self.redis.resume()

    @contextmanager
    def black_holed(self) -> Iterator[None]:
        """Whatever is sent to it vanishes."""
        self.proxy.swallow()
        yield
        self.proxy.heal()


@dataclass(frozen=True)
class Case:
    """What happens to the broker."""

    fault: Callable[[Broker], AbstractContextManager[None]]
    is_new: bool = False
    has_lifespan: bool = True
    is_by_proxy: bool = False


CASES = {
    "up": Case(Broker.up),
    "refused": Case(Broker.refused),
    "hung": Case(Broker.hung),
    "black-holed": Case(Broker.black_holed, is_by_proxy=True),
    "up, the first calls of a process": Case(Broker.up, is_new=True),
    "up, the first calls without `lifespan`": Case(Broker.up, is_new=True, has_lifespan=False),
}


def run(broker: Broker, case: Case, options: Options, patience_seconds: float) -> Seen:
    """Let a host run, and the broker fail; a host that does not come back has a gap of all that time."""
    port = broker.proxy.port if case.is_by_proxy else broker.redis.port
    options = replace(
        options, broker_url=f"redis://127.0.0.1:{port}/0", is_new=case.is_new, has_lifespan=case.has_lifespan
    )
    command = [sys.executable, str(FOLDER / "watched_host.py"), msgspec.json.encode(options).decode()]
    with Popen(  # noqa: S603 - a program of this folder
        command, stdin=PIPE, stdout=PIPE, env=environment(options.folder), text=True
    ) as host:
        assert host.stdout is not None
        if host.stdout.readline() != "ready\n":
            raise RuntimeError("the host has ended before it was ready")
        with case.fault(broker):
            try:
                output, _ = host.communicate("go\n", timeout=patience_seconds)
            except TimeoutExpired:
                host.kill()
                stood_still_ms = patience_seconds * 1e3
                return Seen(0, stood_still_ms, stood_still_ms, 0.0, 0.0, came_back=False)
    with broker.redis.client() as client:
        client.flushall()
    return msgspec.json.decode(output, type=Seen)


def environment(folder: str) -> dict[str, str]:
    """Ours, with modules that are compiled once, as an installation has them, and not in each process."""
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(Path(folder).parent)}


Found = dict[tuple[str, str], list[Seen]]
"""What was seen in each round, by case and logger."""


def compare(rounds: range, seconds: float, patience_seconds: float, rate: float) -> Found:
    """Run all programs with all brokers; naive.py, whose gaps are beyond all doubt, in the first round."""
    found: defaultdict[tuple[str, str], list[Seen]] = defaultdict(list)
    with RedisServer() as redis, Proxy(redis.port) as proxy, TemporaryDirectory() as folder:
        broker = Broker(redis, proxy)
        for turn in rounds:
            for name, case in CASES.items():
                has_naive = turn == 1 and case.has_lifespan
                for logger in ("none", "ours", "naive") if has_naive else ("none", "ours"):
                    journal = str(Path(folder) / f"{turn}-{name}-{logger}")
                    options = Options(logger, "", journal, seconds if turn else 0.1, min(1.0, seconds), rate)
                    seen = run(broker, case, options, seconds + patience_seconds)
                    progress(f"round {turn}/{rounds[-1]}, {name}, {NAMES[logger]}: {seen.worst_ms:,.1f} ms")
                    if turn:  # the first round compiles modules
                        found[name, logger].append(seen)
    return found


def table(found: Found) -> Table:
    """A row for each broker and program."""
    rows = []
    for (name, logger), each in found.items():
        sign = "" if all(seen.came_back for seen in each) else "> "
        rows.append((
            f"{name}: {NAMES[logger]}",
            sign + spread([seen.worst_ms for seen in each]),
            sign + number(median(seen.p99_ms for seen in each)),
            number(median(seen.worst_cpu_ms for seen in each)),
            number(median(seen.longest_collection_ms for seen in each)),
        ))  # fmt: skip
    columns = ("broker: program", "worst gap", "p99", "CPU in one gap", "longest collection")
    return Table(
        "Gaps in the event loop, ms, medians of rounds",
        columns,
        rows,
        "A tick is 1 ms. `CPU in one gap` is the most that the process itself has computed between two "
        "ticks, in all its threads: what is left of a gap when nothing else runs on the machine.",
    )


def measure(options: argparse.Namespace) -> Figures:
    """All brokers, all programs."""
    rounds, seconds, patience_seconds = range(options.rounds + 1), options.seconds, options.patience
    if options.quick:
        rounds, seconds, patience_seconds = range(1, 2), 0.3, 0.5
    found = compare(rounds, seconds, patience_seconds, options.rate)

    def worst(name: str, logger: str) -> float:
        return median(seen.worst_ms for seen in found[name, logger])

    targets = [
        Target(
            f"worst gap above that without logging, broker {name}",
            worst(name, "ours") - worst(name, "none"),
            MOST_ABOVE_MS,
            "ms",
        )
        for name, case in CASES.items()
        if case.has_lifespan
    ]
    series = {
        NAMES[logger]: [(name, worst(name, logger)) for name in CASES if (name, logger) in found]
        for logger in NAMES
    }
    plot = Plot("Worst gap in the event loop", "", "ms", series, is_log_y=True)
    return Figures([table(found)], [plot], targets)


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="that each host is watched")
    parser.add_argument(
        "--patience", type=float, default=10, help="seconds until a host whose loop stands still is ended"
    )
    parser.add_argument("--rate", type=float, default=5_000, help="entries a second")


if __name__ == "__main__":
    main(__doc__, measure, add_options)
