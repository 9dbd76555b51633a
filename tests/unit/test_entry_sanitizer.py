"""Whatever is passed becomes JSON of a bounded size, and says what was changed."""

import array
import enum
import functools
import math
import signal
import tracemalloc
from collections import UserDict, UserString, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlparse, urlsplit
from uuid import UUID

import attrs
import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anything import (
    Anything,
    ArrayLike,
    Colour,
    Model,
    Number,
    Pair,
    PlainRepr,
    Point,
    Root,
    Shy,
    Struct,
    cycle,
    laughs,
    nested,
    plain_details,
    raised,
)
from execution_logger.entry.changes import CHANGED
from execution_logger.entry.encoder import EntryEncoder
from execution_logger.entry.entry import LogEntry
from execution_logger.entry.masking import MASK, SensitiveKeys
from execution_logger.entry.sanitizer import MAX_DEPTH, Sanitizer
from execution_logger.settings import SENSITIVE_KEYS, Settings
from execution_logger.text import json_size

KEYS = SensitiveKeys(SENSITIVE_KEYS)
ID = "01a20117-31cc-73ef-8418-33b9cd31207a"
NOW = datetime(2026, 11, 22, 2, 13, 53, 123456, UTC)
UNREADABLE = "could not be read"


def made_safe(max_bytes: int = 100_000, /, **fields: Any) -> LogEntry:
    """The entry of a call with these fields; it fits."""
    texts = {"task_id": "task", "level": "info", "category": "agent", "message": "message"}
    passed: dict[str, Any] = {"id": ID, "created_at": NOW, **texts, **fields}
    entry = Sanitizer(KEYS, max_bytes).made_safe(LogEntry(**passed))
    assert len(msgspec.json.encode(entry)) <= max_bytes
    return entry


def recorded(details: Any, max_bytes: int = 100_000) -> tuple[Any, dict[str, str]]:
    """What is recorded of `details`, and the marks."""
    safe = dict(made_safe(max_bytes, details=details).details or {})
    return safe, safe.pop(CHANGED, {})


def value_of(value: Any) -> Any:
    """What is recorded of a value that is changed silently."""
    details, changes = recorded({"x": value})
    assert changes == {}
    return details["x"]


def changed(value: Any) -> tuple[Any, str]:
    """What is recorded of a value that is not kept as it is, and its mark."""
    details, changes = recorded({"x": value})
    assert set(changes) == {"details.x"}
    return details["x"], changes["details.x"]


# Plain and nearly plain data ----------------------------------------------------------------------


@given(plain_details)
def test_plain_details_stay_as_they_are(details: dict[str, Any]) -> None:
    """And nothing is marked, when no word is sensitive."""
    passed = LogEntry(ID, NOW, "task", "info", "agent", "message", details=details)
    assert Sanitizer(SensitiveKeys(()), 100_000).made_safe(passed) == passed


@given(plain_details)
def test_it_is_a_copy(details: dict[str, Any]) -> None:
    """Callers change their dicts after they have logged them."""

    def containers(value: Any) -> Iterator[int]:
        if isinstance(value, dict | list):
            yield id(value)
            for inner in value.values() if isinstance(value, dict) else value:
                yield from containers(inner)

    safe, _ = recorded(details)
    assert not set(containers(details)) & set(containers(safe))


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ((1, 2), [1, 2]),
        ({1}, [1]),
        (frozenset(["a"]), ["a"]),
        (deque([1]), [1]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.values(), [1]),
        (UserDict(a=1), {"a": 1}),
        (Pair(1, (2,)), {"left": 1, "right": [2]}),
        (Struct(Struct(1)), {"x": {"x": 1}}),
        (Model(x=Model(x=1)), {"x": {"x": 1}}),
        (Root([1]), [1]),
        (ArrayLike([[1], [2]]), [[1], [2]]),
        (ArrayLike(5), 5),
        (Colour.RED, "red"),
        (Colour.POINT, [1, 2]),
        (Number.ONE, 1),
        (Decimal("1.10"), "1.10"),
        (UUID(ID), ID),
        (NOW, "2026-11-22T02:13:53.123456+00:00"),
        (timedelta(seconds=1), "0:00:01"),
        (b"caf\xc3\xa9", "café"),
        ("\x01\x7f\\u0000", "\x01\x7f\\u0000"),
        (2**64, 2**64),
        (-(2**1023), -(2**1023)),
        (5e-324, 5e-324),
        (1e308, 1e308),
        ({1: "a", None: "b", False: "c"}, {"1": "a", "null": "b", "false": "c"}),
        ({1.5: "a", (1, "e"): "b", UUID(ID): "c"}, {"1.5": "a", '[1,"e"]': "b", ID: "c"}),
    ],
)
def test_what_has_an_exact_form_is_converted_silently(value: Any, safe: Any) -> None:
    """Nothing is lost."""
    assert value_of(value) == safe


