"""The forms that values have: a text, a simpler value, or the parts of a container."""

import enum
from collections import OrderedDict, UserDict, UserString, deque
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from urllib.parse import urlparse, urlsplit
from uuid import UUID

import pytest

from anything import ArrayLike, Colour, Model, Number, Old, Pair, PlainRepr, Point, Root, Struct, Word
from execution_logger.entry.masking import MASK
from execution_logger.entry.renderer import exact_text, parts_of, simplified

UUID_TEXT = "01a20117-31cc-73ef-8418-33b9cd31207a"


class Choice(str, enum.Enum):  # noqa: UP042 - hosts have them
    """An enum as it was before StrEnum."""

    FIRST = "first"


class Remote:
    """A proxy of something that is far away: it has every attribute, and asking costs a journey."""

    asked = 0

    def __getattr__(self, name: str) -> Any:
        self.asked += 1
        return lambda: name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        (Word.HELLO, "hello"),
        (Choice.FIRST, "first"),
        (Colour.RED, "red"),
        (UserString("text"), "text"),
        (5, "5"),
        (1.5, "1.5"),
        (True, "True"),
        (None, "None"),
        (datetime(2026, 11, 22, 2, 13, 53, 123456, UTC), "2026-11-22T02:13:53.123456+00:00"),
        (datetime(2026, 11, 22), "2026-11-22T00:00:00"),  # noqa: DTZ001 - hosts have them
        (date(2026, 11, 22), "2026-11-22"),
        (time(2, 13), "02:13:00"),
        (timedelta(seconds=90), "0:01:30"),
        (Decimal("1.10"), "1.10"),
        (UUID(UUID_TEXT), UUID_TEXT),
        (PurePosixPath("a/b"), "a/b"),
    ],
)
def test_these_have_an_exact_text(value: Any, text: str) -> None:
    """One from which the value could be made again."""
    assert exact_text(value) == text


@pytest.mark.parametrize(
    "value", [object(), [1], {"a": 1}, int, Colour.POINT, b"x", ValueError(), PlainRepr(1)]
)
def test_these_have_none(value: Any) -> None:
    """They are shown in another way."""
    assert exact_text(value) is None


@pytest.mark.parametrize(
    ("value", "simple"),
    [
        (Colour.POINT, (1, 2)),
        (Number.ONE, 1),
        (Model(x=[1]), {"x": [1]}),
        (Root([1, 2]), [1, 2]),
        (ArrayLike([1, 2]), [1, 2]),
        (ArrayLike(1.5), 1.5),
        (urlsplit("redis://u:secret@db/0?a=b#c"), "redis://u:secret@db/0?a=b#c"),
        (urlparse("redis://u:secret@db/0;p"), "redis://u:secret@db/0;p"),
        (urlsplit(b"redis://u:secret@db"), b"redis://u:secret@db"),
    ],
)
def test_these_stand_for_something_simpler(value: Any, simple: Any) -> None:
    """Enums, pydantic models, NumPy's arrays and numbers, and URLs that were split."""
    assert simplified(value, 1000) == simple


def test_a_large_array_is_not_copied() -> None:
    """It would not fit into an entry."""
    array = ArrayLike([1], nbytes=10**9)
    assert simplified(array, 1000) is array


@pytest.mark.parametrize("value", [5, "x", object(), [1], Model, Root, Colour, Remote()])
def test_these_stand_for_themselves(value: Any) -> None:
    """Classes too: what their instances offer is nothing of theirs."""
    assert simplified(value, 1000) is value


def test_a_proxy_is_not_asked() -> None:
    """Its answer might come over the network, in the middle of a log call."""
    remote = Remote()
    assert simplified(remote, 1000) is remote
    assert parts_of(remote) is None
    assert remote.asked == 0


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (Pair(1, 2), {"left": 1, "right": 2}),
        (Old(1), {"value": 1}),
        (Struct(1), {"x": 1}),
        (Point(1, 2), {"x": 1, "y": 2, "unset": None, "hidden": MASK}),
    ],
)
def test_fields_are_parts(value: Any, parts: dict[str, Any]) -> None:
    """What a dataclass keeps out of its repr is not shown; what is not set yet is None."""
    assert parts_of(value) == parts


@pytest.mark.parametrize(
    "value",
    [{}, [], (), set(), frozenset(), deque(), range(3), OrderedDict(), UserDict(), MappingProxyType({})],
)
def test_containers_are_their_own_parts(value: Any) -> None:
    """Nothing is copied before it is known how much of it fits."""
    assert parts_of(value) is value


@pytest.mark.parametrize("view", [{"a": 1}.keys(), {"a": 1}.values(), {"a": 1}.items()])
def test_the_views_of_a_dict_are_containers(view: Any) -> None:
    """`details={"names": names.values()}` is easily written."""
    assert parts_of(view) is view


@pytest.mark.parametrize(
    "value", ["x", b"x", UserString("x"), 5, None, object(), Point, Struct, (x for x in "ab")]
)
def test_these_are_no_containers(value: Any) -> None:
    """Texts are whole, classes are not their instances, and generators belong to those who read them."""
    assert parts_of(value) is None
