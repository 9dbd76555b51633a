"""Fields are filled in, and nothing of what a call passes itself is lost."""

import asyncio
import threading
from collections import UserDict
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import pytest

from execution_logger.api.context import block_here, context, merged


def fields() -> dict[str, Any]:
    """Those of the present context."""
    return dict(block_here().fields)


def test_without_a_context_nothing_is_filled_in() -> None:
    """That is how most calls are made."""
    assert fields() == {}


def test_contexts_nest() -> None:
    """The inner one wins, and ends first."""
    with context(task_id="1", step="a"):
        with context(step="b", more=2):
            assert fields() == {"task_id": "1", "step": "b", "more": 2}
        assert fields() == {"task_id": "1", "step": "a"}
    assert fields() == {}


def test_a_context_ends_with_an_error_too() -> None:
    """The next request has nothing to do with it."""
    with pytest.raises(ZeroDivisionError), context(task_id="1"):
        _ = 1 / 0
    assert fields() == {}


async def test_tasks_have_their_own_context() -> None:
    """They start with that of the code that started them, and do not see one another's."""
    met = asyncio.Barrier(2)

    async def work(step: str) -> dict[str, Any]:
        with context(step=step):
            await met.wait()
            return fields()

    with context(task_id="1"):
        found = await asyncio.gather(work("a"), work("b"))
    assert list(found) == [{"task_id": "1", "step": "a"}, {"task_id": "1", "step": "b"}]
    assert fields() == {}


def test_another_thread_starts_without_a_context() -> None:
    """As with all context variables."""
    found: list[dict[str, Any]] = []
    with context(task_id="1"):
        thread = threading.Thread(target=lambda: found.append(fields()))
        thread.start()
        thread.join()
    assert found == [{}]


def test_a_field_may_have_any_name() -> None:
    """Those of the parameters of context managers too."""
    with context(self=1, cls=2, fields=3):
        assert fields() == {"self": 1, "cls": 2, "fields": 3}


@pytest.mark.parametrize(
    ("details", "others", "result"),
    [
        (None, [], None),
        (None, [{}, {}], None),
        ({}, [{}], {}),
        ({"a": 1}, [], {"a": 1}),
        (None, [{"a": 1}], {"a": 1}),
        ({"a": 1}, [{"a": 2, "b": 2}, {"a": 3, "b": 3, "c": 3}], {"a": 1, "b": 2, "c": 3}),
        ({1: "a"}, [{"b": 2}], {"b": 2, 1: "a"}),
        (UserDict(a=1), [{"b": 2}], {"a": 1, "b": 2}),
        ("text", [], "text"),
        ("text", [{"a": 1}], {"a": 1, "details": "text"}),
        ([1], [{"a": 1}], {"a": 1, "details": [1]}),
        ([("a", 1)], [{"a": 2}], {"a": 2, "details": [("a", 1)]}),
    ],
)
def test_what_comes_first_wins(details: Any, others: list[dict[str, Any]], result: Any) -> None:
    """What is no dict is kept beside the others."""
    assert merged(details, *others) == result


def test_details_are_not_touched() -> None:
    """They are the caller's."""
    details = {"a": 1}
    assert merged(details, {"b": 2}) == {"a": 1, "b": 2}
    assert details == {"a": 1}


def test_the_order_of_keys_is_that_of_the_contract() -> None:
    """`{"error": error, **details}`."""
    assert list(merged({"a": 1, "b": 2}, {"error": "x"})) == ["error", "a", "b"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, GeneratorExit, RecursionError])
def test_details_that_cannot_be_read_are_kept_as_they_are(error: type[BaseException]) -> None:
    """Whoever encodes them says what is wrong with them."""

    class Hostile(UserDict[str, int]):
        def __iter__(self) -> Iterator[str]:
            raise error

    details = Hostile()
    result = merged(details, {"a": 1})
    assert result["a"] == 1
    assert result["details"] is details


class Endless(Mapping[str, int]):
    """A mapping whose keys have no end."""

    def __getitem__(self, key: str) -> int:
        return len(key)

    def __iter__(self) -> Iterator[str]:
        return map(str, count())

    def __len__(self) -> int:
        return 1


def test_of_a_mapping_without_end_no_more_is_read_than_an_entry_holds() -> None:
    """It would fill the memory."""
    found = merged(Endless(), {"bound": 1})
    assert found["bound"] == 1
    assert 1_000 < len(found) < 100_000
