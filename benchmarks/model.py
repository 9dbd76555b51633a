"""A model of hosts, Redis, workers and PostgreSQL: who does what for a batch, and for how long.

A host and a worker do one thing at a time because of Python's interpreter lock, Redis because it has one
thread, a connection of PostgreSQL because it is one process. What a message takes in each of them is a
fixed part and a part for each entry.
"""

import random
from collections import deque
from dataclasses import dataclass, field
from functools import partial

from events import Events, Machine, Process, Then
from services import ROLES, Services

_MOMENT_SECONDS = 1e-9


@dataclass(frozen=True)
class Site:
    """How many processes of each kind there are, and the cores that they run on."""

    hosts: int
    workers: int
    concurrency: int
    cores: tuple[int, ...]
    """All on one machine: (cores,). Otherwise of each host, of Redis, of each worker, of PostgreSQL."""
    others: float = 0.0
    """How many cores of the one machine are busy with something else."""


@dataclass(frozen=True)
class Batching:
    """The settings of the same names, and how long entries gather after a batch."""

    batch_size: int = 50
    max_batch_entries: int = 1000
    linger_seconds: float = 0.1
    flush_interval_seconds: float = 2.0


@dataclass
class Batch:
    """So many entries on their way."""

    entries: int
    oldest_at: float


@dataclass
class Model:
    """The whole site at work. The queue is what Redis holds.

    Args:
        site: processes and machines.
        services: what each role takes.
        batching: how hosts make batches.
        seed: of what varies; the same seed gives the same figures.
    """

    site: Site
    services: Services
    batching: Batching = field(default_factory=Batching)
    seed: int = 1

    def __post_init__(self) -> None:
        self.events = Events()
        self.stored = 0
        self.stored_at = 0.0
        self.latencies: list[tuple[float, Batch]] = []
        self.queue: deque[Batch] = deque()
        noise, site = random.Random(self.seed), self.site  # noqa: S311 - nothing secret
        self.machines = self._machines()
        make = partial(Process, noise=noise)
        self._redis = make(self.machines["Redis"][0])
        self.hosts = [Host(self, make(machine)) for machine in self.machines["hosts"]]
        self._free: deque[Slot] = deque()
        for machine in self.machines["workers"]:
            worker = make(machine)
            for _ in range(site.concurrency):
                self._free.append(Slot(worker, make(self.machines["PostgreSQL"][0])))
        # Workers take turns, as Redis serves who has waited longest.
        self._free = deque(sorted(self._free, key=lambda slot: self._free.index(slot) % site.concurrency))

    def _machines(self) -> dict[str, list[Machine]]:
        site = self.site
        numbers = (site.hosts, 1, site.workers, 1)
        if len(site.cores) == 1:
            machine = Machine(self.events, site.cores[0])
            machine.keep_busy(site.others)
            return {role: [machine] * number for role, number in zip(ROLES, numbers, strict=True)}
        return {
            name: [Machine(self.events, cores) for _ in range(number)]
            for name, number, cores in zip(ROLES, numbers, site.cores, strict=True)
        }

    # The way of a batch ----------------------------------------------------------------------

    def send(self, batch: Batch, then: Then) -> None:
        """To Redis, which takes half of its time for it; the other half is the worker's part."""

        def arrived() -> None:
            self.queue.append(batch)
            self.fetch()
            self.events.after(self.services.network_seconds, then)

        seconds = self.services.redis.of(batch.entries) / 2
        self.events.after(self.services.network_seconds, lambda: self._redis.run(seconds, arrived))

    def fetch(self) -> None:
        """Give waiting batches to slots that are free."""
        while self.queue and self._free:
            self._store(self._free.popleft(), self.queue.popleft())

    def _store(self, slot: "Slot", batch: Batch) -> None:
        """Worker, database, worker; half of the worker's work comes before the rows are stored."""
        services, wait = self.services, self.services.network_seconds
        half = services.worker.of(batch.entries) / 2

        def committed() -> None:
            self.stored += batch.entries
            self.stored_at = self.events.now
            self.latencies.append((self.events.now - batch.oldest_at, batch))
            self.events.after(wait, lambda: slot.worker.run(half, released))

        def released() -> None:
            self._free.append(slot)
            self.fetch()

        def wrote() -> None:
            self.events.after(services.commit_seconds, committed)

        def read() -> None:
            seconds = services.postgres.of(batch.entries)
            self.events.after(wait, lambda: slot.connection.run(seconds, wrote))

        fetched = partial(self.events.after, wait, lambda: slot.worker.run(half, read))
        self._redis.run(services.redis.of(batch.entries) / 2, fetched)

    # What is asked ---------------------------------------------------------------------------

    def drain(self, batch: int, messages: int) -> float:
        """Rows a second of workers that empty a full queue."""
        self.queue.extend(Batch(batch, 0.0) for _ in range(messages))
        self.fetch()
        self.events.run(lambda: self.stored == batch * messages)
        return self.stored / self.stored_at

    def log(self, entries: int) -> float:
        """Entries a second, when each host logs so many as fast as it can."""
        for host in self.hosts:
            host.log(entries)
        self.events.run(lambda: self.stored == entries * len(self.hosts))
        return self.stored / self.stored_at

    def load(self, rate: float, seconds: float) -> list[float]:
        """The latencies of batches, in order, when each host logs at this rate."""
        for number, host in enumerate(self.hosts):
            self.events.after(0.01 * number / len(self.hosts), partial(host.load, rate, seconds))
        entries = int(rate * seconds) * len(self.hosts)
        self.events.run(lambda: self.stored >= entries)
        return sorted(latency for latency, batch in self.latencies if batch.oldest_at < seconds - 1)

    def busiest(self) -> tuple[str, float]:
        """The role whose machines were busiest, and which part of the time."""
        shares = {
            role: sum(m.busy_seconds / m.cores for m in machines) / len(machines) / self.stored_at
            for role, machines in self.machines.items()
        }
        role = max(shares, key=lambda role: shares[role])
        return role, shares[role]