# What JSON or a database does not have ------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "safe", "mark"),
    [
        (math.nan, "nan", "not a number that JSON has"),
        (-math.inf, "-inf", "not a number that JSON has"),
        (2**1024, hex(2**1024), "a whole number of 1025 bits"),
        pytest.param(-(2**100_000), "-0x1" + "0" * 1996, "a whole number of 100001 bits", id="-2**100_000"),
        ("a\0b", "a\ufffdb", "1 NUL characters replaced"),
        ("\ud800", "\ufffd", "lone surrogates replaced"),
        (b"\xff", "/w==", "was 1 bytes that are no UTF-8; this is their base64"),
        (int, "<class 'int'>", "was a type; this is its repr"),
        (PlainRepr(1), "PlainRepr(value=1)", "was a PlainRepr; this is its repr"),
        (Shy(), "<unreadable Shy>", UNREADABLE),
    ],
)
def test_what_cannot_be_kept_is_marked(value: Any, safe: Any, mark: str) -> None:
    """With what it was, under the name of its place."""
    kept, change = changed(value)
    assert kept == safe
    assert mark in change


def test_generators_are_not_read() -> None:
    """Their items belong to somebody else."""
    generator = (number for number in range(3))
    assert changed(generator)[0].startswith("<generator")
    assert list(generator) == [0, 1, 2]


def test_an_exception_is_recorded_with_its_traceback() -> None:
    """As a value, in a container, or instead of a dict."""
    error = raised(ValueError("wrong"))
    assert value_of(error)["message"] == "wrong"
    assert "in fail" in value_of([error])[0]["traceback"]
    assert recorded(error)[0]["type"] == "ValueError"


def test_a_panic_of_a_library_in_rust_is_survived() -> None:
    """It is no Exception: pydantic raises it when the data does what it takes for impossible."""

    class Panicking(set[int]):
        def __iter__(self) -> Any:
            return 5

    with pytest.raises(BaseException, match="iterable") as caught:
        Model.model_construct(x=Panicking()).model_dump()
    assert not isinstance(caught.value, Exception)
    assert changed(Model.model_construct(x=Panicking()))[0] == "<unreadable Model>"


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, type("Own", (BaseException,), {})])
def test_no_exception_of_the_datas_escapes(error: type[BaseException]) -> None:
    """Whatever it does while it is read."""

    class Interrupted(list[int]):
        def __iter__(self) -> Any:
            raise error

        __len__ = __iter__

    class Uncountable:
        def __float__(self) -> Any:
            raise error

    assert f"to its end: {error.__name__}" in str(recorded(Interrupted())[1])
    assert made_safe(duration_ms=Uncountable()).duration_ms is None


def test_ctrl_c_is_the_users_own() -> None:
    """It ends the program, also while that is logging."""

    class Interrupted(list[int]):
        def __iter__(self) -> Any:
            signal.raise_signal(signal.SIGINT)
            return iter(())

    with pytest.raises(KeyboardInterrupt):
        recorded(Interrupted())


def test_the_same_name_for_several_keys() -> None:
    """None of them is lost."""
    safe, changes = recorded({1: "a", "1": "b", UUID(ID): "c", ID: "d"})
    assert safe == {"1": "a", "1'": "b", ID: "c", f"{ID}'": "d"}
    assert changes == {"details (a key)": "was there already"}


