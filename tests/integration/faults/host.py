"""A host's program for the faults: `python -m integration.faults.host VARIANT FOLDER [options]`.

It makes numbered calls, which it counts in FOLDER (see calls.py), until it is killed, or asked to
end by SIGTERM. The library is set up by the environment alone, as in a deployment.
"""

import argparse
import asyncio
import math
import multiprocessing
import os
import pwd
import resource
import signal
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from children import fork_in_c
from execution_logger import LogCategory, execution_logger
from execution_logger.entry import encoder
from execution_logger.journal import journal
from integration.faults.calls import Stream

BURST = 30
"""Fewer than a batch has: they are still in the buffer when a fork comes."""


class Stop:
    """Whether SIGTERM came. No `threading.Event`: a handler that sets one can meet its own lock."""

    def __init__(self) -> None:
        self._is_set = False
        signal.signal(signal.SIGTERM, self._set)

    def is_set(self) -> bool:
        """Whether it came."""
        return self._is_set

    def wait(self, seconds: float = threading.TIMEOUT_MAX) -> bool:
        """Wait until it comes, or for some seconds; whether it came."""
        until = time.monotonic() + seconds
        while not self._is_set and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.01))
        return self._is_set

    def _set(self, *_: object) -> None:
        self._is_set = True


class Host:
    """What the variants share: the options, the end, and how a call is made."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.folder: Path = options.folder
        self.count: int = options.count
        self.rate: float = options.rate
        self.pause: float = options.pause
        self.stop = Stop()

    def stream(self, role: str) -> Stream:
        """A stream of this thread."""
        return Stream(self.folder, role)

    def burst(self, stream: Stream, count: int = BURST) -> None:
        """Make some calls as fast as possible."""
        for _ in range(count):
            stream.make(log)

    def run_stream(self, stream: Stream) -> None:
        """Make `count` calls at full speed, then go on at `rate` calls a second."""
        made = 0
        while made < self.count and not self.stop.is_set():
            stream.make(log)
            made += 1
        if self.rate:
            self.run_paced(stream)

    def run_burst(self, stream: Stream, rate: float) -> None:
        """Make `count` calls, at full speed when the rate is 0."""
        if rate:
            self.run_paced(stream, self.count)
        else:
            self.burst(stream, self.count)

    def run_paced(self, stream: Stream, most: float = math.inf) -> None:
        """Make `rate` calls a second, those that are overdue at once."""
        began_at, made = time.monotonic(), 0
        while made < most and not self.stop.wait(0.005):
            due = min(int((time.monotonic() - began_at) * self.rate), most)
            while made < due:
                stream.make(log)
                made += 1


def log(task_id: str, message: str) -> None:
    """One call of the library."""
    execution_logger.sync.info(task_id, LogCategory.WORKFLOW, message, details={"some": "details"})


def plain(host: Host) -> None:
    """A script: calls at full speed, then at a rate, then what `--then` says."""
    with host.stream("plain") as stream:
        host.run_stream(stream)


def idle(host: Host) -> None:
    """A process that has nothing to say: one call, and then it is there."""
    with host.stream("idle") as stream:
        stream.make(log)
        host.stop.wait()


def chinese(host: Host) -> None:
    """A host some of whose entries are not in English: those of the calls 7, 17, 27, ..."""

    def log_bilingual(task_id: str, message: str) -> None:
        text = "详情" if message.endswith("7") else "details"
        execution_logger.sync.info(task_id, LogCategory.WORKFLOW, message, details={"some": text})

    with host.stream("chinese") as stream:
        while not host.stop.wait(0.005):
            stream.make(log_bilingual)


def bursts(host: Host) -> None:
    """A host that makes `count` calls when it is told to: SIGUSR1 at full speed, SIGUSR2 at the rate."""
    asked: list[float] = []
    signal.signal(signal.SIGUSR1, lambda *_: asked.append(0.0))
    signal.signal(signal.SIGUSR2, lambda *_: asked.append(host.rate))
    with host.stream("bursts") as stream:
        host.burst(stream)
        while not host.stop.wait(0.01):
            if asked:
                host.run_burst(stream, asked.pop())


def flushing(host: Host) -> None:
    """A script that flushes after every few calls."""
    with host.stream("flushing") as stream:
        while not host.stop.is_set():
            host.burst(stream)
            stream.flush(lambda: execution_logger.sync.flush(2))


def threads(host: Host) -> None:
    """Four threads that log at once."""

    def run() -> None:
        with host.stream("thread") as stream:
            host.run_stream(stream)

    running = [threading.Thread(target=run) for _ in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def loop(host: Host) -> None:
    """Eight coroutines that log at once."""

    async def run() -> None:
        with host.stream("task") as stream:
            while not host.stop.is_set():
                await execution_logger.info(stream.name, LogCategory.WORKFLOW, stream.begin())
                stream.returned()
                await asyncio.sleep(0.001)

    async def run_all() -> None:
        async with execution_logger.lifespan():
            await asyncio.gather(*(run() for _ in range(8)))

    asyncio.run(run_all())


def forks(host: Host) -> None:
    """A process that forks with entries in its buffer; its children end in `os._exit` at once."""
    _fork_all_the_time(host, os.fork)


def forks_in_c(host: Host) -> None:
    """The same by forks that Python does not hear of."""
    _fork_all_the_time(host, fork_in_c, patience_seconds=20)


def _fork_all_the_time(host: Host, fork: Callable[[], int], patience_seconds: float = math.inf) -> None:
    with host.stream("parent") as parent:
        while not host.stop.is_set():
            host.burst(parent)
            child_id = fork()
            if child_id == 0:
                assert execution_logger.stats()["accepted"] == 0
                host.burst(host.stream("child"))
                os._exit(0)
            host.burst(parent)
            _wait_for(child_id, patience_seconds)
            host.stop.wait(host.pause)


def _wait_for(child_id: int, patience_seconds: float) -> None:
    """Wait until a child has ended; kill one that does not.

    A fork in C that comes while another thread is about to take the interpreter leaves a child in which
    CPython waits for that thread for ever. What it has logged until then is in its journal.
    """
    give_up_at = time.monotonic() + patience_seconds
    while os.waitpid(child_id, os.WNOHANG) == (0, 0):
        if time.monotonic() > give_up_at:
            os.kill(child_id, signal.SIGKILL)
            give_up_at = math.inf
        time.sleep(0.001)


def pools(host: Host) -> None:
    """Pools of `multiprocessing`, by each way of starting a child, with a non-empty buffer."""
    with host.stream("parent") as parent:
        for method in ("fork", "spawn", "forkserver"):
            host.burst(parent)
            context = multiprocessing.get_context(method)
            with context.Pool(2, maxtasksperchild=2) as pool:
                pool.map(_burst_in_child, [host.folder] * 8, chunksize=1)
                host.burst(parent)
                pool.close()
                pool.join()


def _burst_in_child(folder: Path) -> None:
    with Stream(folder, "pool") as stream:
        for _ in range(BURST):
            stream.make(log)


def terminated(host: Host) -> None:
    """A pool that is left by its `with`: its children are ended by SIGTERM, and then the process ends."""
    end_at_once = (signal.SIGTERM, signal.SIG_DFL)
    with host.stream("parent") as parent:
        host.burst(parent)
        context = multiprocessing.get_context("fork")
        with context.Pool(4, initializer=signal.signal, initargs=end_at_once) as pool:
            pool.map(_burst_in_child, [host.folder] * 8, chunksize=1)


def processes(host: Host) -> None:
    """Children of `multiprocessing` that log until the host is killed together with them."""
    context = multiprocessing.get_context("fork")
    with host.stream("parent") as parent:
        host.burst(parent)
        children = [context.Process(target=_run_child, args=(host,)) for _ in range(3)]
        for child in children:
            child.start()
        host.run_stream(parent)
        for child in children:
            child.join()


def _run_child(host: Host) -> None:
    with host.stream("child") as stream:
        host.run_stream(stream)


def clock(host: Host) -> None:
    """A wall clock that somebody sets back by an hour, again and again."""
    hours_back = 0
    right = time.time

    def wrong() -> float:
        return right() - 3600 * hours_back

    time.time = wrong
    # The default was bound when the class was made.
    encoder.entry_clock.__defaults__ = (lambda: datetime.fromtimestamp(wrong(), UTC),)
    with host.stream("clock") as stream:
        while not host.stop.wait(0.02):
            host.burst(stream)
            hours_back += 1


def limited(host: Host) -> None:
    """A process that may not write more than 200 kB into a file."""
    # Python ignores SIGXFSZ: a write fails with EFBIG instead.
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    plain(host)


def homeless(host: Host) -> None:
    """A container's user: without HOME, and without an entry in passwd."""

    def nobody(_: int) -> None:
        raise KeyError

    pwd.getpwuid = nobody  # type: ignore[assignment]
    for name in ("HOME", "XDG_STATE_HOME"):
        os.environ.pop(name, None)
    plain(host)


def few_descriptors(host: Host) -> None:
    """A process that may open 64 files, and whose journal has more than a hundred."""
    journal._SEGMENT_BYTES = 10_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    plain(host)


FUNCTIONS = (
    plain, idle, chinese, bursts, flushing, threads, loop, forks, forks_in_c, pools, terminated,
    processes, clock, limited, homeless, few_descriptors,
)  # fmt: skip
VARIANTS: Mapping[str, Callable[[Host], None]] = {function.__name__: function for function in FUNCTIONS}


def main() -> None:
    """Run a variant to its end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=0, help="calls at full speed")
    parser.add_argument("--rate", type=float, default=0.0, help="calls a second after those")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between forks")
    parser.add_argument("--then", choices=("end", "wait", "exit"), default="end")
    options = parser.parse_args()
    host = Host(options)
    VARIANTS[options.variant](host)
    if options.then == "wait":
        host.stop.wait()
    if options.then == "exit":
        os._exit(0)


if __name__ == "__main__":
    main()
