"""Live: each entry once, from any place, however late it is stored, for as long as somebody looks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sse_starlette import ServerSentEvent

from batches import encoded
from doubles import DEADLINE_SECONDS
from execution_logger.read import follow
from execution_logger.read.place import Place, UnknownPlaceError
from execution_logger.read.skeleton import count_entries, read_outlines
from execution_logger.read.timeline import Timeline
from execution_logger.web import live
from execution_logger.web.live import Feeds, parse_place
from execution_logger.web.site import Site
from sqlite_site import SqliteSite

START = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often."""
    monkeypatch.setattr(live, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(live, "_next_look", lambda _: 0.0)


@pytest.fixture
async def feeds(site: SqliteSite) -> AsyncIterator[Feeds]:
    """Those of an application; nothing of them is left when nobody looks."""
    served = Site(site.settings)
    feeds = Feeds(served)
    yield feeds
    assert not feeds._feeds
    await feeds.close()
    await served.close()


def entry(second: float, **changed: Any) -> str:
    """One of that second after the start, with it as its message."""
    at = (START + timedelta(seconds=second)).isoformat()
    return encoded(**{"created_at": at, "message": str(second), **changed})


class Looking:
    """Somebody who reads a stream, and what they have been told."""

    def __init__(self, events: AsyncIterator[ServerSentEvent]) -> None:
        self._events = events
        self.last_id = ""
        self.messages: list[str] = []

    async def next(self, *kinds: str) -> tuple[str, Any]:
        """The next event of one of these kinds."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for event in self._events:
                if event.id is not None:
                    self.last_id = event.id
                if event.event in kinds:
                    return event.event, msgspec.json.decode(event.data or "")
        raise AssertionError("the stream has ended")

    async def until(self, number: int) -> list[str]:
        """The messages of all entries that were told, when there are so many."""
        while len(self.messages) < number:
            _, data = await self.next("entries")
            self.messages += [each["message"] for each in data["entries"]]
        return self.messages


@asynccontextmanager
async def looking(feeds: Feeds, told: str | None, task_id: str = "t") -> AsyncIterator[Looking]:
    """Look at a run from a place on."""
    place, known = parse_place(told) if told else (None, None)
    async with looking_at(feeds.of_run(task_id, place, known)) as found:
        await found.next("begin", "trouble")
        yield found


@asynccontextmanager
async def looking_at(response: Any) -> AsyncIterator[Looking]:
    """Read a stream without a server."""
    events = response.body_iterator
    try:
        yield Looking(events)
    finally:
        await events.aclose()


async def end_of(site: SqliteSite, task_id: str = "t") -> str:
    """The place behind all that is stored, as a skeleton tells it."""
    timeline = Timeline(site.engine, site.settings, task_id)
    outlines = await read_outlines(timeline, None, 1000)
    token = outlines[-1].place.to_token() if outlines else ""
    return f"{token}.{await count_entries(timeline)}"


async def test_what_comes_is_told_once(site: SqliteSite, feeds: Feeds) -> None:
    """What was there, and what is of other runs, is not."""
    await site.write(entry(0), entry(1))
    async with looking(feeds, await end_of(site)) as found:
        await site.write(entry(2), entry(3), entry(9, task_id="u"), batch_id="2")
        await found.until(2)
        await site.write(entry(4), batch_id="3")
        assert await found.until(3) == ["2", "3", "4"]
        assert found.last_id == await end_of(site)


async def test_what_is_stored_late_is_told_as_late(site: SqliteSite, feeds: Feeds) -> None:
    """It was made before what is known already."""
    await site.write(entry(0), entry(10))
    async with looking(feeds, await end_of(site)) as found:
        await site.write(entry(5), batch_id="late")
        _, data = await found.next("entries")
        assert (data["late"], [each["message"] for each in data["entries"]]) == (True, ["5"])
        assert found.last_id == await end_of(site)


async def test_what_was_missed_comes_first(site: SqliteSite, feeds: Feeds) -> None:
    """By the id of the last event that they have; another server may have told that."""
    await site.write(entry(0), entry(1))
    async with looking(feeds, await end_of(site)) as found:
        await site.write(entry(2), batch_id="2")
        await found.until(1)
    await site.write(entry(3), entry(4), batch_id="3")
    async with looking(feeds, found.last_id) as again:
        await site.write(entry(5), batch_id="4")
        assert await again.until(3) == ["3", "4", "5"]


async def test_those_who_join_are_told_nothing_twice(site: SqliteSite, feeds: Feeds) -> None:
    """All of them look by way of one poller, which has told some of it already."""
    await site.write(entry(0))
    place = await end_of(site)
    async with looking(feeds, place) as first:
        for number in range(1, 30):
            await site.write(entry(number), batch_id=str(number))
            if number == 10:
                await first.until(5)
            if number == 15:
                break
        async with looking(feeds, place) as second, looking(feeds, first.last_id) as third:
            known = len(first.messages)
            for number in range(16, 30):
                await site.write(entry(number), batch_id=str(number))
            expected = [str(number) for number in range(1, 30)]
            assert await first.until(29) == expected
            assert await second.until(29) == expected
            assert await third.until(29 - known) == expected[known:]


async def test_an_entry_that_came_late_meanwhile_has_all_read_again(site: SqliteSite, feeds: Feeds) -> None:
    """Nobody can tell which one it is; the number of entries up to their place shows that there is one."""
    await site.write(entry(0), entry(10))
    place = await end_of(site)
    await site.write(entry(5), batch_id="late")
    async with looking(feeds, place) as found:
        assert await found.next("resync", "entries") == ("resync", {})
        await site.write(entry(11), batch_id="3")
        assert await found.until(1) == ["11"]
        assert found.last_id == await end_of(site)


async def test_whoever_was_away_for_long_reads_all_again(
    site: SqliteSite, feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A skeleton holds more than a stream of single entries should."""
    monkeypatch.setattr(live, "_MOST_MISSED", 3)
    await site.write(entry(0))
    place = await end_of(site)
    await site.write(*(entry(number) for number in range(1, 5)), batch_id="2")
    async with looking(feeds, place) as found:
        assert await found.next("resync", "entries") == ("resync", {})


async def test_without_a_place_it_begins_now(site: SqliteSite, feeds: Feeds) -> None:
    """And a run of which nothing is stored yet is waited for."""
    await site.write(entry(0))
    async with looking(feeds, None) as found, looking(feeds, ".0", "new") as new:
        await site.write(entry(1), entry(0.5, task_id="new"), batch_id="2")
        assert await found.until(1) == ["1"]
        assert await new.until(1) == ["0.5"]


async def test_whoever_reads_too_slowly_reads_all_again(
    site: SqliteSite, feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for them is bounded."""
    monkeypatch.setattr(live, "_MOST_WAITING", 3)
    watcher = live.Watcher()
    for number in range(5):
        watcher.put("entries", str(number))
    assert [event.event for event in watcher.take()] == ["resync", "entries", "entries"]
    assert watcher.take() == []


async def test_a_very_long_run_of_which_not_all_is_known(
    site: SqliteSite, feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number shows what came before all that the follower knows."""
    monkeypatch.setattr(follow, "_MOST_KNOWN", 4)
    monkeypatch.setattr(live, "_POLLS_FOR_ALL", 4)
    await site.write(*(entry(number) for number in range(10)))
    async with looking(feeds, await end_of(site)) as found:
        await found.next("run")
        await site.write(entry(0.5), batch_id="late")
        assert await found.next("resync", "entries") == ("resync", {})


async def test_the_run_is_summed_up_as_it_changes(site: SqliteSite, feeds: Feeds) -> None:
    """With the same figures as elsewhere."""
    await site.write(entry(0))
    async with looking(feeds, await end_of(site)) as found:
        assert (await found.next("run"))[1]["run"]["entries"] == 1
        await site.write(entry(1, level="error"), batch_id="2")
        run = (await found.next("run"))[1]["run"]
        assert (run["entries"], run["errors"], run["task_id"]) == (2, 1, "t")


async def test_an_outage_is_told_and_ends(site: SqliteSite, feeds: Feeds) -> None:
    """Nothing is lost over it; whoever comes meanwhile waits."""
    await site.write(entry(0))
    place = await end_of(site)
    async with looking(feeds, place) as found:
        await found.next("run")
        site.execute("ALTER TABLE execution_logs RENAME TO away")
        assert "cannot be used now" in (await found.next("trouble"))[1]["message"]
        async with looking(feeds, place) as other:
            site.execute("ALTER TABLE away RENAME TO execution_logs")
            assert await found.next("trouble") == ("trouble", {"message": None})
            await site.write(entry(1), batch_id="2")
            assert await found.until(1) == ["1"]
            assert await other.until(1) == ["1"]


async def test_a_look_that_fails_is_told_and_followed_by_the_next_one(
    site: SqliteSite, feeds: Feeds, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong: whoever watches must not wait for ever."""
    failing = [ValueError("odd"), ValueError("odd")]
    late = follow.Follower.late

    async def fail(self: follow.Follower) -> Any:
        if failing:
            raise failing.pop()
        return await late(self)

    monkeypatch.setattr(follow.Follower, "late", fail)
    async with looking(feeds, None) as found:
        assert "defect" in (await found.next("trouble"))[1]["message"]
        assert await found.next("trouble") == ("trouble", {"message": None})
        await site.write(entry(0))
        assert await found.until(1) == ["0"]
    assert "the next one follows" in caplog.text


async def test_those_who_leave_while_all_are_told_to_read_again(
    site: SqliteSite, feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change nothing for the others."""
    monkeypatch.setattr(follow, "_MOST_KNOWN", 4)
    monkeypatch.setattr(live, "_POLLS_FOR_ALL", 4)
    await site.write(*(entry(number) for number in range(10)))
    resync, leave = live.RunFeed._resync, asyncio.Event()

    async def resync_slowly(self: live.RunFeed, watcher: live.RunWatcher) -> None:
        await resync(self, watcher)
        leave.set()
        while len(self._watchers) > 1:  # noqa: ASYNC110 - a turn of the loop at a time
            await asyncio.sleep(0)

    async with looking(feeds, await end_of(site)) as found:
        async with looking(feeds, await end_of(site)):
            monkeypatch.setattr(live.RunFeed, "_resync", resync_slowly)
            await site.write(entry(0.5), batch_id="late")
            await leave.wait()
        assert await found.next("resync") == ("resync", {})
        await site.write(entry(11), batch_id="3")
        assert await found.until(1) == ["11"]


async def test_a_server_that_stops_says_so(site: SqliteSite, feeds: Feeds) -> None:
    """The stream ends in order, at once."""
    response = feeds.of_run("t", None, None)
    async with looking_at(response) as found:
        await found.next("begin")
        await site.write(entry(0))
        await found.until(1)
        response._shutdown_event.set()  # type: ignore[union-attr]
        assert await found.next("end") == ("end", {"reason": "shutdown"})
        with pytest.raises(AssertionError, match="has ended"):
            await found.next("entries")


async def test_the_list_tells_the_runs_that_change(site: SqliteSite, feeds: Feeds) -> None:
    """First those that there are; then each that has a new entry, summed up."""
    await site.write(*(entry(n, task_id=f"run-{n}") for n in range(3)))
    async with looking_at(feeds.of_runs()) as found, looking_at(feeds.of_runs()) as other:
        for each in (found, other):
            _, data = await each.next("runs")
            assert [run["task_id"] for run in data["runs"]] == ["run-2", "run-1", "run-0"]
        await site.write(entry(5, task_id="run-1", level="error"), entry(6, task_id="new"), batch_id="2")
        for each in (found, other):
            told = dict[str, Any]()
            while len(told) < 2:
                told |= {run["task_id"]: run["errors"] for run in (await each.next("runs"))[1]["runs"]}
            assert told == {"run-1": 1, "new": 0}


async def test_a_late_entry_changes_the_list_as_well(
    site: SqliteSite, feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at once, for its run has no newer entry than before."""
    monkeypatch.setattr(live, "_POLLS_FOR_ALL", 4)
    await site.write(entry(0), entry(10))
    async with looking_at(feeds.of_runs()) as found:
        await found.next("runs")
        await site.write(entry(5), batch_id="late")
        assert (await found.next("runs"))[1]["runs"][0]["entries"] == 3


async def test_nothing_looks_when_nobody_does(site: SqliteSite, feeds: Feeds) -> None:
    """The last one who leaves ends the poller."""
    async with looking(feeds, None) as found:
        await site.write(entry(0))
        await found.until(1)
        assert [task for task in asyncio.all_tasks() if "_run" in repr(task.get_coro())]
    await feeds.close()
    assert not [task for task in asyncio.all_tasks() if "_run" in repr(task.get_coro())]


@pytest.mark.parametrize("text", ["", ".", "x", "x.", "x.5", ".-1", ".1e3", ".99999999999", ".٣"])
def test_what_is_no_place_is_refused(text: str) -> None:
    """It comes from a URL or a header."""
    with pytest.raises(UnknownPlaceError):
        parse_place(text)


def test_a_place_with_its_number() -> None:
    """As events have it for their id."""
    place = Place(START, "x")
    assert parse_place(f"{place.to_token()}.12") == (place, 12)
    assert parse_place(".0") == (None, 0)