def test_a_key_of_the_callers_is_not_overwritten_by_the_marks() -> None:
    """They go under a name that is free."""
    details = made_safe(details={CHANGED: "mine", "x": math.nan}).details
    assert details == {
        CHANGED: "mine",
        "x": "nan",
        f"_{CHANGED}": {"details.x": "is not a number that JSON has"},
    }


@pytest.mark.parametrize("value", ["text", [1], 5, None, math.nan])
def test_details_that_are_no_dict_are_recorded_all_the_same(value: Any) -> None:
    """Under `value`."""
    safe, _ = recorded(value)
    assert safe == {} if value is None else safe == {"value": "nan" if value != value else value}  # noqa: PLR0124


def test_a_cycle_is_cut() -> None:
    """Where it closes; siblings that are the same are no cycle."""
    details, changes = recorded({"x": cycle()})
    assert details == {"x": [1, "<cycle>", {"items": "<cycle>"}]}
    assert changes == {"details.x[1]": "holds itself", "details.x[2].items": "holds itself"}
    same = [1]
    assert value_of([same, same]) == [[1], [1]]


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}, Point, Struct])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100, 5000])
def test_what_is_nested_very_deeply_is_cut(depth: int, wrap: Callable[[Any], Any]) -> None:
    """Far before Python, JSON parsers or databases give up."""
    details, changes = recorded({"x": nested(depth, wrap)})
    assert "innermost" not in str(details)
    assert list(changes.values()) == [f"is nested deeper than {MAX_DEPTH}"]


def test_what_is_nested_less_deeply_is_kept() -> None:
    """Nothing is marked."""
    assert "innermost" in str(value_of(nested(MAX_DEPTH - 1)))


# Secrets ------------------------------------------------------------------------------------------

SECRET = "hunter2"
secret_keys = st.sampled_from(
    ["password", "DB_PASSWORD", "apiKey", "x-auth-token", "client secret", "Cookie"]
)


class Login:
    """An object whose repr shows its fields."""

    def __init__(self, fields: Any) -> None:
        self.fields = fields

    def __repr__(self) -> str:
        return f"Login({self.fields!r})"


# Each makes something that holds a value.
CARRIERS: Sequence[Callable[[Any], Any]] = (
    lambda value: {"config": value},
    lambda value: UserDict(config=value),
    lambda value: {"password": value},
    lambda value: {"max_tokens": value},
    lambda value: [1, value],
    lambda value: (value,),
    lambda value: Point(1, value),
    Struct,
    lambda value: Model(x=value),
    lambda value: Pair(value, 1),
    lambda value: ValueError(value, 1),
    lambda value: raised(KeyError("x"), raised(ValueError(value))),
    Login,
    lambda value: SimpleNamespace(config=value),
    lambda value: {Pair(1, Login(value)): 1},
)
secrets = st.one_of(
    secret_keys.map(lambda key: {key: SECRET}),
    secret_keys.map(lambda key: {key: SECRET.encode()}),
    secret_keys.map(lambda key: {key: [SECRET]}),
    secret_keys.map(lambda key: {key: {"inner": (SECRET,)}}),
    secret_keys.map(lambda key: {key: Login(SECRET)}),
    st.just(SimpleNamespace(password=SECRET)),
    st.just(SimpleNamespace(api_key=Login(SECRET))),
    st.just({"prompt_tokens": SECRET}),
    st.just({"prompt_tokens": [SECRET, {"text": SECRET}]}),
)


@given(secrets, st.lists(st.sampled_from(CARRIERS), max_size=6), st.sampled_from([1024, 100_000]))
def test_a_secret_is_nowhere(value: Any, carriers: list[Callable[[Any], Any]], max_bytes: int) -> None:
    """At any depth, in any container, in keys, reprs and tracebacks; as details, message or identifier."""
    for carrier in carriers:
        value = carrier(value)
    fields = dict.fromkeys(("details", "message", "task_id", "step", "duration_ms"), value)
    assert SECRET.encode() not in msgspec.json.encode(made_safe(max_bytes, **fields))


