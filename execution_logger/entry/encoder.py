"""From a call's arguments to an entry and its JSON: the one place where entries are encoded."""

from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta
from functools import partial
from math import isfinite
from typing import Any, NamedTuple

import msgspec
from uuid_utils import uuid7

from execution_logger.entry.entry import (
    MAX_DURATION_MS,
    MAX_IDENTIFIER_CHARS,
    NO_TREE,
    LogCategory,
    LogEntry,
    LogLevel,
    TreeIds,
)
from execution_logger.entry.masking import MASK, SensitiveKeys, Verdict
from execution_logger.entry.sanitizer import Sanitizer
from execution_logger.settings import Settings
from execution_logger.text import is_hostile

_BACKSLASH = ord("\\")
# Nearly all credentials have one of these, or a colon in the message; to search for more takes far longer.
# JSON is full of colons: of details that have nothing else the texts are not searched.
_SLASH, _EQUALS, _BEARER = map(ord, "/=B")
_MASKED = Verdict.MASK  # an enum's attribute costs more to look up than a module's name


_MOST_FORMS = 4_096
"""Places in a host's code; those that are made up while it runs must not fill the memory."""


class _Head(msgspec.Struct):
    """What an entry begins with, and no other has."""

    id: str
    created_at: datetime


class _Form(NamedTuple):
    """An entry's JSON without its head and its message, neither of which it has room for without end."""

    before: bytes
    after: bytes
    room: int


class _NotPlainError(Exception):
    """The data needs the thorough way."""


def _masked(value: Any, verdict: Verdict) -> Any:
    """What is kept of a value under a sensitive key."""
    if verdict is _MASKED:
        return MASK
    if type(value) is int or type(value) is bool:
        return value
    raise _NotPlainError


def _fitted(encoded: bytes) -> bytes:
    """The same without the room behind it, up to half of its size, in which msgspec has let it grow."""
    return bytes(memoryview(encoded))


_MICROSECOND = timedelta(microseconds=1)
_utc_now = partial(datetime.now, UTC)


def entry_clock(now: Callable[[], datetime] = _utc_now) -> Callable[[], datetime]:
    """Make a clock that gives every call its own microsecond, in the order of the calls.

    Rows are read back in the order of `created_at`. Two calls within one microsecond, or a wall
    clock that NTP sets back, would swap them: such a call gets the time of the one before plus
    one microsecond.

    Returns:
        Tells the time of the next entry: aware, UTC, later than the one told before. A function and
        no object, because calling it is a tenth of what making an entry takes.
    """
    last = now()

    def tell() -> datetime:
        # No lock: calls that race have no order to keep, and a lock would cost as much as the
        # rest, could be held at a fork, and could meet a signal handler that logs.
        nonlocal last
        moment = now()
        if moment <= last:
            moment = last + _MICROSECOND
        last = moment
        return moment

    return tell


