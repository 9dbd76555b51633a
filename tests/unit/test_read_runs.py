"""The runs: found from the newest entry backwards, and summed up."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from batches import encoded
from execution_logger.entry.entry import RunState
from execution_logger.errors import StoreUnavailableError
from execution_logger.read import runs, summary
from execution_logger.read.runs import RecentRuns, recent_runs
from execution_logger.read.summary import activity_of
from execution_logger.read.timeline import Only, Timeline
from execution_logger.store import upgrade
from sqlite_site import SqliteSite, make_tables

START = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)
HOSTS_TABLE = """
    CREATE TABLE execution_logs (
        id CHAR(32) NOT NULL PRIMARY KEY, task_id VARCHAR(36), level VARCHAR(20), category VARCHAR(50),
        step VARCHAR(50), message TEXT, details TEXT, created_at DATETIME
    )
"""


@pytest.fixture(params=["own", "host's"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteSite]:
    """The library's own table, and a host's without indexes, with local times and without some columns."""
    zone = "UTC" if request.param == "own" else "Asia/Shanghai"
    async with SqliteSite(tmp_path / "logs.db", time_zone=zone) as site:
        if request.param == "own":
            make_tables(site.path)
        else:
            site.execute(HOSTS_TABLE)
            await upgrade(site.engine, site.settings)
        yield site


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a search goes over many."""
    monkeypatch.setattr(runs, "_FIRST_PAGE", 3)
    monkeypatch.setattr(runs, "_LARGEST_PAGE", 12)
    monkeypatch.setattr(runs, "_DESCRIBED_AT_ONCE", 4)


def entry(second: float, **changed: Any) -> str:
    """One of that second after the start."""
    return encoded(created_at=(START + timedelta(seconds=second)).isoformat(), **changed)


async def found(site: SqliteSite, limit: int = 20, **options: Any) -> list[str]:
    """The names of the newest runs."""
    recent = await recent_runs(site.engine, site.settings, limit=limit, **options)
    assert recent.is_complete
    assert recent.looked_back_to is None
    return [run.task_id for run in recent.runs]


async def test_a_run_is_summed_up(site: SqliteSite) -> None:
    """From its first entry to its last one, which says how it ended."""
    await site.write(
        entry(3.5, level="error", step="write", agent_name="author"),
        entry(0, step="plan"),
        entry(1, level="warning"),
        entry(2, level="error"),
    )
    (run,) = (await recent_runs(site.engine, site.settings, limit=5)).runs
    assert (run.first_at, run.last_at) == (START, START + timedelta(seconds=3.5))
    assert (run.duration_seconds, run.entries, run.errors, run.warnings) == (3.5, 4, 2, 1)
    assert (run.last_step, run.last_agent) == ("write", "author")
    assert run.ended_in_error
    assert not run.is_cut


@pytest.mark.parametrize("many", [1, 1000])
async def test_the_last_step_and_agent_are_those_of_the_last_entry_that_has_one(
    site: SqliteSite, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """The entry that ends a run has neither; far from the end nobody looks for one."""
    monkeypatch.setattr(summary, "_MANY", many)
    monkeypatch.setattr(summary, "_MOST_UNNAMED", 3)
    await site.write(
        entry(0, step="plan", agent_name="a"), entry(1, agent_name="b"), entry(2), entry(3, level="error")
    )
    (run,) = (await recent_runs(site.engine, site.settings, limit=5)).runs
    assert (run.last_step, run.last_agent, run.ended_in_error) == (None, "b", True)
    await site.write(entry(4), batch_id="2")
    (run,) = (await recent_runs(site.engine, site.settings, limit=5)).runs
    assert (run.last_step, run.last_agent, run.ended_in_error) == (None, None, False)


def mark(second: float, state: Any) -> str:
    """An entry that tells of the run's state."""
    return entry(second, operation_id="01a22505-c189-7200-be65-eeb94327379a", details={"run_state": state})


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ([], None),
        (["running"], "running"),
        (["running", "done"], "done"),
        (["running", "failed"], "failed"),
        (["running", "cancelled"], "cancelled"),
        (["running", "failed", "running"], "running"),
        (["running", "failed", "running", "done"], "done"),
        (["soon", 5, None, {"a": 1}, "no end recorded"], None),
    ],
    ids=str,
)
async def test_a_run_has_the_state_that_its_last_word_gives_it(
    site: SqliteSite, monkeypatch: pytest.MonkeyPatch, told: list[Any], state: str | None
) -> None:
    """One that begins again after it failed is running again; what is no state tells nothing."""
    monkeypatch.setattr(summary, "SILENT", timedelta.max)
    lines = [mark(2 * number, each) for number, each in enumerate(told)]
    await site.write(*lines, *(entry(2 * number + 1) for number in range(20)))
    (run,) = (await recent_runs(site.engine, site.settings, limit=5)).runs
    assert run.state == state