@pytest.mark.parametrize("depth", [1, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1])
@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_secret_is_not_in_what_is_nested_deeply(depth: int, carrier: Callable[[Any], Any]) -> None:
    """Nor in what is cut because of that."""
    value = carrier({"password": SECRET})
    entry = made_safe(details={"x": nested(depth, lambda inner: [inner, value])})
    assert SECRET.encode() not in msgspec.json.encode(entry)


def test_masking_is_no_change() -> None:
    """The mask says it; None has nothing to hide."""
    safe, changes = recorded({"password": Decimal(1), "token": None, "user": (1,)})
    assert safe == {"password": MASK, "token": None, "user": [1]}
    assert changes == {}


def test_counts_of_tokens_are_kept() -> None:
    """Nested ones too; texts among them are not."""
    usage = {"prompt_tokens": Decimal(5), "total_tokens": 7, "token_details": {"cached": 3, "x": "y"}}
    safe = {"prompt_tokens": MASK, "total_tokens": 7, "token_details": {"cached": 3, "x": MASK}}
    assert value_of(usage) == safe


def test_a_key_that_is_cut_is_still_sensitive() -> None:
    """The word may be in the part that is not kept."""
    safe, _ = recorded({"x" * 2000 + "password": SECRET, "a": (1,)}, max_bytes=1024)
    assert SECRET not in str(safe)


# Texts and numbers of the entry -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        (1.5, "1.5"),
        (True, "true"),
        (UUID(ID), ID),
        (Colour.RED, "red"),
        (b"x", "x"),
        ({"a": 1}, '{"a":1}'),
    ],
)
def test_texts_that_are_none_become_texts(value: Any, text: str) -> None:
    """Silently, as nothing is lost."""
    entry = made_safe(task_id=value, level=value, category=value, message=value, step=value, concept_id=value)
    assert {entry.task_id, entry.level, entry.category, entry.message, entry.step, entry.concept_id} == {text}
    assert entry.details is None


def test_required_texts_that_are_missing_are_empty() -> None:
    """And marked; the others may be missing."""
    entry = made_safe(task_id=None, level=None, category=None, message=None)
    assert (entry.task_id, entry.level, entry.category, entry.message, entry.step) == ("", "", "", "", None)
    assert entry.details == {CHANGED: dict.fromkeys(("task_id", "level", "category", "message"), "was None")}


def test_an_identifier_is_cut_at_512_characters() -> None:
    """What is longer fits no index."""
    entry = made_safe(task_id="x" * 513, step="😀" * 512)
    assert entry.task_id == "x" * 512
    assert entry.step == "😀" * 512
    assert entry.details == {CHANGED: {"task_id": "cut from 513 characters to 512"}}


def test_an_exception_as_message_is_its_repr() -> None:
    """`logger.error(task_id, category, error)` is easily written."""
    assert made_safe(message=ValueError("wrong")).message == "ValueError('wrong')"


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        (0, 0), (5, 5), (2**31 - 1, 2**31 - 1), (1.4, 1), (1.6, 2), (-0.4, 0), (True, 1), ("12.5", 12),
        (Decimal("3.2"), 3), (None, None),
    ],
)  # fmt: skip
def test_durations_are_whole_numbers(value: Any, milliseconds: int | None) -> None:
    """Rounded silently."""
    assert made_safe(duration_ms=value).duration_ms == milliseconds


@pytest.mark.parametrize(
    "value",
    [
        -1, 2**31, 2**63, 1e300, -math.inf, math.nan, "soon", "", [], {}, b"\xff", object(), Shy(), 10**400,
        pytest.param(2**100_000, id="huge"),
    ],
)  # fmt: skip
def test_impossible_durations_are_left_out_and_marked(value: Any) -> None:
    """The entry is worth more than its duration."""
    entry = made_safe(duration_ms=value)
    assert entry.duration_ms is None
    assert entry.details is not None
    assert "not a number from 0 to 2147483647" in entry.details[CHANGED]["duration_ms"]


# Sizes --------------------------------------------------------------------------------------------


