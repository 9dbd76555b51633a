"""Any value as text: exactly where that is possible, else by its repr, which is then marked."""

import base64
import codecs
import dataclasses
import importlib
import math
import traceback
from collections import UserString, deque
from collections.abc import Callable, Iterable, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from enum import Enum
from gc import get_referents
from itertools import islice
from pathlib import PurePath
from sys import getsizeof
from traceback import walk_tb
from types import FunctionType, SimpleNamespace, TracebackType
from typing import Any
from uuid import UUID

import msgspec

from execution_logger.entry.changes import Changes
from execution_logger.entry.masking import MASK, WINDOW_CHARS, SensitiveKeys, seen
from execution_logger.text import is_hostile, type_name, unreadable

_TEXTUAL = (int, float, timedelta, Decimal, UUID, PurePath, UserString, type(None))
_TEXTS = (str, bytes, bytearray, memoryview, UserString)
_SEQUENCES = (AbstractSet, Sequence, ValuesView)
_SIZED = frozenset({str, bytes, bytearray})
_CONTAINERS = frozenset({dict, list, tuple, set, frozenset, deque})
_ITEM_CHARS = 8
"""What an item weighs beside what it holds: each one costs time."""


def exact_text(value: Any) -> str | None:
    """The text that says all about a value; None when there is no such text."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Enum):
        return exact_text(value.value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return str(value) if isinstance(value, _TEXTUAL) else None


def simplified(value: Any, max_bytes: int) -> Any:
    """What an enum's member, a split URL, a pydantic model or a NumPy value stands for; any other as it is.

    An array of more than `max_bytes`, or of an unknown size, and a model that holds more stay what they are.
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple) and _has(value, "geturl"):  # its "netloc" alone would show a login
        return value._make(part[: max_bytes + WINDOW_CHARS] for part in value).geturl()  # type: ignore[attr-defined]
    # Asked of the type: a proxy of something remote has every attribute.
    if _has(value, "model_dump") and is_light(value, max_bytes):  # pydantic
        return value.model_dump()
    if _has(value, "tolist") and getattr(value, "nbytes", math.inf) <= max_bytes:  # NumPy and its kin
        return value.tolist()
    return value


def is_light(value: Any, most: int) -> bool:
    """Whether the built-in containers and texts that make up a value hold no more than `most` characters.

    Looks at no more than that. What other objects hold is not asked: their own code may not be run for it.
    """
    waiting = [value]
    while waiting and most >= 0:
        part = waiting.pop()
        kind = type(part)
        most -= _ITEM_CHARS
        if kind in _SIZED:
            most -= len(part)
        elif kind is int:
            most -= part.bit_length() // 4
        elif kind in _CONTAINERS:
            if (most := most - len(part)) >= 0:
                waiting += part
                waiting += part.values() if kind is dict else ()
        elif issubclass(kind, BaseException):
            waiting += (part.args, part.__cause__, part.__context__, getattr(part, "exceptions", ()))
            waiting.append(part.__dict__.get("__notes__"))
            most -= _ITEM_CHARS * sum(1 for _ in islice(walk_tb(part.__traceback__), max(most, 0)))
        elif _has(part, "model_dump") or dataclasses.is_dataclass(part):
            waiting.append(getattr(part, "__dict__", None))
    return most >= 0


def parts_of(value: Any) -> Mapping[Any, Any] | Iterable[Any] | None:
    """What a container holds: a mapping or a sequence; None when the value is no container."""
    if isinstance(value, Mapping):
        return value
    if callable(as_dict := getattr(type(value), "_asdict", None)):  # a named tuple
        return as_dict(value)  # type: ignore[no-any-return]
    if isinstance(value, _SEQUENCES):
        return None if isinstance(value, _TEXTS) else value
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        # What its author keeps out of the repr is kept out of the log.
        fields = dataclasses.fields(value)
        return {field.name: getattr(value, field.name, None) if field.repr else MASK for field in fields}
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name, None) for name in type(value).__struct_fields__}
    return _fields_of(value, type(value))


def _fields_of(value: Any, kind: Any) -> dict[str, Any] | None:
    """What a namespace, an attrs object, or a pydantic model that is too large to be dumped holds."""
    if kind is SimpleNamespace:
        return dict(vars(value))
    if isinstance(attributes := getattr(kind, "__attrs_attrs__", None), tuple):
        return {each.name: getattr(value, each.name, None) if each.repr else MASK for each in attributes}
    if not isinstance(fields := getattr(kind, "__pydantic_fields__", None), dict):
        return None
    serializers = kind.__pydantic_decorators__
    # What serializers of its author would hide cannot be told without running them on all of it.
    hidden = {name for each in serializers.field_serializers.values() for name in each.info.fields}
    is_hidden = bool(serializers.model_serializers) or "*" in hidden
    return {
        name: MASK
        if is_hidden or name in hidden or field.exclude or field.metadata
        else getattr(value, name, None)
        for name, field in fields.items()
    }


def _has(value: Any, method: str) -> bool:
    return callable(getattr(type(value), method, None))


with suppress(ImportError):  # Python 3.13 has it, and would import it for a traceback, in a call
    importlib.import_module("_suggestions")

BYTES = (bytes, bytearray, memoryview)

_MAX_REPR_CHARS = 2000
_MAX_TRACEBACK_CHARS = 16_000
_MAX_DECIMAL_BYTES = 4096
_MAX_DIGITS = 2000
_MAX_HELD_CHARS = 32_000
_LAST_FRAMES = 50
_MOST_ARGUMENTS = 10
_SEEN_CHARS = 65_536
"""So much of the end of a traceback is looked at for secrets; more than is ever kept."""