async def test_a_word_of_the_hosts_own_is_no_state(site: SqliteSite) -> None:
    """It may have anything in the details of its entries."""
    await site.write(mark(0, "running"), mark(1, "done"), entry(2, details={"run_state": "failed"}))
    (run,) = (await recent_runs(site.engine, site.settings, limit=5)).runs
    assert run.state == "done"


@pytest.mark.parametrize("many", [5, 1000])
@pytest.mark.parametrize("between", [1, 30])
async def test_a_run_that_is_silent_has_no_end_recorded(
    site: SqliteSite, monkeypatch: pytest.MonkeyPatch, between: int, many: int
) -> None:
    """Its process was killed; the entry of its beginning may be far from the last one."""
    monkeypatch.setattr(summary, "_MOST_SEARCHED", 10)
    monkeypatch.setattr(summary, "_MANY", many)
    await site.write(mark(0, "running"), *(entry(1 + number) for number in range(between)))
    (run,) = (await recent_runs(site.engine, site.settings, limit=5)).runs
    assert run.state == "no end recorded"
    assert run.last_at == START + timedelta(seconds=between)


async def test_the_newest_come_first(site: SqliteSite) -> None:
    """By their last entries, whatever else runs at the time; as many as are wanted."""
    names = [f"run-{number}" for number in range(10)]
    await site.write(
        *(entry(60 * n + second, task_id=name) for n, name in enumerate(names) for second in range(5))
    )
    await site.write(*(entry(second, task_id="long") for second in range(0, 600, 7)))
    assert await found(site) == ["long", *reversed(names)]
    assert await found(site, 3) == ["long", "run-9", "run-8"]


async def test_entries_of_one_moment_are_all_seen(site: SqliteSite) -> None:
    """More than a page of them."""
    await site.write(
        *(entry(0, task_id=f"run-{number:02}") for number in range(30)), entry(-5, task_id="old")
    )
    assert await found(site, 50) == [*(f"run-{number:02}" for number in range(30)), "old"]


async def test_a_table_without_entries_has_no_runs(site: SqliteSite) -> None:
    """And that is all of them."""
    assert await found(site) == []


async def test_only_those_of_late(site: SqliteSite) -> None:
    """With at least one entry since then; the entry of that moment counts."""
    await site.write(
        *(entry(second, task_id=f"run-{second}") for second in range(10)), entry(9, task_id="run-0")
    )
    assert await found(site, only=Only(since=START + timedelta(seconds=8))) == ["run-0", "run-9", "run-8"]
    assert await found(site, only=Only(since=START + timedelta(days=1))) == []


async def test_only_those_that_have_such_an_entry(site: SqliteSite) -> None:
    """All that is asked for must apply to one and the same; that with the latest one comes first."""
    ids = [str(uuid4()) for _ in range(2)]
    await site.write(*(entry(second, task_id=f"run-{second % 9}", step="s") for second in range(40)))
    await site.write(
        entry(
            5, task_id="run-3", step="write", agent_name="author", operation_id=ids[0], message="50% of it"
        ),
        entry(4, task_id="run-7", step="write", agent_name="other", parent_id=ids[0]),
        entry(6, task_id="run-8", step="plan", agent_name="author", operation_id=ids[1]),
    )
    for only, names in (
        (Only(steps=("write",)), ["run-3", "run-7"]),
        (Only(steps=("write",), agents=("author",)), ["run-3"]),
        (Only(agents=("author",)), ["run-8", "run-3"]),
        (Only(operations=(ids[0],)), ["run-3", "run-7"]),
        (Only(operations=ids), ["run-8", "run-3", "run-7"]),
        (Only(contains="50% of"), ["run-3"]),
        (Only(until=START + timedelta(seconds=2)), ["run-1", "run-0"]),
        (Only(since=START + timedelta(seconds=38), until=START + timedelta(seconds=39)), ["run-2"]),
        (Only(agents=("nobody",)), []),
    ):
        assert await found(site, only=only) == names, only
    await site.write(entry(50, task_id="run-7", level="error", step="s"))
    assert await found(site, only=Only(steps=("write",)), with_errors=True) == []
    assert await found(site, only=Only(steps=("s",)), with_errors=True) == ["run-7"]


