"""Live: what is stored while somebody looks, as server-sent events; one poller serves all who look at a run.

The database is asked, and tells nothing of its own accord: PostgreSQL's NOTIFY in the transaction of an
insert would have all writers of the instance commit one after the other
(https://www.recall.ai/blog/postgres-listen-notify-does-not-scale).
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, Generic, TypeVar

import anyio
import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from execution_logger.diagnostics import logger
from execution_logger.entry.entry import LogEntry
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.follow import Follower
from execution_logger.read.pages import Pages
from execution_logger.read.place import Place, UnknownPlaceError
from execution_logger.read.recent import RecentlyChanged
from execution_logger.read.runs import recent_runs
from execution_logger.read.skeleton import MOST_COUNTED, count_entries, outline_of
from execution_logger.read.summary import Run, describe_named, describe_run
from execution_logger.read.timeline import Timeline
from execution_logger.web import answers
from execution_logger.web.site import Site

POLL_SECONDS = 0.5
_POLLS_FOR_LATE = 4
_POLLS_FOR_ALL = 40
"""Now and then all is looked at: a run may have ended without a word."""
_MOST_MISSED = 2000
_MOST_WAITING = 500
_MOST_RUNS = 50
_LIST_SECONDS = 4.0
_FRESH_SECONDS = 5.0
"""Whoever comes so soon after another one is shown the same list, with what has changed since then."""
_PING_SECONDS = 15
_GRACE_SECONDS = 1.0
_WSGI_SECONDS = 20.0
"""Shorter than the grace of gunicorn, whose end waits for the threads that are taken."""
_WSGI_SEND_SECONDS = 20.0
_REST = 50
"""Summing runs up takes no more than one part in so many of the time: the more there is, the less often."""

_encode = msgspec.json.Encoder().encode
W = TypeVar("W", bound="Watcher")


class Watcher:
    """Somebody who looks: what waits to be sent to them."""

    def __init__(self) -> None:
        self._waiting: list[ServerSentEvent] = []
        self._ready = asyncio.Event()

    def put(self, event: str, data: str, id_: str | None = None) -> None:
        """Have something sent; one who reads too slowly is told to read all again."""
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting = [ServerSentEvent("{}", event="resync")]
        self._waiting.append(ServerSentEvent(data, event=event, id=id_))
        self._ready.set()

    async def ready(self) -> None:
        """Wait for something."""
        await self._ready.wait()

    def take(self) -> list[ServerSentEvent]:
        """All that waits."""
        self._ready.clear()
        taken, self._waiting = self._waiting, []
        return taken


class RunWatcher(Watcher):
    """Somebody who looks at a run.

    Args:
        place: that of the last entry that they have.
        known: how many entries they have.
    """

    def __init__(self, place: Place | None, known: int | None) -> None:
        super().__init__()
        self.place = place
        self.known = known
        self._told: set[str] = set()
        """What they have learned when they came, and the follower will tell as new."""

    def tell(self, entries: Sequence[LogEntry], data: str, *, are_late: bool) -> None:
        """Send new entries, but for those that they have."""
        fresh = [entry for entry in entries if entry.id not in self._told]
        if len(fresh) < len(entries):
            self._told.difference_update(entry.id for entry in entries)
            data = _data_of(fresh, are_late=are_late)
        if fresh:
            self._send(fresh, data)

    def catch_up(self, entries: Sequence[LogEntry]) -> None:
        """Send what they have missed."""
        self._told.update(entry.id for entry in entries)
        if entries:
            self._send(entries, _data_of(entries, are_late=False))

    def _send(self, entries: Sequence[LogEntry], data: str) -> None:
        last = Place(entries[-1].created_at, entries[-1].id)
        self.place = last if self.place is None else max(self.place, last)
        self.known = (self.known or 0) + len(entries)
        self.put("entries", data, f"{self.place.to_token()}.{self.known}")


def _data_of(entries: Sequence[LogEntry], *, are_late: bool) -> str:
    shown = [answers.Live.of(entry, outline_of(entry)) for entry in entries]
    return _encode({"entries": shown, "late": are_late}).decode()


class _Feed(ABC, Generic[W]):
    """Looks again and again for as long as somebody watches; the last one who leaves ends it.

    Args:
        engine: to the database.
        site: names the tables.
    """

    def __init__(self, engine: AsyncEngine, site: Site) -> None:
        self._engine = engine
        self._site = site
        self._watchers: set[W] = set()
        # Nobody joins while the poller looks: what it tells then they would have twice, or not at all.
        self._lock = asyncio.Lock()
        self._nobody = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        """The poller's, which ends when nobody watches."""
        self._is_away = False

    @abstractmethod
    async def _join(self, watcher: W) -> None:
        """Send what they have missed; raises StoreUnavailableError."""

    @abstractmethod
    async def _poll(self, number: int) -> None:
        """Look once, and tell all; raises StoreUnavailableError."""

    @asynccontextmanager
    async def watching(self, watcher: W) -> AsyncIterator[None]:
        """Have somebody told, until the block ends."""
        async with self._lock:
            watcher.put("begin", "{}")
            await self._join(watcher)
            self._watchers.add(watcher)
            self._nobody.clear()
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                self._nobody.set()

    async def _run(self) -> None:
        # It is not cancelled: that would break off a statement, and its connection with it.
        for number in count(1):
            if await self._is_left():
                return
            async with self._lock:
                try:
                    await self._poll(number)
                except StoreUnavailableError as error:
                    self._note(str(error))
                except Exception:  # noqa: BLE001 - or all who watch would wait for ever, and not know it
                    logger.exception("a look at what is new has failed; the next one follows")
                    self._note("this is a defect; the log of the server tells more")
                else:
                    self._note(None)

    async def _is_left(self) -> bool:
        """Whether nobody watches any more; otherwise it is time to look again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._nobody.wait()
        return not self._watchers

    def _note(self, problem: str | None) -> None:
        if self._is_away is (problem is not None):
            return
        self._is_away = problem is not None
        self._tell_all("trouble", _trouble(problem))

    def _tell_all(self, event: str, data: str) -> None:
        for watcher in self._watchers:
            watcher.put(event, data)


def _trouble(problem: str | None) -> str:
    """Why nothing is told now; null when it goes on."""
    return _encode({"message": problem}).decode()


class RunFeed(_Feed[RunWatcher]):
    """The entries of a run, each once, however late it is stored."""

    def __init__(self, engine: AsyncEngine, site: Site, task_id: str) -> None:
        super().__init__(engine, site)
        self._follower = Follower(engine, site.settings, task_id)
        self._timeline = Timeline(engine, site.settings, task_id)
        self._has_begun = False
        self._run_shown: Run | None = None
        self._describe_from = 0.0
        self._total = 0

    async def _join(self, watcher: RunWatcher) -> None:
        if not self._has_begun:
            await self._follower.begin()
            self._total = await count_entries(self._timeline)
            self._has_begun = True
        if watcher.known is None:
            await self._begin_now(watcher)
        elif min(watcher.known, MOST_COUNTED) != await self._count(watcher.place):
            await self._resync(watcher)
        else:
            missed = await Pages(self._timeline).after(watcher.place, _MOST_MISSED + 1)
            await self._resync(watcher) if len(missed) > _MOST_MISSED else watcher.catch_up(missed)

    async def _count(self, place: Place | None) -> int:
        return 0 if place is None else await count_entries(self._timeline, up_to=place)

    async def _resync(self, watcher: RunWatcher) -> None:
        watcher.put("resync", "{}")
        await self._begin_now(watcher)

    async def _begin_now(self, watcher: RunWatcher) -> None:
        last = await Pages(self._timeline).before(None, 1)
        watcher.place = Place(last[0].created_at, last[0].id) if last else None
        watcher.known = await self._count(watcher.place)

    async def _poll(self, number: int) -> None:
        if self._is_away or number % _POLLS_FOR_LATE == 0:
            self._tell(await self._follower.late(), are_late=True)
        while news := await self._follower.news():
            self._tell(news, are_late=False)
        if number % _POLLS_FOR_ALL == 0:
            await self._check()
        await self._describe(is_due=number % _POLLS_FOR_ALL == 0)

    def _tell(self, entries: Sequence[LogEntry], *, are_late: bool) -> None:
        if entries:
            self._total += len(entries)
            self._run_shown = None
            data = _data_of(entries, are_late=are_late)
            for watcher in self._watchers:
                watcher.tell(entries, data, are_late=are_late)

    async def _check(self) -> None:
        """Of a very long run the follower does not know all: what comes before that shows in the number."""
        total = await count_entries(self._timeline)
        if total != self._total and total < MOST_COUNTED:
            self._total = total
            for watcher in tuple(self._watchers):  # they may leave meanwhile
                await self._resync(watcher)

    async def _describe(self, *, is_due: bool) -> None:
        began_at = time.monotonic()
        if (self._run_shown is not None and not is_due) or began_at < self._describe_from:
            return
        run = await describe_run(self._timeline)
        self._describe_from = _next_look(began_at)
        if run is not None and run != self._run_shown:
            self._run_shown = run
            self._tell_all("run", _encode({"run": answers.Run.of(run)}).decode())


class RunsFeed(_Feed[Watcher]):
    """The runs that change, summed up."""

    def __init__(self, engine: AsyncEngine, site: Site) -> None:
        super().__init__(engine, site)
        self._timeline = Timeline(engine, site.settings, None)
        self._changed = RecentlyChanged(self._timeline)
        self._shown: dict[str, Run] = {}
        self._waiting: dict[str, None] = {}
        self._look_from = 0.0
        self._listed_until = 0.0
        self._has_begun = False

    async def _join(self, watcher: Watcher) -> None:
        if not self._has_begun:
            await self._changed.look()
            self._has_begun = True
        if time.monotonic() >= self._listed_until:
            found = await recent_runs(
                self._engine, self._site.settings, limit=_MOST_RUNS, within_seconds=_LIST_SECONDS
            )
            self._listed_until = time.monotonic() + _FRESH_SECONDS
            self._shown |= {run.task_id: run for run in found.runs}
        newest = sorted(self._shown.values(), key=lambda run: run.last_at, reverse=True)
        watcher.put("runs", _runs(newest[:_MOST_RUNS]))

    async def _poll(self, number: int) -> None:
        if number % _POLLS_FOR_ALL == 0:
            self._waiting |= dict.fromkeys(self._shown)
        began_at = time.monotonic()
        if began_at < self._look_from:
            return
        self._waiting |= dict.fromkeys(await self._changed.look())
        some = list(self._waiting)[:_MOST_RUNS]
        described = await describe_named(self._timeline, some)
        self._look_from = _next_look(began_at)
        for task_id in some:
            del self._waiting[task_id]
        changed = [run for run in described if run != self._shown.get(run.task_id)]
        if changed:
            self._shown |= {run.task_id: run for run in changed}
            newest = sorted(self._shown.values(), key=lambda run: run.last_at)[-2 * _MOST_RUNS :]
            self._shown = {run.task_id: run for run in newest}
            self._tell_all("runs", _runs(changed))


def _next_look(began_at: float) -> float:
    """When to look again after a look that began then, and has ended now; not more often than each second."""
    return began_at + max(1.0, _REST * (time.monotonic() - began_at))


def _runs(runs: Sequence[Run]) -> str:
    return _encode({"runs": [answers.Run.of(run) for run in runs]}).decode()


class _Stream(EventSourceResponse):
    """An answer that goes on, until the client leaves or the server stops.

    Under WSGI it takes a thread of the host's, which nobody tells that the host stops: it ends soon, and the
    browser comes again. Nor does a2wsgi tell that the client has left: it just takes nothing more.

    Args:
        events: what is sent.
        shutdown: is set when `events` must end.
    """

    def __init__(self, events: AsyncIterator[ServerSentEvent], shutdown: anyio.Event) -> None:
        super().__init__(
            events, ping=_PING_SECONDS, shutdown_event=shutdown, shutdown_grace_period=_GRACE_SECONDS
        )
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all."""
        if "wsgi_environ" not in scope:
            await super().__call__(scope, receive, send)
            return
        self.send_timeout = _WSGI_SEND_SECONDS
        ending = asyncio.get_running_loop().call_later(_WSGI_SECONDS, self._shutdown.set)
        try:
            with suppress(SendTimeoutError):
                await super().__call__(scope, receive, send)
        finally:
            ending.cancel()