class Renderer:
    """Renders values, masks what their texts show of secrets, and marks what is not exact.

    Args:
        keys: tells which keys are masked.
        changes: where what could not be kept is marked.
        max_bytes: how much of binary data is worth rendering.
    """

    def __init__(self, keys: SensitiveKeys, changes: Changes, max_bytes: int) -> None:
        self._keys = keys
        self._changes = changes
        self._max_bytes = max_bytes

    def text(self, value: Any, most: int) -> str:
        """The text of a value that is no container. It may hold what no database stores.

        Of what has an exact text, little more than the first `most` characters are read.
        """
        if type(value) is str:
            return value
        return self._called(lambda value: self._written(value, max(most, 0) + 1), value)

    def exception(self, error: BaseException) -> dict[str, str]:
        """The parts of an exception; of a long traceback the end, which tells what happened."""
        most = min(_MAX_TRACEBACK_CHARS, self._max_bytes // 4)
        if is_light(error, max(self._max_bytes, _SEEN_CHARS)):
            message = self._masked(self._called(str, error), self._max_bytes)
            trace = self._called(_traceback, error)
        else:
            self._changes.mark("holds too much to be shown whole")
            message = self._masked(_light_text(error), self._max_bytes)
            trace = f"{_last_frames(error)}{type_name(error)}: {message[:_MAX_REPR_CHARS]}\n"
        return {"type": type_name(error), "message": message, "traceback": self._end(trace, most)}

    def _end(self, text: str, most: int) -> str:
        """The end of a traceback: masked, from the beginning of a line on, before it is cut."""
        if len(text) <= most:
            return self._keys.masked(text)
        self._changes.mark(f"traceback cut from {len(text)} characters to its last {most}")
        window = text if len(text) <= _SEEN_CHARS else text[-_SEEN_CHARS:].partition("\n")[2]
        return self._keys.masked(window)[-most:]

    def _masked(self, text: str, most: int) -> str:
        """A text of an object, cut before it is masked where no secret is cut in two."""
        if len(text) <= most:
            return self._keys.masked(text)
        self._changes.mark(f"cut from {len(text)} characters to {most}")
        return self._keys.masked(seen(text, most))[:most]

    def unreadable(self, value: object, error: BaseException) -> str:
        """What stands for a value that raised this error when it was read."""
        self._changes.mark(f"could not be read: {type_name(error)}")
        return unreadable(value)

    def _called(self, how: Callable[[Any], str], value: Any) -> str:
        try:
            return str.__str__(how(value))  # what is no text raises; a subclass may hide what it holds
        except BaseException as error:
            if not is_hostile(error):
                raise
            return self.unreadable(value, error)

    def _written(self, value: Any, most: int) -> str:
        if isinstance(value, BYTES):
            return self._decoded(memoryview(value), most + WINDOW_CHARS)
        if isinstance(value, str):
            return self._begun(value, most + WINDOW_CHARS)
        if isinstance(value, Decimal) and getsizeof(value) > _MAX_DECIMAL_BYTES:
            self._changes.mark(f"was a Decimal of many digits; rounded to {_MAX_DIGITS}")
            return str(Context(prec=_MAX_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN).plus(value))
        text = exact_text(value)
        return self._repr(value) if text is None else text

    def _begun(self, value: str, most: int) -> str:
        if (length := str.__len__(value)) <= most:
            return str.__str__(value)
        self._changes.mark(f"was a text of {length} characters")
        return str.__getitem__(value, slice(most))

    def _decoded(self, view: memoryview, most: int) -> str:
        size = view.nbytes
        value = _first_bytes(view, most)
        if size > len(value):
            self._changes.mark(f"was {size} bytes, of which the first {len(value)} were read")
        try:
            # A character that was cut in two is left out.
            return codecs.utf_8_decode(value, "strict", size <= len(value))[0]
        except UnicodeDecodeError:
            self._changes.mark(f"was {size} bytes that are no UTF-8; this is their base64")
            return base64.b64encode(value[: self._max_bytes]).decode()

    def _repr(self, value: object) -> str:
        if _is_written_in_c(value) and not is_light(get_referents(value), _MAX_HELD_CHARS):
            self._changes.mark("holds too much for its repr")
            return f"<{type_name(value)}>"
        text = str.__str__(repr(value))
        self._changes.mark(f"was a {type_name(value)}; this is its repr")
        return self._masked(text, _MAX_REPR_CHARS)


def _is_written_in_c(value: object) -> bool:
    """Whether the repr is one of Python's own, which may show all that the object holds."""
    return not isinstance(how := type(value).__repr__, FunctionType) and how is not object.__repr__


def _first_bytes(view: memoryview, most: int) -> bytes:
    if view.nbytes > most and view.c_contiguous:
        view = view.cast("B")[:most]
    elif view.nbytes > most:
        view = view[: most * len(view) // view.nbytes]
    return view.tobytes()


def _light_text(error: BaseException) -> str:
    """What an exception says that holds too much: its texts, and the types of what else is in it."""
    return ", ".join(
        part[:_MAX_TRACEBACK_CHARS] if type(part) is str else f"<{type_name(part)}>"
        for part in error.args[:9]
    )


def _last_frames(error: BaseException) -> str:
    last: deque[TracebackType] = deque(maxlen=_LAST_FRAMES)
    trace = error.__traceback__
    while trace is not None:
        last.append(trace)
        trace = trace.tb_next
    lines = ["Traceback (last calls):\n", *traceback.format_tb(last[0])] if last else []
    return "".join(line[:_MAX_REPR_CHARS] for line in lines)


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