async def test_only_those_with_errors(site: SqliteSite) -> None:
    """That with the latest error first; how they went on does not matter."""
    await site.write(*(entry(second, task_id=f"run-{second}") for second in range(20)))
    await site.write(*(entry(second, task_id=f"run-{second % 5}", level="error") for second in (7, 3, 16)))
    assert await found(site, with_errors=True) == ["run-1", "run-2", "run-3"]
    assert await found(site, 1, with_errors=True) == ["run-1"]


@pytest.mark.parametrize("largest_page", [3, 12, 200])
async def test_the_numbers_are_right_wherever_a_page_ends(
    site: SqliteSite, monkeypatch: pytest.MonkeyPatch, largest_page: int
) -> None:
    """Of runs beside each other, of which a page has all entries, some, or none but the newest."""
    monkeypatch.setattr(runs, "_LARGEST_PAGE", largest_page)
    levels = ("info", "error", "WARN", "critical", "debug", "info", "warning")
    names = [f"run-{number * number % 7}" for number in range(60)]
    written = [(name, levels[number % len(levels)]) for number, name in enumerate(names)]
    await site.write(
        *(entry(second, task_id=name, level=level) for second, (name, level) in enumerate(written))
    )
    recent = await recent_runs(site.engine, site.settings, limit=20)
    counted = {run.task_id: (run.entries, run.errors, run.warnings) for run in recent.runs}
    graver = Counter(name for name, level in written if level in {"error", "critical"})
    warned = Counter(name for name, level in written if level in {"WARN", "warning"})
    assert counted == {name: (names.count(name), graver[name], warned[name]) for name in set(names)}


