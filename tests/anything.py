"""Anything a caller may pass: plain data, data of other types, and objects that fight back."""

import dataclasses
import enum
import math
from collections import OrderedDict, UserDict, UserString, deque, namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import count, repeat
from pathlib import PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pydantic
from hypothesis import strategies as st

# Plain data: what JSON has, and every database stores -------------------------------------------

plain_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
plain_numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
plain_scalars = st.none() | st.booleans() | plain_numbers | plain_texts
plain_values = st.recursive(
    plain_scalars, lambda inner: st.lists(inner) | st.dictionaries(plain_texts, inner), max_leaves=20
)
plain_details = st.dictionaries(plain_texts, plain_values)

# Other data -------------------------------------------------------------------------------------

odd_texts = [
    "",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "\ud83d\ude00",
    "\x01" * 50,
    '"\\' * 20,
    "\\u0000",
    "中文😀",
]
any_texts = st.text(st.characters()) | st.sampled_from(odd_texts)
huge_numbers = st.builds(pow, st.sampled_from([2, -2]), st.sampled_from([63, 64, 1024, 1025, 100_000]))
odd_numbers = huge_numbers | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324])


class Colour(enum.Enum):
    """An enum of no other type."""

    RED = "red"
    POINT = (1, 2)
    BAD = math.nan


class Number(enum.IntEnum):
    """An enum whose members are numbers."""

    ONE = 1


class Word(enum.StrEnum):
    """An enum whose members are texts."""

    HELLO = "hello"


@dataclasses.dataclass
class Point:
    """A dataclass that holds anything, and may hold itself."""

    x: Any
    y: Any = None
    unset: Any = dataclasses.field(init=False)
    hidden: Any = dataclasses.field(default="hidden", repr=False)


class Struct(msgspec.Struct):
    """A msgspec struct that holds anything."""

    x: Any


class Model(pydantic.BaseModel):
    """A pydantic model that holds anything."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    x: Any


class Root(pydantic.RootModel[list[Any]]):
    """A pydantic model whose form is no dict."""


class Pair(NamedTuple):
    """A named tuple that holds anything."""

    left: Any
    right: Any


class PlainRepr:
    """An object that JSON knows nothing of."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"PlainRepr(value={self.value!r})"


class ArrayLike:
    """What NumPy's arrays and numbers offer."""

    def __init__(self, value: Any, nbytes: int = 8) -> None:
        self.value = value
        self.nbytes = nbytes

    def tolist(self) -> Any:
        """The value that Python has for it."""
        return self.value


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """The error with a traceback, and with what caused it."""

    def fail() -> None:
        raise error from cause

    try:
        fail()
    except BaseException as caught:  # noqa: BLE001 - it is what was asked for
        return caught
    raise AssertionError


def nested(depth: int, wrap: Callable[[Any], Any] = lambda inner: [inner]) -> Any:
    """Containers in containers."""
    value: Any = "innermost"
    for _ in range(depth):
        value = wrap(value)
    return value


def cycle() -> list[Any]:
    """A list that holds itself, and a dict that holds the list."""
    items: list[Any] = [1]
    items.extend([items, {"items": items}])
    return items


def laughs(levels: int = 30) -> list[Any]:
    """Few lists that hold one another often: 10 ** levels items to whom follows them all."""
    value: list[Any] = ["ha"] * 10
    for _ in range(levels):
        value = [value] * 10
    return value


def _view(value: bytes) -> memoryview:
    return memoryview(value)[::2]  # with gaps


def _hashes(value: Any) -> bool:
    try:
        hash(value)
    except (TypeError, ValueError):
        return False
    return True


