"""The tree of a run: from entries in any order, with any parents."""

import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_logger import LogEntry
from execution_logger import execution_logger as log
from execution_logger.entry.entry import OPERATION_TEXTS, RunState
from execution_logger.read.tree import Node, Subtree, Tree, name_of, tree_of
from execution_logger.testing import capture_entries

START = datetime(2026, 11, 22, 2, 13, tzinfo=UTC)
NAMES = st.sampled_from("abcdef")


def entry(number: int, operation: str | None = None, parent: str | None = None, **changed: Any) -> LogEntry:
    """One of that second, which is its id as well."""
    usual: dict[str, Any] = {"task_id": "t", "level": "info", "category": "c", "message": str(number)}
    fields = usual | {"created_at": START + timedelta(seconds=number)} | changed
    return LogEntry(id=f"{number:06}", operation_id=operation, parent_id=parent, **fields)


def outline(tree: Tree | Node) -> list[Any]:
    """The names of the operations, each with its outline, and the messages of the entries."""
    return [
        {item.operation_id: outline(item)} if isinstance(item, Node) else item.message
        for item in tree.items()
    ]


def everything(tree: Tree) -> list[LogEntry]:
    """All entries in it."""
    return [*tree.entries, *(each for node in tree.nodes() for each in (*node.own, *node.entries))]


def test_a_tree_is_as_it_was_logged() -> None:
    """By what is in whose block; the children and the entries of an operation take turns."""
    entries = [
        entry(0),
        entry(1, "a"),
        entry(2, None, "a"),
        entry(3, "b", "a"),
        entry(4, None, "b"),
        entry(5, "b", "a", duration_ms=2000),
        entry(6, None, "a"),
        entry(7, "c", "a"),
        entry(8, "a", duration_ms=7100),
    ]
    for each in (entries, entries[::-1]):
        assert outline(tree_of(each)) == ["0", {"a": ["2", {"b": ["4"]}, "6", {"c": []}]}]


def test_an_operation_says_how_it_went() -> None:
    """While it is open, when it has ended, and when only its end is known."""
    tree = tree_of(
        [
            entry(1, "a", message="read started"),
            entry(2, "b", message="write started"),
            entry(5, "b", message="write completed", duration_ms=2900),
            entry(9, "c", message="think failed: no", duration_ms=8500, level="error"),
        ]
    )
    found = {
        node.name: (node.state, (node.began_at - START).total_seconds(), node.ended_at, node.duration_ms)
        for node in tree.roots
    }
    assert found == {
        "think": ("failed", 0.5, START + timedelta(seconds=9), 8500),
        "read": ("running", 1, None, None),
        "write": ("done", 2, START + timedelta(seconds=5), 2900),
    }


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({}, "done"),
        ({"level": "critical"}, "failed"),
        ({"level": "warning"}, "cancelled"),
        ({"details": {"run_state": "cancelled"}}, "cancelled"),
        ({"level": "error", "details": {"run_state": ["x"]}}, "failed"),
        ({"details": {"run_state": "running"}}, "done"),
    ],
    ids=str,
)
def test_the_end_tells_the_state(changed: dict[str, Any], state: str) -> None:
    """Of a run in so many words; a state that an end cannot have tells nothing."""
    (node,) = tree_of([entry(1, "a"), entry(2, "a", duration_ms=1, **changed)]).roots
    assert node.state == state


def test_an_open_operation_is_what_its_reader_takes_it_for() -> None:
    """Whoever knows that the process is gone says so; one with two entries has ended, without a duration."""
    tree = tree_of([entry(1, "a"), entry(2, "b"), entry(4, "b")], RunState.NO_END)
    assert [(node.state, node.duration_ms) for node in tree.roots] == [
        ("no end recorded", None),
        ("done", 2000),
    ]


def test_a_run_that_ends_in_another_process_has_an_end_without_a_duration() -> None:
    """The newest word counts: it may have failed before, end again, or begin again."""

    def told(number: int, state: str, **changed: Any) -> LogEntry:
        return entry(number, "a", details={"run_state": state}, **changed)

    begin, end = told(1, "running", message="report started"), told(61, "done", message="report completed")
    failed = told(2, "failed", message="report failed: no", level="error", duration_ms=20)
    for entries, expected in (
        ([begin, end], ("done", 60_000, begin, end)),
        ([end], ("done", 0, None, end)),
        ([begin, failed], ("failed", 20, begin, failed)),
        ([begin, failed, end], ("done", 60_000, begin, end)),
        ([begin, end, told(70, "running")], ("running", None, begin, None)),
        ([begin, end, told(70, "running"), told(71, "cancelled")], ("cancelled", 70_000, begin, ...)),
    ):
        (node,) = tree_of(entries).roots
        assert node.name == "report"
        found = node.state, node.duration_ms, node.begin, node.end
        assert found[:3] == expected[:3]
        assert expected[3] in (node.end, ...)


@pytest.mark.parametrize("language", OPERATION_TEXTS)
def test_names_are_those_that_operations_were_given(language: str) -> None:
    """In both languages, from any entry of theirs; another message is the name itself."""
    for event, text in OPERATION_TEXTS[language].items():
        duration_ms = None if event == "started" else 5
        level = "error" if event == "failed" else "info"
        message = text.format("大纲 outline", "why: failed: no")
        found = name_of(entry(1, "a", message=message, level=level, duration_ms=duration_ms))
        assert found == "大纲 outline"
    assert name_of(entry(1, "a", message="just so", duration_ms=1)) == "just so"