async def test_several_long_runs_share_what_is_counted(
    site: SqliteSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of them would take seconds otherwise."""
    monkeypatch.setattr(summary, "MOST_COUNTED_TOGETHER", 12)
    monkeypatch.setattr(summary, "_MANY", 5)
    await site.write(*(entry(second, task_id=f"run-{second % 3}") for second in range(30)))
    recent = await recent_runs(site.engine, site.settings, limit=3)
    assert [(run.entries, run.is_cut) for run in recent.runs] == [(4, True)] * 3
    (run,) = (await recent_runs(site.engine, site.settings, limit=1)).runs
    assert (run.entries, run.is_cut) == (10, False)


async def test_the_numbers_of_a_long_run_are_those_of_its_newest_entries(
    site: SqliteSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so."""
    monkeypatch.setattr(summary, "MOST_COUNTED", 10)
    monkeypatch.setattr(summary, "_MANY", 10)
    await site.write(entry(0, level="error"), *(entry(second) for second in range(1, 20)))
    (run,) = (await recent_runs(site.engine, site.settings, limit=1)).runs
    assert (run.entries, run.errors, run.is_cut, run.duration_seconds) == (10, 0, True, 19)


async def search_until(site: SqliteSite, seconds: float) -> RecentRuns:
    """Search with a clock on which each look at it takes a second."""
    clock: Iterator[float] = map(float, count())
    return await recent_runs(
        site.engine, site.settings, limit=20, within_seconds=seconds, now=lambda: next(clock)
    )


async def test_a_search_that_takes_too_long_says_how_far_it_came(site: SqliteSite) -> None:
    """What it has found is right, and no more is claimed."""
    await site.write(*(entry(second, task_id=f"run-{second:02}") for second in range(30)))
    recent = await search_until(site, 8)
    assert not recent.is_complete
    names = [run.task_id for run in recent.runs]
    assert 0 < len(names) < 30
    assert names == [f"run-{second:02}" for second in range(29, 29 - len(names), -1)]
    assert recent.looked_back_to is not None
    assert recent.looked_back_to <= recent.runs[-1].last_at


async def pages_of(site: SqliteSite, limit: int, **options: Any) -> list[str]:
    """The names of all runs, found in as many searches as it takes."""
    names: list[str] = []
    place = None
    while True:
        recent = await recent_runs(site.engine, site.settings, limit=limit, after=place, **options)
        names += [run.task_id for run in recent.runs]
        if recent.next is None:
            return names
        assert recent.next != place, "it does not go on"
        place = recent.next


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_searches_go_on_where_the_one_before_has_ended(site: SqliteSite, limit: int) -> None:
    """Each run is found once, whether its entries are apart or at the same moment as those of others."""
    await site.write(
        *(entry(60 * n + second, task_id=f"run-{n}") for n in range(6) for second in range(3)),
        *(entry(second, task_id="long", level="error") for second in range(0, 360, 40)),
        *(entry(150, task_id=f"at-once-{n}") for n in range(5)),
    )
    names = await found(site, 100)
    assert len(names) == 12
    assert await pages_of(site, limit) == names
    only = Only(until=START + timedelta(seconds=100))
    assert await pages_of(site, limit, only=only) == await found(site, 100, only=only) != names
    assert await pages_of(site, limit, with_errors=True) == ["long"]


async def test_a_search_goes_on_though_new_entries_come(site: SqliteSite) -> None:
    """A run that has moved to the top meanwhile is not found again further down."""
    await site.write(*(entry(n, task_id=f"run-{n}") for n in range(10)))
    first = await recent_runs(site.engine, site.settings, limit=4)
    await site.write(entry(100, task_id="run-2"), entry(101, task_id="new"), batch_id="later")
    others = await recent_runs(site.engine, site.settings, limit=100, after=first.next)
    assert [run.task_id for run in others.runs] == ["run-5", "run-4", "run-3", "run-1", "run-0"]


async def test_only_those_in_some_state(site: SqliteSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many others there are before them; None stands for runs that tell none."""
    monkeypatch.setattr(summary, "SILENT", timedelta.max)
    for number, state in enumerate(["done", "failed", "running", "cancelled", "done", "failed"]):
        begin = mark(10 * number, "running").replace('"t"', f'"run-{number}"')
        end = mark(10 * number + 1, state).replace('"t"', f'"run-{number}"')
        await site.write(begin, end, batch_id=str(number))
    await site.write(*(entry(200 + number, task_id=f"silent-{number}") for number in range(9)))
    for states, names in (
        ([RunState.FAILED], ["run-5", "run-1"]),
        ([RunState.RUNNING, RunState.CANCELLED], ["run-3", "run-2"]),
        ([RunState.NO_END], []),
    ):
        assert await found(site, states=states) == names
        assert await pages_of(site, 1, states=states) == names
    assert len(await found(site, 100, states=[None])) == 9


async def test_a_search_that_finds_nothing_in_its_time_goes_on_behind_what_it_has_seen(
    site: SqliteSite,
) -> None:
    """Or it would begin at the same place for ever."""
    await site.write(*(entry(n, task_id="many") for n in range(400)), entry(-1, task_id="old", step="rare"))
    names, place, searches = [], None, 0
    while not searches or place:
        clock: Iterator[float] = map(float, count())
        recent = await recent_runs(
            site.engine, site.settings, limit=5, only=Only(steps=("rare",)), after=place,
            within_seconds=8, now=partial(next, clock),
        )  # fmt: skip
        names += [run.task_id for run in recent.runs]
        place, searches = recent.next, searches + 1
    assert names == ["old"]
    assert searches > 1


async def test_the_activity_of_a_run(site: SqliteSite) -> None:
    """Its entries by equal shares of its time, the last moment in the last share."""
    await site.write(*(entry(second) for second in (0, 1, 2, 50, 99, 100)), entry(5, task_id="other"))
    timeline = Timeline(site.engine, site.settings, "t")
    assert await activity_of(timeline, 4) == [3, 0, 1, 2]
    assert sum(await activity_of(timeline, 24) or []) == 6
    assert await activity_of(Timeline(site.engine, site.settings, "other"), 4) == [0, 0, 0, 1]
    assert await activity_of(Timeline(site.engine, site.settings, "nope"), 4) is None


async def test_missing_indexes_are_named(site: SqliteSite) -> None:
    """Those that the library's own table has."""
    recent = await recent_runs(site.engine, site.settings, limit=1)
    is_own = site.settings.time_zone == "UTC"
    assert recent.missing_indexes == ([] if is_own else ["created_at", "task_id, created_at, id"])


async def test_a_table_that_is_missing_is_an_error(site: SqliteSite) -> None:
    """It says what to do."""
    site.execute("DROP TABLE execution_logs")
    with pytest.raises(StoreUnavailableError, match="db upgrade"):
        await recent_runs(site.engine, site.settings, limit=1)