class Feeds:
    """The feeds that somebody watches, of one event loop each.

    Args:
        site: names the tables.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._feeds: dict[tuple[asyncio.AbstractEventLoop, str | None], tuple[_Feed[Any], int]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def of_run(self, task_id: str, place: Place | None, known: int | None) -> EventSourceResponse:
        """The stream of a run."""
        return self._stream(task_id, lambda: RunWatcher(place, known))

    def of_runs(self) -> EventSourceResponse:
        """The stream of the list of runs."""
        return self._stream(None, Watcher)

    async def close(self) -> None:
        """Wait for the pollers whom nobody watches any more, and who may still ask for something."""
        if self._ending:
            await asyncio.wait(self._ending)

    def _stream(self, task_id: str | None, make: Any) -> EventSourceResponse:
        shutdown = anyio.Event()
        return _Stream(self._events(task_id, make, shutdown), shutdown)

    async def _events(
        self, task_id: str | None, make: Any, shutdown: anyio.Event
    ) -> AsyncIterator[ServerSentEvent]:
        # What an EventSource waits before it comes again, in milliseconds.
        yield ServerSentEvent(comment="live", retry=1000)
        stopping = asyncio.ensure_future(shutdown.wait())
        try:
            async with self._feed(task_id) as feed:
                while not stopping.done():
                    watcher = make()
                    try:
                        async with feed.watching(watcher):
                            async for event in _until(stopping, watcher):
                                yield event
                    except StoreUnavailableError as error:
                        yield ServerSentEvent(_trouble(str(error)), event="trouble")
                        await asyncio.wait({stopping}, timeout=2 * POLL_SECONDS)
            yield ServerSentEvent(_encode({"reason": "shutdown"}).decode(), event="end")
        finally:
            stopping.cancel()

    @asynccontextmanager
    async def _feed(self, task_id: str | None) -> AsyncIterator[_Feed[Any]]:
        """The feed of a run, which all share who watch it."""
        async with self._site.engine() as engine:
            key = asyncio.get_running_loop(), task_id
            feed, users = self._feeds.get(key) or (self._make(engine, task_id), 0)
            self._feeds[key] = feed, users + 1
            try:
                yield feed
            finally:
                feed, users = self._feeds.pop(key)
                if users > 1:
                    self._feeds[key] = feed, users - 1
                elif feed.task is not None:
                    self._ending.add(feed.task)
                    feed.task.add_done_callback(self._ending.discard)

    def _make(self, engine: AsyncEngine, task_id: str | None) -> _Feed[Any]:
        return RunsFeed(engine, self._site) if task_id is None else RunFeed(engine, self._site, task_id)


async def _until(stopping: "asyncio.Future[Any]", watcher: Watcher) -> AsyncIterator[ServerSentEvent]:
    """What is to be sent to them, until the server stops."""
    while not stopping.done():
        waiting = asyncio.ensure_future(watcher.ready())
        try:
            await asyncio.wait({stopping, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        for event in watcher.take():
            yield event


def parse_place(text: str) -> tuple[Place | None, int]:
    """The place and the number that `from` or `Last-Event-ID` holds.

    Raises:
        UnknownPlaceError: it holds none.
    """
    token, _, number = text.rpartition(".")
    if not number.isascii() or not number.isdigit() or len(number) > len("1000000000"):
        raise UnknownPlaceError(
            f"{text[:80]!r} is no place that was given here: it ends with '.' and a number"
        )
    return Place.from_token(token) if token else None, int(number)
