"""The forms that show what a value holds: a text, a simpler value, or the parts of a container."""

import dataclasses
import math
from collections import UserString, deque
from collections.abc import Iterable, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import PurePath
from traceback import walk_tb
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec

from execution_logger.entry.masking import MASK

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
    """What an enum's member, a pydantic model or a NumPy value stands for; any other value as it is.

    An array of more than `max_bytes`, or of an unknown size, and a model that holds more stay what they are.
    """
    if isinstance(value, Enum):
        return value.value
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
