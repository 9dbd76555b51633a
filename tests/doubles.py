"""Stand-ins for what the shipper works with: clocks, deliveries, and its own thread."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from execution_logger.delivery import Delivery
from execution_logger.delivery.interface import Receipt
from execution_logger.entry.batch import Batch
from execution_logger.journal import NoAdoption
from execution_logger.settings import Settings
from execution_logger.shipping.accounts import Accounts
from execution_logger.shipping.buffer import Buffer
from execution_logger.shipping.flush import Flushes
from execution_logger.shipping.in_flight import InFlight
from execution_logger.shipping.sender import Sender
from execution_logger.shipping.thread import Shipper
from execution_logger.testing import MemoryDelivery
from waiting import PATIENCE

DEADLINE_SECONDS = 20.0 * PATIENCE
"""How long a test waits for what must happen: more than any machine needs."""


class ManualClock:
    """A monotonic clock that moves only when the test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class HandDrivenShipper(Shipper):
    """A shipper without a thread: the test makes each of its steps itself, with `run_due()`."""

    def _start(self) -> bool:
        return False


_Shipper = TypeVar("_Shipper", bound=Shipper)


def assemble(
    kind: type[_Shipper],
    make_delivery: Callable[[], Delivery],
    settings: Settings | None = None,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    before_thread: Callable[[], None] = lambda: None,
    after_delivery: Callable[[], None] = lambda: None,
) -> _Shipper:
    """A shipper with its buffer and its sender, without a journal."""
    settings = settings or Settings()
    buffer = Buffer(settings, "test-process", monotonic=monotonic)
    accounts = Accounts(buffer, monotonic)
    in_flight = InFlight(settings, accounts.settle, monotonic)
    flushes = Flushes()
    sender = Sender(
        settings,
        buffer,
        NoAdoption(),
        in_flight,
        accounts,
        flushes,
        make_delivery,
        after_delivery=after_delivery,
        monotonic=monotonic,
    )
    return kind(
        buffer, sender, accounts, flushes, settings,
        before_thread=before_thread, monotonic=monotonic, sleep=sleep,
    )  # fmt: skip


class BlockedDelivery(MemoryDelivery):
    """Hangs in each attempt until the test opens it."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self._opened = threading.Event()

    def deliver(self, batch: Batch) -> Receipt:
        """Say that an attempt is under way, and wait."""
        self.entered.set()
        if not self._opened.wait(DEADLINE_SECONDS):
            raise TimeoutError("the test forgot to open its delivery")
        return super().deliver(batch)

    def wait_until_entered(self) -> None:
        """Return when an attempt hangs."""
        assert self.entered.wait(DEADLINE_SECONDS)

    def open(self) -> None:
        """End the attempt that hangs, and let all others pass."""
        self._opened.set()


def numbers(delivery: MemoryDelivery) -> list[Any]:
    """What it was given, in order, by a test whose entries are JSON numbers."""
    return [json.loads(entry) for batch in delivery.batches for entry in batch.entries]


class FileDelivery:
    """Appends each batch to a file, which outlives the process: a line of process id and entries."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def deliver(self, batch: Batch) -> None:
        """Append the batch by a single write, which those of other processes do not break up."""
        line = json.dumps({"pid": os.getpid(), "entries": json.loads(batch.to_json())})
        with self._path.open("a") as file:
            file.write(line + "\n")

    def close(self) -> None:
        """Nothing to release."""


def delivered_to(path: Path) -> list[dict[str, Any]]:
    """The entries that `FileDelivery` has written, in their order, each with the `pid` it came from."""
    lines = map(json.loads, path.read_text().splitlines() if path.exists() else [])
    return [{**entry, "pid": line["pid"]} for line in lines for entry in line["entries"]]


@contextmanager
def signals(count: int, handler: Callable[[], object]) -> Iterator[threading.Event]:
    """Call `handler` that often by real signals, at any moment of what the main thread does.

    The event says when it is over. SIGALRM is pytest-timeout's.
    """
    over, ready, main = threading.Event(), threading.Lock(), threading.get_ident()

    def handle(*_: object) -> None:
        handler()
        ready.release()

    def send() -> None:
        for _ in range(count):
            assert ready.acquire(timeout=DEADLINE_SECONDS)
            signal.pthread_kill(main, signal.SIGUSR1)
        assert ready.acquire(timeout=DEADLINE_SECONDS)
        over.set()

    before = signal.signal(signal.SIGUSR1, handle)
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send)
            yield over
        sending.result()
    finally:
        sys.setswitchinterval(switch_interval)
        signal.signal(signal.SIGUSR1, before)


def lines_of(function: Callable[..., Any]) -> list[int]:
    """The numbers of the lines that a function's code is on, those of its `def` left out."""
    code = function.__code__
    return sorted({line for *_, line in code.co_lines() if line and line > code.co_firstlineno})


@contextmanager
def interrupted(function: Callable[..., Any], line: int, by: Callable[[], object]) -> Iterator[None]:
    """Call `by` once, before `function` runs `line` in this thread.

    That is what a signal handler does, or a destructor that the garbage collector calls, only that
    the place is known.
    """
    waiting = [by]

    def trace(frame: Any, event: str, _: object) -> Any:
        if frame.f_code is not function.__code__ or not waiting:
            return None
        if event == "line" and frame.f_lineno == line:
            sys.settrace(None)
            waiting.pop()()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