async def test_what_the_logger_records_is_a_tree() -> None:
    """Of nested blocks, one of which fails."""
    with capture_entries() as entries:
        async with log.run("t", "report"):
            log.sync.info(None, "c", "one")
            with suppress(ValueError), log.timed_operation(None, "c", "divide"):
                log.sync.info(None, "c", "two")
                raise ValueError
    tree = tree_of(entries)
    assert [(node.name, node.state, node.errors) for node in tree.nodes()] == [
        ("report", "done", 1),
        ("divide", "failed", 1),
    ]
    assert [node.entries[0].message for node in tree.nodes()] == ["one", "two"]


def test_nothing_is_lost_for_want_of_a_parent() -> None:
    """Entries and operations whose parent is not here are at the root."""
    assert outline(tree_of([entry(1, None, "gone"), entry(2, "a", "gone"), entry(3, None, "a")])) == [
        "1",
        {"a": ["3"]},
    ]


def test_a_circle_is_cut_where_it_began() -> None:
    """Of any length, with what hangs on it."""
    entries = [
        entry(1, "a", "b"),
        entry(2, "b", "c"),
        entry(3, "c", "a"),
        entry(4, "d", "b"),
        entry(5, "e", "e"),
    ]
    assert outline(tree_of(entries)) == [{"a": [{"c": [{"b": [{"d": []}]}]}]}, {"e": []}]


@given(
    st.lists(st.tuples(st.none() | NAMES, st.none() | NAMES, st.integers(0, 5), st.booleans()), max_size=30),
    st.randoms(use_true_random=False),
)
def test_each_entry_is_there_once(rows: list[tuple[Any, Any, int, bool]], random: Any) -> None:
    """Whatever the parents, the order and the times; the tree does not depend on the order."""
    entries = [
        entry(number, operation, parent, created_at=START + timedelta(seconds=second))
        for number, (operation, parent, second, _) in enumerate(rows)
    ]
    tree = tree_of(entries)
    assert Counter(each.id for each in everything(tree)) == Counter(each.id for each in entries)
    shuffled = list(entries)
    random.shuffle(shuffled)
    assert outline(tree_of(shuffled)) == outline(tree)
    ids = [node.operation_id for node in tree.nodes()]
    assert sorted(ids) == sorted({each.operation_id for each in entries if each.operation_id})
    for node in tree.nodes():
        assert all(child.parent_id == node.operation_id for child in node.children)
        assert all(each.parent_id == node.operation_id for each in node.entries)
    wanted = {each.id for each, (*_, is_wanted) in zip(entries, rows, strict=True) if is_wanted}
    pruned = tree.pruned(lambda each: each.id in wanted)
    kept = {each.id for each in everything(pruned)}
    assert wanted <= kept
    for node in pruned.nodes():
        assert node.children or any(each.id in wanted for each in (*node.own, *node.entries))


@given(
    st.lists(st.tuples(st.booleans(), NAMES), max_size=20),
    st.fixed_dictionaries(dict.fromkeys("abcdef", st.none() | NAMES)),
    st.sets(NAMES, min_size=1, max_size=2),
)
def test_what_is_beneath_an_operation_is_found_in_any_order(
    rows: list[tuple[bool, str]], parents: dict[str, str | None], wanted: set[str]
) -> None:
    """Once each, as following the parents upwards finds it."""
    entries = [
        entry(number, name, parents[name]) if is_own else entry(number, None, name)
        for number, (is_own, name) in enumerate(rows)
    ]
    within = set(wanted)
    for _ in parents:
        within |= {each.operation_id for each in entries if each.operation_id and each.parent_id in within}
    subtree: Subtree[LogEntry] = Subtree(wanted)
    pages = [entries[start : start + 3] for start in range(0, len(entries), 3)]
    taken = [each.id for page in pages for each in subtree.take(page)]
    assert sorted(taken) == [
        each.id for each in entries if each.operation_id in within or each.parent_id in within
    ]
    assert subtree.operations == within


def test_what_waits_for_its_parent_is_bounded() -> None:
    """Some of the latest are kept."""
    subtree: Subtree[LogEntry] = Subtree(["a"], most_kept=3)
    assert subtree.take(entry(number, None, f"{number % 2}") for number in range(10)) == []
    assert len(subtree.take([entry(10, "0", "a"), entry(11, "1", "a")])) == 2 + 3


def test_a_deep_tree_is_no_trouble() -> None:
    """No recursion, and time in proportion: neither depth nor breadth, nor a circle of all."""
    deep = [entry(number, f"{number}", f"{number - 1}") for number in range(20_000)]
    broad = [entry(number, f"{number}", "0") for number in range(20_000)]
    circle = [entry(number, f"{number}", f"{(number + 1) % 20_000}") for number in range(20_000)]
    began = time.process_time()
    assert [len(everything(tree_of(each))) for each in (deep, broad, circle)] == [20_000] * 3
    assert len([*tree_of(deep).pruned(lambda each: each.message == "19999").nodes()]) == 20_000
    assert time.process_time() - began < 20  # it takes one
