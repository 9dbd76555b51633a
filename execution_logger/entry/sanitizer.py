"""Anything a caller passes, made into JSON that every database stores, within a number of bytes.

What has an exact text or JSON form is converted silently (datetime, UUID, Decimal, tuple, dataclass).
What could not be kept as it was is said in `details["_changed"]`, by the name of its place.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

import msgspec

from execution_logger.entry.changes import CHANGED, Changes
from execution_logger.entry.entry import (
    IDENTIFIERS,
    MAX_DURATION_MS,
    MAX_IDENTIFIER_CHARS,
    REQUIRED,
    TREE,
    LogEntry,
)
from execution_logger.entry.masking import MASK, SensitiveKeys, Verdict
from execution_logger.entry.renderer import BYTES, Renderer, parts_of, simplified
from execution_logger.levels import known_level
from execution_logger.text import fitted, is_hostile, json_size, storable, type_name

MAX_DEPTH = 32
_MAX_INT_BITS = 1024
_MAX_HEX_CHARS = 2000
_MAX_FLOAT_BYTES = 25
_MAX_NUMBER_CHARS = 100
_MAX_CHANGES_BYTES = 4096

_ROOM_BYTES = 32
"""A value is read only where there is this room: enough for [masked], and for a text cut to it."""

_TEXTS = (str, *BYTES)
_RENDERED = (*_TEXTS, BaseException)

_encode = msgspec.json.Encoder().encode

# The JSON of an entry whose texts are all empty.
_FRAME_BYTES = len(
    _encode(
        LogEntry(
            "-" * 36, datetime(1, 1, 1, 0, 0, 0, 1, UTC), "", "", "", "", "", "", "", "",
            {CHANGED: {}, "value": ""}, MAX_DURATION_MS,
        )
    )
)  # fmt: skip


def _tree_bytes(entry: LogEntry) -> int:
    """What the ids take in the JSON, which nobody cuts."""
    ids = {name: getattr(entry, name) for name in TREE}
    return sum(len(f'"{name}":"{id_}",') for name, id_ in ids.items() if id_ is not None)


class Sanitizer:
    """Makes one entry safe, and remembers what it had to change.

    Every byte is counted before it is kept, so that the work is bounded as the result is.

    Args:
        keys: tells which keys are masked.
        max_bytes: bound on the JSON of the whole entry. Each identifier may use a sixteenth; message
            and details share what is left, each using what the other leaves, and half of it at least.
    """

    def __init__(self, keys: SensitiveKeys, max_bytes: int) -> None:
        self._keys = keys
        self._changes = Changes()
        self._renderer = Renderer(keys, self._changes, max_bytes)
        self._identifier_bytes = max_bytes // 16
        self._changes_bytes = min(max_bytes // 8, _MAX_CHANGES_BYTES)
        self._bytes_left = max_bytes - _FRAME_BYTES - self._changes_bytes
        self._ancestors: set[int] = set()

    def made_safe(self, passed: LogEntry) -> LogEntry:
        """The entry whose fields hold what a caller passed, whatever their types are, as it is recorded."""
        self._bytes_left -= _tree_bytes(passed)
        at = self._changes.at
        identifiers = {name: at(name, self._identifier, name, getattr(passed, name)) for name in IDENTIFIERS}
        identifiers["level"] = known_level(identifiers["level"])
        duration_ms = at("duration_ms", self._duration, passed.duration_ms)
        message = at("message", self._required, passed.message, self._bytes_left)
        # What the message needs, or half of the room, is set aside while the details take theirs.
        size = json_size(storable(self._keys.beginning(message, self._bytes_left))[0]) + 1
        reserved = min(size, self._bytes_left // 2)
        self._bytes_left -= reserved
        details = self._details(passed.details)
        self._bytes_left = max(self._bytes_left, 0) + reserved
        message = at("message", self._spend, message)
        return msgspec.structs.replace(
            passed,
            **identifiers,
            duration_ms=duration_ms,
            message=message,
            details=self._with_changes(details),
        )

    def _identifier(self, name: str, value: object) -> str | None:
        if value is None and name not in REQUIRED:
            return None
        text = self._required(value, self._identifier_bytes)
        return self._spend(text, self._identifier_bytes, MAX_IDENTIFIER_CHARS)

    def _required(self, value: object, max_bytes: int) -> str:
        if value is None:
            self._changes.mark("was None")
            return ""
        return self._text(value, max_bytes)

    def _duration(self, value: Any) -> int | None:
        if value is None:
            return None
        try:
            kind = type(value)
            is_text = issubclass(kind, (str, bytes)) and len(value) <= _MAX_NUMBER_CHARS
            # A long text, or what else has a length, is no number, and would be read to its end.
            number = round(float(value)) if is_text or not hasattr(kind, "__len__") else -1
        except BaseException as error:
            if not is_hostile(error):
                raise
            number = -1
        if 0 <= number <= MAX_DURATION_MS:
            return number
        shown = self._keys.beginning(self._text(value, _MAX_NUMBER_CHARS), _MAX_NUMBER_CHARS)
        self._changes.mark(f"was {shown}, not a number from 0 to {MAX_DURATION_MS}")
        return None

    def _details(self, value: object) -> dict[str, Any] | None:
        safe = None if value is None else self._changes.at("details", self._value, value)
        return safe if safe is None or isinstance(safe, dict) else {"value": safe}

    def _with_changes(self, details: dict[str, Any] | None) -> dict[str, Any] | None:
        key = CHANGED
        while details and key in details:  # never over a key of the caller's
            key = f"_{key}"
        changes = self._changes.within(self._changes_bytes + max(self._bytes_left, 0) - len(key))
        return {**(details or {}), key: changes} if changes else details

    # One value: takes what it needs off the room ---------------------------------------------

    def _value(self, value: Any, verdict: Verdict = Verdict.KEEP) -> Any:
        try:
            return self._read(value, verdict)
        except BaseException as error:
            if not is_hostile(error):
                raise
            return self._spend(self._renderer.unreadable(value, error))

    def _read(self, value: Any, verdict: Verdict) -> Any:
        if value is None or value is True or value is False:
            self._bytes_left -= len("false,")
            return value
        if isinstance(value, float):
            return self._float(float.__float__(value))
        if isinstance(value, int):
            return self._int(int.__int__(value))
        if not isinstance(value, _TEXTS):
            if isinstance(value, BaseException):
                return self._nested(value, self._renderer.exception(value), verdict)
            if (simple := simplified(value, self._bytes_left)) is not value:
                return self._value(simple, verdict)
            if (parts := parts_of(value)) is not None:
                return self._nested(value, parts, verdict)
        return self._spend(MASK if verdict else self._renderer.text(value, self._bytes_left))

    def _text(self, value: Any, max_bytes: int) -> str:
        """The text of anything, whole; that of a container is the JSON of what fits into `max_bytes`."""
        if issubclass(type(value), _RENDERED):
            return self._renderer.text(value, max_bytes)
        bytes_left, self._bytes_left = self._bytes_left, max_bytes
        safe = self._value(value)
        self._bytes_left = bytes_left
        return safe if isinstance(safe, str) else _encode(safe).decode()

    def _float(self, value: float) -> float | str:
        if math.isfinite(value):
            self._bytes_left -= _MAX_FLOAT_BYTES
            return value
        self._changes.mark("is not a number that JSON has")
        return self._spend(repr(value))

    def _int(self, value: int) -> int | str:
        bits = value.bit_length()
        if bits <= _MAX_INT_BITS and (size := len(str(value)) + 1) <= self._bytes_left:
            self._bytes_left -= size
            return value
        self._changes.mark(f"was a whole number of {bits} bits")
        # Of a huge number only the first digits are written; each stands for four bits.
        surplus = max(0, bits // 4 - _MAX_HEX_CHARS) * 4
        text = hex(abs(value) >> surplus)
        return self._spend(f"{'-' if value < 0 else ''}{text}"[:_MAX_HEX_CHARS])

    def _spend(self, text: str, max_bytes: int | None = None, max_chars: int | None = None) -> str:
        """The text as far as there is room for it."""
        room = self._bytes_left - 1
        most = room if max_bytes is None or max_bytes > room else max_bytes
        chars = max(most if max_chars is None else min(most, max_chars), 0)
        length = len(text) if len(text) > chars else None
        kept, size, changes = fitted(self._keys.beginning(text, chars), most, max_chars, length)
        for change in changes:
            self._changes.mark(change)
        self._bytes_left -= size + 1
        return kept

    # Containers ------------------------------------------------------------------------------

    def _nested(
        self, value: object, parts: Mapping[Any, Any] | Iterable[Any], verdict: Verdict
    ) -> dict[str, Any] | list[Any] | str:
        if id(value) in self._ancestors:
            self._changes.mark("holds itself")
            return self._spend("<cycle>")
        if self._changes.depth > MAX_DEPTH:
            self._changes.mark(f"is nested deeper than {MAX_DEPTH}")
            return self._spend(f"<{type_name(value)}>")
        self._ancestors.add(id(value))
        self._bytes_left -= len("{},")
        try:
            if isinstance(parts, Mapping):
                return self._mapping(parts, verdict)
            return self._sequence(parts, verdict)
        finally:
            self._ancestors.discard(id(value))

    def _mapping(self, parts: Mapping[Any, Any], verdict: Verdict) -> dict[str, Any]:
        safe: dict[str, Any] = {}
        at = self._changes.at
        taken = self._taken(parts.items())
        for key, value in taken:
            text = key if type(key) is str else at(" (a key)", self._text, key, self._bytes_left)
            name = at(" (a key)", self._name, text, safe) if self._bytes_left >= _ROOM_BYTES else ""
            if self._bytes_left < _ROOM_BYTES:
                self._mark_cut(len(safe), parts)
                break
            below = self._keys.of(key, text, taken) or verdict
            if below is Verdict.MASK and value is not None:
                safe[name] = self._spend(MASK)
            else:
                safe[name] = at(f".{name}", self._value, value, below)
        return safe

    def _sequence(self, parts: Iterable[Any], verdict: Verdict) -> list[Any]:
        safe: list[Any] = []
        taken = self._taken(parts)
        # Headers are often pairs: of a lone list nobody knows whether it is one.
        named = self._keys.named(taken[0]) if len(taken) == 2 and self._is_pair(parts) else Verdict.KEEP  # noqa: PLR2004
        for item in taken:
            if self._bytes_left < _ROOM_BYTES:
                self._mark_cut(len(safe), parts)
                break
            below = verdict or (named if safe else Verdict.KEEP)
            if below is Verdict.MASK and named and item is not None:
                safe.append(self._spend(MASK))
            else:
                safe.append(self._changes.at(f"[{len(safe)}]", self._value, item, below))
        return safe

    def _is_pair(self, parts: object) -> bool:
        return isinstance(parts, tuple) or self._changes.is_at_item

    def _taken(self, parts: Iterable[Any]) -> list[Any]:
        """The parts, or more of them than there is room for: each takes two bytes at least."""
        taken: list[Any] = []
        try:
            # Another thread may be changing the container. `chain` begins to read it within `extend`, which
            # lets no other thread run before its end.
            taken.extend(islice(chain(parts), max(self._bytes_left, 0) // 2 + 1))
        except BaseException as error:
            if not is_hostile(error):
                raise
            self._changes.mark(f"could not be read to its end: {type_name(error)}")
        return taken

    def _name(self, text: str, taken: Mapping[str, Any]) -> str:
        name = self._spend(text, self._bytes_left // 2)
        if name in taken:  # 1 and "1" are two keys to Python and one to JSON
            self._changes.mark("was there already")
        while name in taken:
            name = f"{name}'"
            self._bytes_left -= 1
        return name

    def _mark_cut(self, kept: int, parts: Any) -> None:
        try:
            total = f" of {len(parts)}"
        except BaseException as error:
            if not is_hostile(error):
                raise
            total = ""
        self._changes.mark(f"cut after {kept}{total} items")
