"""Anything a caller passes, made into JSON that every database stores, within a number of bytes.

What has an exact text or JSON form is converted silently (datetime, UUID, Decimal, tuple, dataclass).
What could not be kept as it was is said in `details["_changed"]`, by the name of its place.
"""

import base64
import dataclasses
import math
import traceback
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

from execution_logger.entry import MAX_IDENTIFIER_CHARS
from execution_logger.sensitive import MASK, SensitiveKeys, Verdict

CHANGED = "_changed"
"""The key in `details` under which an entry says what was changed to make it storable."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MAX_DEPTH = 32
_MAX_CHANGES = 20
_MAX_REPR_CHARS = 2000
_MAX_TRACEBACK_CHARS = 16_000
_MAX_INT_BITS = 1024
_TEXTUAL = (datetime, date, time, timedelta, Decimal, UUID, PurePath)

# What user code can raise inside __repr__, __iter__ or a property. KeyboardInterrupt is the user's own.
_HOSTILE = (Exception, SystemExit, GeneratorExit)

_encode_text = msgspec.json.Encoder().encode


class Sanitizer:
    """Makes the parts of one entry safe, in any order, and remembers what it had to change.

    Args:
        keys: tells which keys are masked.
        max_bytes: bound on the JSON of the whole entry. A quarter is for the message, an eighth for the
            identifiers and the marks, the rest for `details`.
    """

    def __init__(self, keys: SensitiveKeys, max_bytes: int) -> None:
        self._keys = keys
        self._message_bytes = max_bytes // 4
        self._identifier_bytes = max_bytes // 64
        self._bytes_left = max_bytes // 2
        self._ancestors: set[int] = set()
        self._changes: dict[str, str] = {}

    def identifier(self, value: object, name: str) -> str | None:
        """A short text, or None for None."""
        if value is None:
            return None
        text = self._clean(self._text_of(value, name), name)
        return self._cut(text, name, self._identifier_bytes, MAX_IDENTIFIER_CHARS)

    def message(self, value: object) -> str:
        """A text of any language; "" for None."""
        if value is None:
            return ""
        text = self._text_of(value, "message")
        return self._cut(self._clean(text, "message"), "message", self._message_bytes)

    def integer(self, value: Any, name: str, maximum: int) -> int | None:
        """A whole number from 0 to `maximum`; None, with the original marked, for anything else."""
        if value is None:
            return None
        try:
            number = round(float(value))
        except _HOSTILE:
            number = -1
        if 0 <= number <= maximum:
            return number
        self._mark(name, f"was {self._repr(value, 100)}, not a number from 0 to {maximum}")
        return None

    def details(self, value: object) -> dict[str, Any] | None:
        """The copy of `details`, with the marks of the whole entry: call it last."""
        safe = None if value is None else self._value(value, "details", 0, numbers_only=False)
        details = safe if isinstance(safe, dict) or safe is None else {"value": safe}
        if not self._changes:
            return details
        key = CHANGED
        while details and key in details:  # never over a key of the caller's
            key = f"_{key}"
        return {**(details or {}), key: self._changes}

    # One value -----------------------------------------------------------------------------

    def _value(self, value: Any, path: str, depth: int, *, numbers_only: bool) -> Any:
        try:
            if value is None or isinstance(value, bool):
                return value if value is None else bool(value)
            if isinstance(value, (int, float)) and not isinstance(value, Enum):
                return self._number(value, path)
            if isinstance(value, Enum):
                return self._value(value.value, path, depth + 1, numbers_only=numbers_only)
            if (parts := self._parts(value)) is not None:
                return self._nested(value, parts, path, depth, numbers_only=numbers_only)
            return MASK if numbers_only else self._spend(self._text_of(value, path), path)
        except _HOSTILE as error:
            self._mark(path, f"could not be read: {type(error).__name__}")
            return f"<unreadable {type(value).__name__}>"

    def _number(self, value: float, path: str) -> int | float | str:
        if isinstance(value, float):
            if math.isfinite(value):
                self._bytes_left -= 24
                return float(value)
            self._mark(path, "is not a number that JSON has")
            return repr(float(value))
        if value.bit_length() > _MAX_INT_BITS:
            self._mark(path, f"was a whole number of {value.bit_length()} bits")
            return hex(value)[:_MAX_REPR_CHARS]
        self._bytes_left -= value.bit_length() // 3 + 2
        return int(value)

    def _parts(self, value: Any) -> Mapping[Any, Any] | Iterable[Any] | None:
        """What a container holds: a mapping or a sequence; None when the value is no container."""
        if isinstance(value, Mapping):
            return value
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            return dict(value._asdict())
        if isinstance(value, (AbstractSet, Sequence)) and not isinstance(
            value, (str, bytes, bytearray, memoryview)
        ):
            return value
        if isinstance(value, BaseException):
            return _exception_parts(value)
        if isinstance(value, type):
            return None
        if dataclasses.is_dataclass(value):
            return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        if isinstance(value, msgspec.Struct):
            return {name: getattr(value, name) for name in value.__struct_fields__}
        if callable(dump := getattr(value, "model_dump", None)):  # pydantic
            return dict(dump())
        if callable(listed := getattr(value, "tolist", None)):  # NumPy and its kin
            return [listed()]
        return None

    def _nested(
        self,
        value: object,
        parts: Mapping[Any, Any] | Iterable[Any],
        path: str,
        depth: int,
        *,
        numbers_only: bool,
    ) -> Any:
        if id(value) in self._ancestors:
            self._mark(path, "holds itself")
            return "<cycle>"
        if depth >= MAX_DEPTH:
            self._mark(path, f"is nested deeper than {MAX_DEPTH}")
            return f"<{type(value).__name__}>"
        self._ancestors.add(id(value))
        try:
            if isinstance(parts, Mapping):
                return self._mapping(parts, path, depth, numbers_only=numbers_only)
            return self._sequence(parts, path, depth, numbers_only=numbers_only)
        finally:
            self._ancestors.discard(id(value))

    def _mapping(
        self, parts: Mapping[Any, Any], path: str, depth: int, *, numbers_only: bool
    ) -> dict[str, Any]:
        safe: dict[str, Any] = {}
        # A list first: another thread may be changing the dict while we read it.
        for key, value in list(parts.items()):
            name = self._key(key, path, safe)
            place = f"{path}.{name}" if path != "details" else name
            if self._bytes_left <= 0:
                self._mark(path, f"cut after {len(safe)} of {len(parts)} keys")
                break
            verdict = self._keys[name]
            if verdict is Verdict.MASK or (numbers_only and verdict):
                safe[name] = MASK if value is not None else None
            else:
                only = numbers_only or verdict is Verdict.NUMBERS_ONLY
                safe[name] = self._value(value, place, depth + 1, numbers_only=only)
        return safe

    def _sequence(self, parts: Iterable[Any], path: str, depth: int, *, numbers_only: bool) -> list[Any]:
        items = list(parts)
        safe: list[Any] = []
        for position, item in enumerate(items):
            if self._bytes_left <= 0:
                self._mark(path, f"cut after {position} of {len(items)} items")
                break
            self._bytes_left -= 1
            safe.append(self._value(item, f"{path}[{position}]", depth + 1, numbers_only=numbers_only))
        return safe

    def _key(self, key: object, path: str, taken: Mapping[str, Any]) -> str:
        name = self._clean(key if type(key) is str else self._text_of(key, path), f"a key of {path}")
        name = self._cut(name, f"a key of {path}", max(self._bytes_left, 16), MAX_IDENTIFIER_CHARS)
        while name in taken:  # 1 and "1" are two keys to Python and one to JSON
            name = f"{name}'"
        self._bytes_left -= len(_encode_text(name)) + 2
        return name

    # Texts ---------------------------------------------------------------------------------

    def _text_of(self, value: Any, path: str) -> str:
        """The text of a value that is no container: exact where there is one, else its repr."""
        try:
            if isinstance(value, Enum):
                return self._text_of(value.value, path)
            if isinstance(value, str):
                return str.__str__(value)
            if isinstance(value, (bytes, bytearray, memoryview)):
                return self._bytes(bytes(value), path)
            if isinstance(value, (datetime, date, time)):
                return value.isoformat()
            if isinstance(value, (*_TEXTUAL, int, float)):
                return str(value)
            if isinstance(value, tuple):
                return ", ".join(self._text_of(part, path) for part in value)
        except _HOSTILE as error:
            self._mark(path, f"could not be read: {type(error).__name__}")
            return f"<unreadable {type(value).__name__}>"
        return self._repr(value, _MAX_REPR_CHARS)

    def _bytes(self, value: bytes, path: str) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            self._mark(path, f"was {len(value)} bytes that are no UTF-8; this is their base64")
            return base64.b64encode(value[: self._bytes_left]).decode()

    def _repr(self, value: object, max_chars: int) -> str:
        try:
            text = repr(value)
            return self._clean(text[:max_chars], "") if isinstance(text, str) else ""
        except _HOSTILE as error:
            return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"

    def _clean(self, text: str, path: str) -> str:
        """The text without NUL and lone surrogates, which PostgreSQL and UTF-8 cannot hold."""
        if not text.isprintable() and "\0" in text:
            self._mark(path, f"{text.count(chr(0))} NUL characters replaced")
            text = text.replace("\0", REPLACEMENT)
        try:
            text.encode()
        except UnicodeEncodeError:
            # By way of UTF-16, so that two halves that stand together become their character.
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            self._mark(path, "lone surrogates replaced")
        return text

    def _cut(self, text: str, path: str, max_bytes: int, max_chars: int | None = None) -> str:
        """The text, or its beginning and how long it was, in at most `max_bytes` of JSON."""
        chars = len(text)
        kept = text[: min(max_bytes, max_chars or max_bytes)]
        while (size := len(_encode_text(kept))) > max_bytes:
            kept = kept[: min(len(kept) - 1, len(kept) * max_bytes // size)]
        if len(kept) < chars:
            self._mark(path, f"cut from {chars} characters to {len(kept)}")
        return kept

    def _spend(self, text: str, path: str) -> str:
        kept = self._cut(self._clean(text, path), path, max(self._bytes_left, 64))
        self._bytes_left -= len(_encode_text(kept)) + 1
        return kept

    def _mark(self, path: str, what: str) -> None:
        if path and len(self._changes) < _MAX_CHANGES:
            name = path[-100:].encode(errors="replace").decode()
            earlier = self._changes.get(name)
            self._changes[name] = f"{earlier}; {what}" if earlier and what not in earlier else what


def _exception_parts(error: BaseException) -> dict[str, Any]:
    lines = traceback.format_exception(error)
    return {
        "type": type(error).__qualname__,
        "message": str(error),
        "traceback": "".join(lines)[-_MAX_TRACEBACK_CHARS:],
    }
