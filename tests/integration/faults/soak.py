"""All faults at once: what can happen to a site that is under load, and what its processes hold meanwhile."""

import shutil
import signal
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from random import Random

import psutil

from integration.faults.proxy import Proxy
from integration.faults.site import Site
from processes import LocalProcess

Fault = Callable[[], AbstractContextManager[None]]


class Soak:
    """A site under load: hosts and workers that are harmed, and others that live through it all.

    Args:
        site: whose hosts reach their broker through `proxy`.
        proxy: the network.
        rate: calls a second of each host.
        random: chooses.
    """

    def __init__(self, site: Site, proxy: Proxy, rate: float, random: Random) -> None:
        self.site = site
        self.proxy = proxy
        self._rate = rate
        self._random = random
        self.steady_host = self._start_host()
        self._victim_host = self._start_host()
        self.steady_worker = site.worker(supervised=True)
        self._victim_worker = site.worker(random.choice(("threads", "prefork")), supervised=True)

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Run the workers during the block."""
        with self.steady_worker, self._victim_worker:
            yield

    def faults(self) -> list[Fault]:
        """Each harms at its beginning and has healed at its end."""
        return [
            self._host_killed,
            self._host_asked_to_end,
            self._worker_killed,
            self._worker_child_killed,
            self._worker_asked_to_end,
            self._redis_killed,
            self._redis_frozen,
            self._redis_emptied,
            self._redis_flushed,
            self._database_killed,
            self._database_stopped,
            self._database_frozen,
            self._database_read_only,
            self._database_sessions_ended,
            self._network_swallows,
            self._network_refuses,
            self._network_reset,
            self._journal_swept,
        ]

    def _start_host(self) -> LocalProcess:
        return self.site.host("plain", "--rate", self._rate)

    # Hosts and workers -----------------------------------------------------------------------

    @contextmanager
    def _host_killed(self) -> Iterator[None]:
        self._victim_host.kill()
        yield
        self._victim_host = self._start_host()

    @contextmanager
    def _host_asked_to_end(self) -> Iterator[None]:
        self._victim_host.send_signal(signal.SIGTERM)
        yield
        self._victim_host.wait()
        self._victim_host = self._start_host()

    @contextmanager
    def _worker_killed(self) -> Iterator[None]:
        self._victim_worker.kill()
        yield
        self._victim_worker.start(ready="")

    @contextmanager
    def _worker_child_killed(self) -> Iterator[None]:
        with suppress(psutil.Error):
            children = psutil.Process(self._victim_worker.pid).children(recursive=True)
            if children:
                self._random.choice(children).kill()
        yield

    @contextmanager
    def _worker_asked_to_end(self) -> Iterator[None]:
        self._victim_worker.stop(self._random.choice((signal.SIGTERM, signal.SIGQUIT)))
        yield
        self._victim_worker.start(ready="")

    # Servers ---------------------------------------------------------------------------------

    @contextmanager
    def _redis_killed(self) -> Iterator[None]:
        self.site.redis.kill()
        yield
        self.site.redis.start()

    @contextmanager
    def _redis_frozen(self) -> Iterator[None]:
        self.site.redis.pause()
        yield
        self.site.redis.resume()

    @contextmanager
    def _redis_emptied(self) -> Iterator[None]:
        self.site.redis.kill()
        yield
        for folder in self.site.redis.folder.glob("appendonlydir"):
            shutil.rmtree(folder)
        self.site.redis.start()

    @contextmanager
    def _redis_flushed(self) -> Iterator[None]:
        with self.site.redis.client() as client:
            client.flushall()
        yield

    @contextmanager
    def _database_killed(self) -> Iterator[None]:
        self.site.postgres.kill()
        yield
        self.site.postgres.start()

    @contextmanager
    def _database_stopped(self) -> Iterator[None]:
        self.site.postgres.stop()
        yield
        self.site.postgres.start()

    @contextmanager
    def _database_frozen(self) -> Iterator[None]:
        self.site.postgres.pause()
        yield
        self.site.postgres.resume()

    @contextmanager
    def _database_read_only(self) -> Iterator[None]:
        name = self.site.database
        self.site.postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        self.site.end_sessions()
        yield
        self.site.postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        self.site.end_sessions()

    @contextmanager
    def _database_sessions_ended(self) -> Iterator[None]:
        self.site.end_sessions()
        yield

    # Network and disk ------------------------------------------------------------------------

    @contextmanager
    def _network_swallows(self) -> Iterator[None]:
        self.proxy.swallow(requests=self._random.random() < 0.5)
        yield
        self.proxy.heal()

    @contextmanager
    def _network_refuses(self) -> Iterator[None]:
        self.proxy.refuse()
        yield
        self.proxy.heal()

    @contextmanager
    def _network_reset(self) -> Iterator[None]:
        self.proxy.cut()
        yield

    @contextmanager
    def _journal_swept(self) -> Iterator[None]:
        """Of the host that lives on: what one that is killed right then had there would be gone."""
        for folder in self.site.journals():
            if f"-{self.steady_host.pid}-" in folder.name:
                shutil.rmtree(folder, ignore_errors=True)
        yield


@dataclass
class Holdings:
    """What a process and its children hold, looked at from time to time."""

    bytes: list[int] = field(default_factory=list)
    """Resident memory."""
    descriptors: list[int] = field(default_factory=list)

    def sample(self, process: LocalProcess) -> None:
        """Look once more."""
        with suppress(psutil.Error):  # one of the children has just ended
            parent = psutil.Process(process.pid)
            tree = [parent, *parent.children(recursive=True)]
            self.bytes.append(sum(each.memory_info().rss for each in tree))
            self.descriptors.append(sum(each.num_fds() for each in tree))

    def growth(self) -> tuple[float, float]:
        """Bytes and descriptors: the median of the last third less that of the first one."""
        return _growth(self.bytes), _growth(self.descriptors)


def _growth(samples: list[int]) -> float:
    third = max(1, len(samples) // 3)
    return statistics.median(samples[-third:]) - statistics.median(samples[:third])
