"""Anything a caller may pass: plain data, data of other types, and objects that fight back."""

import dataclasses
import enum
import math
import os
import sys
from collections import OrderedDict, UserDict, UserString, deque, namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import count, repeat
from pathlib import PurePosixPath
from random import Random
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pydantic
from hypothesis import settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "20"))
"""Of a property test; one that needs more to meet the rare cases takes a multiple."""

# For all property tests. No deadline: a machine that is busy with other things is no reason to fail.
settings.register_profile("unit", deadline=None, print_blob=True, max_examples=EXAMPLES)
settings.load_profile("unit")

# Plain data: what JSON has, and every database stores -------------------------------------------

plain_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
plain_numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
plain_values = st.recursive(
    st.none() | st.booleans() | plain_numbers | plain_texts,
    lambda inner: st.lists(inner) | st.dictionaries(plain_texts, inner),
    max_leaves=8,
)
plain_details = st.dictionaries(plain_texts, plain_values)

# Other data -------------------------------------------------------------------------------------

ODD_TEXTS = (
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
)
ODD_NUMBERS = (
    math.nan,
    math.inf,
    -math.inf,
    -0.0,
    5e-324,
    -1,
    2**31,
    2**63,
    2**64,
    2**1024,
    2**100_000,
    -(2**100_000),
)


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


Old = namedtuple("Old", "value")  # noqa: PYI024 - hosts have them


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


def laughs(levels: int) -> list[Any]:
    """Few lists that hold one another often: 10 ** levels items to whom follows them all."""
    value: list[Any] = ["ha"] * 10
    for _ in range(levels):
        value = [value] * 10
    return value


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


_endless = _returning(lambda: zip(count(), repeat("for ever"), strict=False))
# Python's own repr of these reads that method to its end. One without an end takes all memory there is, and
# nothing in a process can protect it from a repr that does not return.
_READ_BY_REPR = {(OrderedDict, "items"), (set, "__iter__")}
_REACTIONS = (
    _endless,
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
            lambda: [("key", "value")],
            lambda: {"a": 1},
            dict,
            object,
        ],
    ),
    lambda self=None, *_, **__: self,
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

    __name__ = None  # type: ignore[assignment]

    def __repr__(cls) -> str:
        raise ValueError


class Shy(metaclass=ShyType):
    """An object whose type does not tell its name."""

    def __repr__(self) -> str:
        raise ValueError


class Anything:
    """Makes values at random; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def value(self, depth: int = 3) -> Any:
        """Anything at all."""
        if depth and self._random.random() < 0.5:
            return self._container(depth - 1)
        return self._pick([self._scalar, self._scalar, self._hostile])()

    def details(self) -> Any:
        """Anything, mostly a dict."""
        if self._random.random() < 0.3:
            return self.value()
        return {self._key(): self.value() for _ in range(self._random.randrange(5))}

    def text(self) -> str:
        """A text, with what texts may hold."""
        if self._random.random() < 0.5:
            return str(self._pick(ODD_TEXTS))
        limit = self._pick([128, 0x3000, sys.maxunicode + 1])
        return "".join(chr(self._random.randrange(limit)) for _ in range(self._random.randrange(20)))

    def _pick(self, options: Sequence[Any]) -> Any:
        return self._random.choice(options)

    def _scalar(self) -> Any:
        return self._pick([self._plain_scalar, self.text, lambda: self._pick(ODD_NUMBERS), self._object])()

    def _plain_scalar(self) -> Any:
        number = self._random.randint(-(10**9), 10**9)
        return self._pick([None, True, False, number, number / 7, "text"])

    def _object(self) -> Any:
        number = self._random.randrange(10**6)
        view = memoryview(self._random.randbytes(9))[::2]  # with gaps
        return self._pick(
            [
                *Colour, *Number, *Word, Colour, int, len, ..., NotImplemented, complex(1, number),
                datetime.fromtimestamp(number, self._pick([None, UTC])), date(1, 1, 1), time(1),
                timedelta(number),
                Decimal(number) / 7, Decimal("NaN"), UUID(int=number), view, bytes(view), bytearray(b"text"),
                PurePosixPath("caf\udce9"), UserString(self.text()), range(3), range(10**12),
                PlainRepr(number),
                MappingProxyType({"a": 1}), SimpleNamespace(a=1), (item for item in "ab"), iter([1]),
            ]
        )  # fmt: skip

    def _key(self) -> Any:
        key = self._pick(
            [self.text, self._scalar, lambda: (self.text(), 1), lambda: Pair(self.text(), None)]
        )()
        try:
            hash(key)
        except (TypeError, ValueError):
            return "key"
        return key

    def _container(self, depth: int) -> Any:
        items = [self.value(depth) for _ in range(self._random.randrange(4))]
        pairs = {self._key(): self.value(depth) for _ in range(self._random.randrange(4))}
        item = self.value(depth)
        makers: list[Callable[[], Any]] = [
            lambda: items,
            lambda: pairs,
            lambda: tuple(items),
            lambda: deque(items),
            lambda: iter(items),
            lambda: raised(ValueError(*items)),
            lambda: raised(RuntimeError(item), raised(KeyError("cause"))),
            lambda: ExceptionGroup("several", [ValueError(*items)]),
            lambda: OrderedDict(pairs),
            lambda: UserDict(pairs),
            lambda: MappingProxyType(pairs),
            pairs.items,
            pairs.values,
            pairs.keys,
            lambda: frozenset(pairs),
            lambda: Point(item, items),
            lambda: Struct(item),
            lambda: Model.model_construct(x=item),
            lambda: Root.model_construct(items),
            lambda: Pair(item, pairs),
            lambda: Old(item),
            lambda: PlainRepr(item),
            lambda: ArrayLike(items),
        ]
        return self._pick(makers)()

    def _hostile(self) -> Any:
        return self._pick([self._fighting, self._fighting, self._fighting, self._nested])()

    def _fighting(self) -> Any:
        base = self._pick([*_BASES, None, None])
        if base is None:
            return self._pick([Shy, LoudText])()
        namespace: dict[str, Any] = {}
        for _ in range(self._random.randint(1, 3)):
            reaction = self._pick(_REACTIONS)
            name = self._pick([*_METHODS, *_PROPERTIES])
            if reaction is _endless and (base, name) in _READ_BY_REPR:
                continue
            namespace[name] = property(reaction) if name in _PROPERTIES else reaction
        try:
            return type(base)("Hostile" * 100, (base,), namespace)(*_BASES[base])
        except BaseException as error:  # noqa: BLE001 - so hostile that it cannot be made
            return error

    def _nested(self) -> Any:
        wraps = [
            lambda inner: [inner],
            lambda inner: {"a": inner},
            Point,
            lambda inner: raised(ValueError(inner)),
        ]
        depth = self._pick([20, 33, 100])
        return self._pick(
            [cycle, lambda: laughs(3), lambda: nested(depth, self._pick(wraps)), lambda: nested(5000)]
        )()