scalars = st.one_of(
    plain_scalars,
    any_texts,
    odd_numbers,
    st.integers(),
    st.floats(),
    st.datetimes(timezones=st.none() | st.just(UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.complex_numbers(),
    st.binary(),
    st.sampled_from([*Colour, *Number, *Word, Colour, int, len, print, ..., NotImplemented]),
    st.builds(PurePosixPath, st.sampled_from(["a/b", "caf\udce9"])),
    st.builds(UserString, any_texts),
    st.builds(bytearray, st.binary()),
    st.builds(_view, st.binary()),
    st.sampled_from([range(3), range(10**12), MappingProxyType({"a": 1}), SimpleNamespace(a=1)]),
)
keys = st.one_of(scalars.filter(_hashes), st.tuples(any_texts, st.integers()))


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=5)
    dicts = st.dictionaries(keys, inner, max_size=5)
    return st.one_of(
        lists,
        dicts,
        lists.map(tuple),
        lists.map(deque),
        lists.map(iter),
        lists.map(lambda items: (item for item in items)),
        lists.map(lambda items: raised(ValueError(*items))),
        lists.map(lambda items: raised(RuntimeError(*items), raised(KeyError("cause")))),
        lists.map(lambda items: ExceptionGroup("several", [ValueError(*items)])),
        dicts.map(OrderedDict),
        dicts.map(UserDict),
        dicts.map(MappingProxyType),
        dicts.map(lambda items: items.items()),
        dicts.map(lambda items: items.values()),
        st.frozensets(keys, max_size=5),
        st.builds(Point, inner, inner),
        st.builds(Struct, inner),
        st.builds(Model.model_construct, x=inner),
        st.builds(Pair, inner, inner),
        st.builds(PlainRepr, inner),
        st.builds(ArrayLike, inner),
        inner.map(lambda value: Root.model_construct([value])),
        inner.map(namedtuple("Old", "value")),  # noqa: PYI024 - hosts have them
    )


# Objects that fight back --------------------------------------------------------------------------

_RAISED = (
    ValueError,
    SystemExit,
    RecursionError,
    GeneratorExit,
    MemoryError,
    KeyError,
    StopIteration,
    OSError,
)


class LoudText(str):
    """A text whose methods cannot be trusted."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        raise ValueError(name)

    def __str__(self) -> str:
        raise ValueError

    __repr__ = __str__

    def __len__(self) -> int:
        return 10**9


def _raising(error: type[BaseException]) -> Callable[..., Any]:
    def raise_it(*_: Any, **__: Any) -> Any:
        raise error("hostile")

    return raise_it


def _returning(value: Callable[[], Any]) -> Callable[..., Any]:
    return lambda *_, **__: value()


_reactions = st.sampled_from(
    [
        *map(_raising, _RAISED),
        *map(
            _returning,
            [
                lambda: None,
                lambda: -5,
                lambda: 10**30,
                lambda: "text",
                lambda: b"\xff",
                lambda: math.nan,
                lambda: LoudText("loud"),
                lambda: iter([1, 2, 3]),
                lambda: zip(count(), repeat("for ever"), strict=False),
                lambda: [("key", "value")],
                lambda: {"a": 1},
                dict,
                object,
            ],
        ),
        lambda self=None, *_, **__: self,
    ]
)
_METHODS = (
    "__repr__", "__str__", "__iter__", "__len__", "__getitem__", "__getattr__", "__getattribute__",
    "__bool__",
    "__int__", "__float__", "__index__", "__round__", "__format__", "__contains__", "__bytes__", "__fspath__",
    "__gt__", "__lt__", "__eq__", "__ge__", "__length_hint__", "__reduce__", "__call__", "__sub__",
    "keys", "items", "get", "value", "isoformat", "_asdict", "model_dump", "tolist", "nbytes", "bit_length",
    "decode", "encode", "isprintable", "replace", "update", "__notes__", "args", "__cause__", "__traceback__",
    "__dataclass_fields__", "__struct_fields__",
)  # fmt: skip
_PROPERTIES = ("__class__", "__dict__", "value", "nbytes", "model_dump", "tolist", "__notes__", "__doc__")


class _Mapping(Mapping[Any, Any]):
    def __getitem__(self, key: Any) -> Any:
        return key

    def __iter__(self) -> Iterator[Any]:
        return iter("ab")

    def __len__(self) -> int:
        return 2


class _Sequence(Sequence[Any]):
    def __getitem__(self, index: Any) -> Any:
        return index  # without an end

    def __len__(self) -> int:
        return 2


_BASES: Mapping[type, tuple[Any, ...]] = {
    object: (),
    dict: ({"a": 1},),
    OrderedDict: ({"a": 1},),
    list: ([1, 2],),
    tuple: ((1, 2),),
    set: ((1, 2),),
    str: ("text",),
    int: (5,),
    float: (1.5,),
    bytes: (b"bytes",),
    bytearray: (b"bytes",),
    ValueError: ("wrong",),
    BaseException: ("wrong",),
    SyntaxError: ("wrong", ("file", 1, 1, "text")),
    datetime: (2026, 11, 22),
    date: (2026, 11, 22),
    time: (2, 13),
    timedelta: (1,),
    Decimal: ("1.5",),
    UUID: ("01a20117-31cc-73ef-8418-33b9cd31207a",),
    UserString: ("text",),
    UserDict: ({"a": 1},),
    _Mapping: (),
    _Sequence: (),
    Pair: (1, 2),
    Point: (1,),
    Struct: (1,),
}


class ShyType(type):
    """A metaclass whose classes do not tell their names."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise ValueError("no name")

    def __repr__(cls) -> str:
        raise SystemExit


class Shy(metaclass=ShyType):
    """An object whose type does not tell its name."""

    def __repr__(self) -> str:
        raise ValueError


def _hostile(base: type, methods: dict[str, Any], properties: dict[str, Any]) -> Any:
    namespace = {**methods, **{name: property(reaction) for name, reaction in properties.items()}}
    try:
        made = type(base)("Hostile" * 100, (base,), namespace)(*_BASES[base])
    except BaseException as error:  # noqa: BLE001 - so hostile that it cannot be made
        return error
    return made


hostile_objects = st.one_of(
    st.builds(
        _hostile,
        st.sampled_from(list(_BASES)),
        st.dictionaries(st.sampled_from(_METHODS), _reactions, min_size=1, max_size=3),
        st.dictionaries(st.sampled_from(_PROPERTIES), _reactions, max_size=1),
    ),
    st.sampled_from([lambda: Shy(), lambda: LoudText("loud")]).map(lambda make: make()),  # noqa: PLW0108
    st.builds(cycle),
    st.builds(laughs),
    st.builds(nested, st.sampled_from([20, 33, 100, 5000])),
    st.builds(nested, st.sampled_from([20, 33, 100, 5000]), st.just(lambda inner: {"a": inner})),
    st.builds(nested, st.sampled_from([20, 33, 100]), st.just(Point)),
    st.builds(nested, st.sampled_from([20, 33, 100]), st.just(lambda inner: raised(ValueError(inner)))),
)

anything = st.recursive(scalars | hostile_objects, _containers, max_leaves=12)
details = st.dictionaries(keys, anything, max_size=6) | anything
