"""The names in a run, and errors grouped by what their messages have in common."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches import encoded
from execution_logger.read import groups
from execution_logger.read.groups import count_names, fingerprint_of, group_errors
from execution_logger.read.timeline import Timeline
from sqlite_site import SqliteSite

START = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)
DAY = (START, START + timedelta(days=1))


def entry(second: float, **changed: Any) -> str:
    """One of that second after the start."""
    return encoded(created_at=(START + timedelta(seconds=second)).isoformat(), **changed)


async def test_the_names_of_a_run_are_counted(site: SqliteSite) -> None:
    """With the errors among them, the most frequent name first."""
    await site.write(
        *(entry(n, step="plan", agent_name="author") for n in range(3)),
        *(entry(n, step="write", category="tool", level="error") for n in range(2)),
        entry(1, level="CRITICAL", step="write"),
        entry(1, task_id="other", step="read"),
    )
    found = (await count_names(Timeline(site.engine, site.settings, "t"))).counts
    assert found["level"] == {"info": (3, 0), "error": (2, 2), "critical": (1, 1)}
    assert list(found["category"].items()) == [("agent", (4, 1)), ("tool", (2, 2))]
    assert found["step"] == {"plan": (3, 0), "write": (3, 3)}
    assert found["agent_name"] == {"author": (3, 0)}


@pytest.mark.parametrize(
    "messages",
    [
        ("took 1.5 s", "took 12 s", "took 1,000 s"),
        ("session 0af7651916cd43dd8448eb211c80319c ended", "session 1bf7651916cd43dd8448eb211c80319d ended"),
        ("run 01a2277e-0905-770b-9c8e-9b92d901411e", "run 01A2277E-0905-770B-9C8E-9B92D901411F"),
        ("no file 'a.txt'", "no file 'b c.txt'"),
        ('key "x" is missing', 'key "yy" is missing'),
        ("at 12:30:01", "at 02:00:59"),
        ("object at 0x7f3ba41eb950", "object at 0x7f3ba41ebfff"),
        ("第 3 次重试失败", "第 40 次重试失败"),
    ],
    ids=lambda messages: messages[0],
)
def test_messages_that_differ_in_values_are_alike(messages: tuple[str, ...]) -> None:
    """Numbers, ids, digests, addresses, times, quoted words."""
    assert len(set(map(fingerprint_of, messages))) == 1


@pytest.mark.parametrize(("one", "other"), [("read failed", "write failed"), ("a: x", "a: y"), ("", "-")])
def test_messages_that_differ_in_words_are_not(one: str, other: str) -> None:
    """They are different errors."""
    assert fingerprint_of(one) != fingerprint_of(other)


@given(st.text())
def test_any_message_has_a_short_fingerprint(message: str) -> None:
    """The same each time."""
    assert fingerprint_of(message) == fingerprint_of(message)
    assert len(fingerprint_of(message)) <= 200


async def test_errors_are_grouped_the_most_frequent_first(site: SqliteSite) -> None:
    """Each with its newest one, and with how many there are in how many runs."""
    await site.write(
        *(entry(n, level="error", message=f"no answer in {n} s", task_id=f"run-{n % 2}") for n in range(5)),
        entry(3, level="critical", message="disk full", step="write", agent_name="author"),
        entry(4, message="no answer in 9 s"),
        entry(-1, level="error", message="too early"),
    )
    found = await group_errors(Timeline(site.engine, site.settings, None), *DAY, 10)
    assert (found.looked_at, found.is_complete) == (6, True)
    first, second = found.groups
    assert (first.entries, first.runs, first.message) == (5, {"run-0", "run-1"}, "no answer in 4 s")
    assert (first.first_at, first.last_at) == (START, START + timedelta(seconds=4))
    assert (second.message, second.step, second.agent, second.entries) == ("disk full", "write", "author", 1)
    assert len((await group_errors(Timeline(site.engine, site.settings, None), *DAY, 1)).groups) == 1


async def test_of_too_many_errors_the_newest_are_grouped(
    site: SqliteSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it says that there are more."""
    await site.write(*(entry(n, level="error" if n % 2 else "info", message=f"{n}") for n in range(20)))
    timeline = Timeline(site.engine, site.settings, None)
    monkeypatch.setattr(groups, "MOST_ERRORS", 4)
    found = await group_errors(timeline, *DAY, 10)
    assert (found.looked_at, found.is_complete, found.groups[0].message) == (4, False, "19")
    monkeypatch.setattr(groups, "MOST_ERRORS", 100)
    monkeypatch.setattr(groups, "MOST_SEARCHED", 10)
    found = await group_errors(timeline, *DAY, 10)
    assert (found.looked_at, found.is_complete) == (5, False)
