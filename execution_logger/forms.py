"""The forms that show what a value holds: a text, a simpler value, or the parts of a container."""

import dataclasses
from collections import UserString
from collections.abc import Iterable, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

from execution_logger.sensitive import MASK

_TEXTUAL = (int, float, timedelta, Decimal, UUID, PurePath, UserString, type(None))
_TEXTS = (str, bytes, bytearray, memoryview, UserString)
_SEQUENCES = (AbstractSet, Sequence, ValuesView)
_CONVERSIONS = ("model_dump", "tolist")  # pydantic; NumPy and its kin


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

    An array of more than `max_bytes` stays what it is.
    """
    if isinstance(value, Enum):
        return value.value
    for name in _CONVERSIONS:
        # Asked of the type: a proxy of something remote has every attribute.
        if callable(getattr(type(value), name, None)) and not getattr(value, "nbytes", 0) > max_bytes:
            return getattr(value, name)()
    return value


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
    return None