class EntryEncoder:
    """Makes entries of whatever callers pass, and encodes each one on its own.

    Nearly every entry is plain: strings, numbers, small dicts and lists. For those, one copy of
    `details` and one encoding are all. Everything else takes the thorough way (`Sanitizer`).
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime] | None = None) -> None:
        self._clock = clock or entry_clock()
        self._keys = SensitiveKeys(settings.sensitive_keys)
        self._max_bytes = settings.max_entry_bytes
        self._encode = msgspec.json.Encoder().encode
        self._forms: dict[Hashable, _Form | None] = {}

    def make(
        self,
        task_id: Any,
        level: Any,
        category: Any,
        message: Any,
        step: Any = None,
        agent_name: Any = None,
        roadmap_id: Any = None,
        concept_id: Any = None,
        details: Any = None,
        duration_ms: Any = None,
        tree: TreeIds = NO_TREE,
    ) -> tuple[LogEntry, bytes]:
        """Return the entry and its JSON, at most `max_entry_bytes` that any database stores.

        Never raises because of its data, of whatever types they are. `tree` is none of its data: it is right.
        """
        identity = str(uuid7())
        created_at = self._clock()
        if (
            type(task_id) is str
            and (type(level) is str or type(level) is LogLevel)
            and (type(category) is str or type(category) is LogCategory)
            and len(task_id) + len(level) + len(category) <= MAX_IDENTIFIER_CHARS
            and type(message) is str
            and len(message) <= self._max_bytes
            and (step is None or (type(step) is str and len(step) <= MAX_IDENTIFIER_CHARS))
            and (agent_name is None or (type(agent_name) is str and len(agent_name) <= MAX_IDENTIFIER_CHARS))
            and (roadmap_id is None or (type(roadmap_id) is str and len(roadmap_id) <= MAX_IDENTIFIER_CHARS))
            and (concept_id is None or (type(concept_id) is str and len(concept_id) <= MAX_IDENTIFIER_CHARS))
            and (duration_ms is None or (type(duration_ms) is int and 0 <= duration_ms <= MAX_DURATION_MS))
        ):
            try:
                if ":" in message and self._keys.shown_in(message):
                    raise _NotPlainError  # noqa: TRY301 - the same way as from `_copy`
                copied = None if details is None else self._copy(details, self._max_bytes)
                if tree is NO_TREE:
                    entry = LogEntry(
                        identity, created_at, task_id, level, category, message,
                        step, agent_name, roadmap_id, concept_id, copied, duration_ms,
                    )  # fmt: skip
                else:  # which takes nearly twice as long
                    entry = LogEntry(
                        identity, created_at, task_id, level, category, message,
                        step, agent_name, roadmap_id, concept_id, copied, duration_ms, *tree,
                    )  # fmt: skip
                encoded = self._encode(entry)
            except _NotPlainError:
                copied = None
            except Exception as error:  # whatever it was, the thorough way finds and marks it
                if not is_hostile(error):
                    raise
            else:
                # Nearly all are short and have none of these bytes: that costs the least to find out.
                if (
                    len(encoded) <= MAX_IDENTIFIER_CHARS
                    and _BACKSLASH not in encoded
                    and _SLASH not in encoded
                    and _EQUALS not in encoded
                ):
                    return entry, encoded
                if self._is_storable(encoded):
                    return entry, _fitted(encoded)
        # A struct checks no types: here it only carries what the caller passed.
        passed = LogEntry(
            identity, created_at, task_id, level, category, message,
            step, agent_name, roadmap_id, concept_id, details, duration_ms, *tree,
        )  # fmt: skip
        entry = Sanitizer(self._keys, self._max_bytes).made_safe(passed)
        return entry, _fitted(self._encode(entry))

    def fill_in(self, form: Hashable, message: str) -> bytes | None:
        """The JSON of an entry that differs from others of its form in its message alone: what `make` makes.

        None when that is not known yet, or the message needs a closer look.
        """
        known = self._forms.get(form)
        if known is None or len(message) > known.room or (":" in message and self._keys.shown_in(message)):
            return None
        try:
            text = self._encode(message)
        except (TypeError, UnicodeEncodeError):  # a text of a class of its own, or half a character
            return None
        if len(text) > known.room or _BACKSLASH in text or _SLASH in text or _EQUALS in text:
            return None
        head = self._encode(_Head(str(uuid7()), self._clock()))
        return head[:-1] + known.before + text + known.after

    def know(self, form: Hashable, task_id: str, level: str, category: str, details: dict[str, Any]) -> None:
        """Fill in a form from here on, whose entries are these but for the message."""
        if form in self._forms:
            return
        if len(self._forms) >= _MOST_FORMS:
            self._forms.clear()
        entry, encoded = self.make(task_id, level, category, "", details=details)
        head = self._encode(_Head(entry.id, entry.created_at))[:-1]
        before, found, after = encoded[len(head) :].partition(b'"message":""')
        is_plain = not any(byte in encoded for byte in (_BACKSLASH, _SLASH, _EQUALS))
        room = MAX_IDENTIFIER_CHARS - len(encoded)
        is_known = found and is_plain and room > 0 and encoded.startswith(head)
        self._forms[form] = _Form(before + b'"message":', after, room) if is_known else None

    def _copy(self, details: dict[str, Any], room: int) -> dict[str, Any]:
        """Copy plain details and mask their secrets; raise when they are not plain, or too large.

        `room` is how many values and characters they may hold. The containers in them share it,
        which bounds the depth as well, and the work on a list that holds one list a thousand times.
        """
        if type(details) is not dict or (size := len(details)) > room:
            raise _NotPlainError
        keys = self._keys
        rest = room
        # All at once, which lets no other thread run meanwhile; then one by one what cannot stay as it is.
        copy = details.copy()
        for key, value in copy.items():
            if type(key) is not str:
                raise _NotPlainError
            rest -= len(key)
            kind = type(value)
            if keys[key] and value is not None and (verdict := keys.of(key, key, copy.items())):
                copy[key] = _masked(value, verdict)
            elif kind is str:
                rest -= len(value)
            elif kind is not int and kind is not bool and value is not None:
                copy[key] = self._copy_nested(value, kind, room // (size + 1))
        if rest < 0:
            raise _NotPlainError
        return copy

    def _copy_nested(self, value: Any, kind: type, room: int) -> Any:
        if kind is dict:
            return self._copy(value, room)
        if kind is list:
            return self._copy_list(value, room)
        if kind is float and isfinite(value):
            return value
        raise _NotPlainError

    def _copy_list(self, values: list[Any], room: int) -> list[Any]:
        if (size := len(values)) > room:
            raise _NotPlainError
        if size == 2 and self._keys.named(values[0]):  # noqa: PLR2004 - a name and a value
            raise _NotPlainError
        rest = room
        copy = values.copy()
        for index, value in enumerate(copy):
            kind = type(value)
            if kind is str:
                rest -= len(value)
            elif kind is not int and kind is not bool and value is not None:
                copy[index] = self._copy_nested(value, kind, room // (size + 1))
        if rest < 0:
            raise _NotPlainError
        return copy

    def _is_storable(self, encoded: bytes) -> bool:
        # The size comes first: it bounds what is looked at. JSON writes a NUL as \\u0000; so may a harmless
        # text, which the thorough way leaves alone. `in` takes bytes for a number first, which costs more.
        if len(encoded) > self._max_bytes or encoded.find(b"\\u0000") >= 0:
            return False
        may_show = (
            _SLASH in encoded
            or _EQUALS in encoded
            or _BACKSLASH in encoded
            or (len(encoded) > MAX_IDENTIFIER_CHARS and _BEARER in encoded)
        )
        return not may_show or not self._keys.shown_in(encoded.decode())