@dataclass(eq=False)
class Slot:
    """A thread of a worker, and its connection."""

    worker: Process
    connection: Process


class Host:
    """Calls, a buffer, and one batch at a time on its way."""

    _HANDFUL = 50
    _TICK_SECONDS = 0.01
    _SWITCH_SECONDS = 0.001
    """Calls make way for a thread that has waited so long for the interpreter."""

    def __init__(self, model: Model, process: Process) -> None:
        self._model = model
        self._process = process
        self._waiting: deque[tuple[float, int]] = deque()
        self._count = 0
        self._is_sending = False
        self._is_computing = False
        self._is_flushing = False
        self._lingers_until = 0.0

    def log(self, entries: int) -> None:
        """One handful of calls after the other, and a flush."""
        handful = min(entries, self._HANDFUL)

        def called() -> None:
            self._put(handful)
            self.log(entries - handful)

        self._is_computing = handful > 0
        if handful:
            self._process.run(self._model.services.host.entry * handful, called)
        else:
            self._is_flushing = True
            self._send()

    def load(self, rate: float, seconds: float, called: int = 0) -> None:
        """What is due, every few milliseconds."""
        now = self._model.events.now
        due = int(min(now, seconds) * rate) - called
        if due:
            self._process.run(self._model.services.host.entry * due, partial(self._put, due))
        if now < seconds:
            self._model.events.after(self._TICK_SECONDS, partial(self.load, rate, seconds, called + due))

    def _put(self, entries: int) -> None:
        events = self._model.events
        self._waiting.append((events.now, entries))
        self._count += entries
        self._send()
        events.after(self._model.batching.flush_interval_seconds + _MOMENT_SECONDS, self._send)

    def _send(self) -> None:
        events, batching = self._model.events, self._model.batching
        if self._is_sending or not self._waiting:
            return
        age = events.now - self._waiting[0][0]
        is_due = self._count >= batching.batch_size or age >= batching.flush_interval_seconds
        lingers = events.now < self._lingers_until and self._count < batching.max_batch_entries
        if (lingers or not is_due) and not self._is_flushing:
            return
        self._is_sending = True
        events.after(self._SWITCH_SECONDS if self._is_computing else 0.0, self._send_now)

    def _send_now(self) -> None:
        batching, oldest_at = self._model.batching, self._waiting[0][0]
        jammed = self._count > batching.batch_size
        batch = Batch(self._take(batching.max_batch_entries if jammed else batching.batch_size), oldest_at)
        seconds = self._model.services.host.message
        self._process.run(seconds, lambda: self._model.send(batch, self._sent))

    def _sent(self) -> None:
        events, linger_seconds = self._model.events, self._model.batching.linger_seconds
        self._is_sending = False
        self._lingers_until = events.now + linger_seconds
        events.after(linger_seconds + _MOMENT_SECONDS, self._send)
        self._send()

    def _take(self, most: int) -> int:
        taken = 0
        while self._waiting and taken < most:
            at, entries = self._waiting.popleft()
            part = min(entries, most - taken)
            taken += part
            if part < entries:
                self._waiting.appendleft((at, entries - part))
        self._count -= taken
        return taken