@given(
    st.integers(1024, 5000),
    st.integers(0, 6000),
    st.integers(0, 6000),
    st.sampled_from(["a", "\x01", "😀", '"']),
)
def test_message_and_details_use_what_the_other_leaves(
    max_bytes: int, message_chars: int, details_chars: int, character: str
) -> None:
    """Nothing is cut as long as both fit, and else each has half of the room at least."""
    entry = made_safe(max_bytes, message=character * message_chars, details={"x": character * details_chars})
    assert entry.details is not None
    size, room = json_size(character) - 2, max_bytes * 7 // 8 - 350
    wanted = {"message": message_chars * size, "details": details_chars * size}
    kept = {"message": len(entry.message) * size, "details": len(entry.details["x"]) * size}
    for part, other in (("message", "details"), ("details", "message")):
        least = room - min(wanted[other], room // 2)
        assert kept[part] == wanted[part] or kept[part] >= least * 0.95
    assert (CHANGED in entry.details) == (kept != wanted)


def test_what_becomes_a_text_is_counted_once() -> None:
    """It is JSON first, which takes no room from the rest."""
    details = {(number, "x" * 20): number for number in range(30)}
    entry = made_safe(2500, message={"a": "x" * 500}, details=details)
    assert len(entry.message) == 508
    assert entry.details == {f'[{number},"{"x" * 20}"]': number for number in range(30)}


@pytest.mark.parametrize(
    "item",
    [
        None,
        True,
        0,
        "",
        [],
        {},
        1.5,
        "x" * 100,
        2**1000,
        2**5000,
        math.nan,
        b"\xff" * 99,
        Shy(),
        {"password": 1},
    ],
)
def test_a_million_items_are_cut(item: Any) -> None:
    """As many are kept as there is room for, and how many there were is said."""
    safe, changes = recorded({"items": [item] * 1_000_000, "later": 1}, max_bytes=2000)
    assert safe["items"]
    assert f"cut after {len(safe['items'])} of 1000000 items" in changes["details.items"]
    assert "later" not in safe


@pytest.mark.parametrize("key", ["password {}", "key {}", "\x01{}", "{}" + "x" * 500])
def test_many_keys_are_cut(key: str) -> None:
    """As many are kept as there is room for, and how many there were is said."""
    safe, changes = recorded({key.format(number): number for number in range(100_000)}, max_bytes=2000)
    assert safe
    assert changes["details"] == f"cut after {len(safe)} of 100000 items"


def test_colliding_keys_are_cut() -> None:
    """They grow with every collision."""

    class Same:
        def __repr__(self) -> str:
            return "same"

    safe, changes = recorded({Same(): number for number in range(100_000)}, max_bytes=5000)
    assert len(safe) > 10
    assert "cut after" in changes["details"]


class Counting(Sequence[int]):
    """A sequence without an end, which counts how often it is asked."""

    visited = 0

    def __getitem__(self, index: Any) -> Any:
        self.visited += 1
        return index

    def __len__(self) -> int:
        return 10**12


class CountingMapping(Mapping[int, int]):
    """A mapping without an end, which counts how often it is asked."""

    visited = 0

    def __getitem__(self, key: int) -> int:
        self.visited += 1
        return key

    def __iter__(self) -> Iterator[int]:
        return iter(range(10**12))

    def __len__(self) -> int:
        return 10**12


@pytest.mark.parametrize("kind", [Counting, CountingMapping])
@pytest.mark.parametrize("field", ["details", "message", "task_id", "concept_id"])
def test_of_an_endless_container_only_so_much_is_read_as_may_be_kept(
    kind: type[Counting | CountingMapping], field: str
) -> None:
    """The work is bounded as the entry is."""
    endless = kind()
    made_safe(4000, **{field: endless})
    assert 0 < endless.visited <= 4000


@pytest.mark.parametrize("field", ["details", "message", "task_id", "level", "step"])
def test_few_lists_that_hold_one_another_often_are_cut(field: str) -> None:
    """They are 10 ** 30 items to whom follows them all."""
    assert "cut after" in str(made_safe(**{field: laughs(30)}).details)


def test_a_container_that_ends_with_an_error_is_kept_until_there() -> None:
    """Another thread may have changed it meanwhile."""

    class Changing(UserDict[str, int]):
        def __iter__(self) -> Iterator[str]:
            yield from ("a", "b")
            raise RuntimeError("dictionary changed size during iteration")

    safe, change = changed(Changing(a=1, b=2, c=3))
    assert safe == {"a": 1, "b": 2}
    assert change == "could not be read to its end: RuntimeError"


@pytest.mark.parametrize("length", [-1, "x", SystemExit, 10**30])
def test_a_container_that_lies_about_its_length(length: Any) -> None:
    """Its items count."""

    class Lying(list[int]):
        def __len__(self) -> Any:
            if length is SystemExit:
                raise SystemExit
            return length

    assert value_of(Lying([1, 2, 3])) == [1, 2, 3]
    assert "cut after" in str(recorded({"x": Lying(range(10_000))}, max_bytes=2000))


def test_subclasses_show_what_they_hold() -> None:
    """Not what their methods say."""

    class Number2(int):
        def bit_length(self) -> int:
            return 1

        def __int__(self) -> int:
            raise SystemExit

        __index__ = __str__ = __repr__ = __int__  # type: ignore[assignment]

    class Number3(float):
        def __float__(self) -> float:
            return math.nan

    class Text(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "other"

    assert value_of([Number2(5), Number3(1.5), Text("text")]) == [5, 1.5, "text"]
    kept, mark = changed(Number2(2**5000))
    assert kept.startswith("0x1000")
    assert "5001 bits" in mark


@given(st.integers(0, 2**32))
def test_it_never_raises_and_always_fits(seed: int) -> None:
    """Whatever is passed, also in the smallest entries that can be set."""
    anything = Anything(seed)
    names = ("task_id", "level", "category", "message", "step", "agent_name", "roadmap_id", "concept_id")
    fields = {name: anything.value() for name in (*names, "duration_ms")}
    made_safe(1024, details=anything.details(), **fields)
    assert made_safe(5000, details=anything.details()).message == "message"


# Work that is bounded as the entry is -------------------------------------------------------------


class Heavy(pydantic.BaseModel):
    """A model with more than an entry has room for."""

    items: Any
    name: str = "n"
    pin: Any = pydantic.Field(default="hidden", exclude=True)
    card: str = "4111"

    @pydantic.field_serializer("card")
    def _shown(self, _: str) -> str:
        return "****"


@attrs.define
class WithAttributes:
    """What attrs makes, with a repr of all it holds."""

    items: Any
    pin: Any = attrs.field(default="hidden", repr=False)


class Text(str):
    """A text of a class of its own."""

    __slots__ = ()


MILLION = 1_000_000
ITEMS = [10**6] * MILLION
HUGE: Mapping[str, Callable[[], Any]] = {
    "str": lambda: "x" * 50 * MILLION,
    "subclass": lambda: Text("x" * 50 * MILLION),
    "bytes": lambda: b"x" * 50 * MILLION,
    "no text": lambda: b"\xff" * 50 * MILLION,
    "bytearray": lambda: bytearray(50 * MILLION),
    "memoryview": lambda: memoryview(bytes(50 * MILLION)),
    "with gaps": lambda: memoryview(bytes(50 * MILLION))[::2],
    "of two dimensions": lambda: memoryview(bytes(50 * MILLION)).cast("B", (50, MILLION)),
    "UserString": lambda: UserString("x" * 50 * MILLION),
    "int": lambda: 1 << (400 * MILLION),
    "Decimal": lambda: Decimal((0, (9,) * 10**6, 0)),
    "list": lambda: ITEMS,
    "array": lambda: array.array("q", ITEMS),
    "NumPy": lambda: np.zeros(50 * MILLION),
    "an unknown size": type("Array", (), {"tolist": lambda _: list(ITEMS)}),
    "model": lambda: Heavy(items=ITEMS),
    "models in a model": lambda: Heavy(items=[Heavy(items=ITEMS)]),
    "SimpleNamespace": lambda: SimpleNamespace(items=ITEMS),
    "attrs": lambda: WithAttributes(ITEMS),
    "partial": lambda: functools.partial(print, ITEMS),
    "exception": lambda: raised(ValueError(ITEMS)),
    "exception's text": lambda: raised(ValueError("x" * 50 * MILLION)),
    "cause": lambda: raised(ValueError("short"), raised(KeyError(ITEMS))),
    "group": lambda: ExceptionGroup("several", [KeyError(ITEMS)]),
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("field", ["details", "message", "task_id", "duration_ms"])
def test_the_work_on_a_huge_value_is_bounded(name: str, field: str) -> None:
    """As what is kept is: as long as a text that nobody would notice."""
    value = HUGE[name]()
    tracemalloc.start()
    try:
        made_safe(20_000, **{field: {"x": value} if field == "details" else value})
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_the_beginning_of_a_huge_value_is_kept() -> None:
    """Which is worth more than the end of it."""
    safe, changes = recorded(
        {
            "int": (0xABC << 40_000) + 1,
            "negative": -(0xABC << 40_000),
            "decimal": Decimal((1, (1, 2, 3) + (0,) * 10_000, -5)),
            "text": Text("ab" * 50_000),
            "bytes": "ä".encode() * 50_000,
        },
        max_bytes=150_000,
    )
    assert safe["text"].startswith("abab")
    assert set(safe["bytes"]) == {"ä"}
    assert safe["int"].startswith("0xabc000")
    assert safe["negative"].startswith("-0xabc00")
    assert safe["decimal"].startswith("-1.23000")
    assert "10003" not in safe["decimal"]
    assert {f"details.{name}" for name in ("int", "negative", "decimal")} <= set(changes)


def test_a_model_too_large_to_be_dumped_shows_what_its_author_shows() -> None:
    """What serializers would hide, and what is left out, is masked."""
    assert value_of(Heavy(items=[1])) == {"items": [1], "name": "n", "card": "****"}
    safe, _ = recorded({"x": Heavy(items=[0] * 50_000)}, max_bytes=200_000)
    assert safe["x"]["items"][:2] == [0, 0]
    assert (safe["x"]["name"], safe["x"]["card"], safe["x"]["pin"]) == ("n", MASK, MASK)
    assert value_of(WithAttributes([1])) == {"items": [1], "pin": MASK}


@given(
    st.integers(0, 300),
    st.sampled_from(["redis://user:{}@host", "https://h/?access_token={}", "password={}"]),
)
def test_a_cut_leaves_no_beginning_of_a_secret(position: int, template: str) -> None:
    """It is masked before it is cut, in texts of any kind."""
    text = "word " * position + template.format(SECRET * 3) + " word" * 2000
    for value in (text, text.encode(), Text(text), ValueError(text), PlainRepr(text), UserString(text)):
        entry = made_safe(1024, message=value, step=value, details={"x": value})
        assert b"unter" not in msgspec.json.encode(entry)
        assert b"hunt" not in msgspec.json.encode(entry)


# Secrets whose names stand beside them --------------------------------------------------------------


@pytest.mark.parametrize("split", [urlsplit, urlparse])
def test_the_login_of_a_split_url_is_masked(split: Callable[[Any], Any]) -> None:
    """It is recorded as its text, also where that is longer than any entry."""
    assert value_of(split("redis://u:secret@db/0")) == f"redis://{MASK}@db/0"
    assert value_of(split(b"redis://u:secret@db/0")) == f"redis://{MASK}@db/0"
    assert value_of(split("https://db/a@b?c=d")) == "https://db/a@b?c=d"
    long, _ = recorded({"x": split(f"redis://u:{'secret' * 100_000}@db/0")})
    assert long["x"] == f"redis://{MASK}@"


class Header(enum.Enum):
    """Names of headers, whose values say nothing."""

    AUTHORIZATION = 1
    AGENT = 2


class HeaderText(enum.StrEnum):
    """Names of headers, which are texts."""

    AUTHORIZATION = "Authorization"
    AGENT = "User-Agent"


class Istr(str):  # noqa: SLOT000 - as hosts have them
    """A name of a header as some servers have it, which is equal to itself in any case."""


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ([("Authorization", "Bearer x"), ("Accept", "y")], [["Authorization", MASK], ["Accept", "y"]]),
        ([(Istr("Authorization"), "x"), (Istr("Accept"), "y")], [["Authorization", MASK], ["Accept", "y"]]),
        (
            [[HeaderText.AUTHORIZATION, "x"], [HeaderText.AGENT, "y"]],
            [["Authorization", MASK], ["User-Agent", "y"]],
        ),
        ([(Header.AUTHORIZATION, "x"), (Header.AGENT, "y")], [[1, MASK], [2, "y"]]),
        ([(bytearray(b"cookie"), b"x"), (bytearray(b"accept"), b"y")], [["cookie", MASK], ["accept", "y"]]),
        ({"name": HeaderText.AUTHORIZATION, "value": "x"}, {"name": "Authorization", "value": MASK}),
        ({"name": Istr("cookie"), "value": "x"}, {"name": "cookie", "value": MASK}),
        ({b"name": b"cookie", b"value": b"x"}, {"name": "cookie", "value": MASK}),
        ([[b"cookie", b"x"], [b"accept", b"y"]], [["cookie", MASK], ["accept", "y"]]),
        ((("X-Api-Key", "x"),), [["X-Api-Key", MASK]]),
        ([["Authorization", "Bearer x"]], [["Authorization", MASK]]),
        (("password", "x"), ["password", MASK]),
        (["password", "reset"], ["password", "reset"]),
        ([["password", "reset", "mail"]], [["password", "reset", "mail"]]),
        ([("max_tokens", 5)], [["max_tokens", 5]]),
        ([{"name": "DB_PASSWORD", "value": "x"}], [{"name": "DB_PASSWORD", "value": MASK}]),
        ({"Name": "ApiToken", "Value": 5}, {"Name": "ApiToken", "Value": MASK}),
        ({"Key": "secret", "Value": ["x"]}, {"Key": "secret", "Value": MASK}),
        ({"key": b"jwt", "value": "x"}, {"key": "jwt", "value": MASK}),
        (
            {"ParameterKey": "DbPassword", "ParameterValue": "x"},
            {"ParameterKey": "DbPassword", "ParameterValue": MASK},
        ),
        ({"name": "password", "default_value": "x"}, {"name": "password", "default_value": MASK}),
        ({"NAME": "DB_PASSWORD", "VALUE": "x"}, {"NAME": "DB_PASSWORD", "VALUE": MASK}),
        ({"value": "x", "header_name": "Cookie"}, {"value": MASK, "header_name": "Cookie"}),
        ({"headerName": "Cookie", "headerValue": "x"}, {"headerName": "Cookie", "headerValue": MASK}),
        ({"header": "Cookie", "header_value": "x"}, {"header": "Cookie", "header_value": MASK}),
        ({"variable": "API_TOKEN", "value": "x"}, {"variable": "API_TOKEN", "value": MASK}),
        ({"name": "set-cookie", "values": ["x"]}, {"name": "set-cookie", "values": MASK}),
        ({"key": "jwt", "val": "x"}, {"key": "jwt", "val": MASK}),
        ({"env_key": "jwt", "envVal": "x"}, {"env_key": "jwt", "envVal": MASK}),
        ({"key": "jwt", "interval": 5, "retrieval": "x"}, {"key": "jwt", "interval": 5, "retrieval": "x"}),
        ({"name": "max_tokens", "values": [1, 2]}, {"name": "max_tokens", "values": [1, 2]}),
        ({"agent_name": "token-counter", "value": 5}, {"agent_name": "token-counter", "value": 5}),
        ({"key": "name", "value": "x"}, {"key": "name", "value": "x"}),
        ({"name": "HOME", "value": "/root"}, {"name": "HOME", "value": "/root"}),
        ({"file_name": "secrets.txt", "value": 1}, {"file_name": "secrets.txt", "value": 1}),
        ({"name": "token_count", "value": 5}, {"name": "token_count", "value": 5}),
        ({Header.AUTHORIZATION: "x", Header.AGENT: "y"}, {"1": MASK, "2": "y"}),
    ],
)
def test_a_name_beside_a_value_tells(value: Any, safe: Any) -> None:
    """Headers as pairs, variables as Docker, Kubernetes and AWS write them, members of enums."""
    assert value_of(value) == safe
    entry, _ = EntryEncoder(Settings()).make("task", "info", "tool", "message", details={"x": value})
    assert entry.details == {"x": safe}
