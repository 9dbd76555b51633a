"""Texts: of any object, storable in every database, and of a known size as JSON."""

import codecs
from collections.abc import Callable
from typing import Any

import msgspec

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

HOSTILE = (Exception, SystemExit, GeneratorExit)
"""What code of others can raise inside `__repr__`, `__iter__` or a property; Ctrl-C is the user's own."""

_MAX_NAME_CHARS = 100

_encode = msgspec.json.Encoder().encode
codecs.lookup("utf-16-le")  # or it would be imported in a call, which imports nothing
_name_of = type.__dict__["__name__"].__get__  # a metaclass may have a `__name__` of its own, which raises


def is_hostile(error: BaseException) -> bool:
    """Whether it is one of `HOSTILE`, or a panic of a library in Rust, whose class has no other name."""
    return isinstance(error, HOSTILE) or type(error).__module__ == "pyo3_runtime"


def type_name(value: object) -> str:
    """The name of a value's type, whatever the type does to hide it."""
    name: str = _name_of(type(value))
    return name[:_MAX_NAME_CHARS]


def text_of(value: Any, how: Callable[[Any], str] = str) -> str:
    """`str(value)`, or a placeholder when that raises."""
    try:
        return str.__str__(how(value))  # str() may return a subclass with methods of its own
    except HOSTILE:
        return unreadable(value)


def unreadable(value: object) -> str:
    """What stands for a value that raises when it is read."""
    return f"<unreadable {type_name(value)}>"


def storable(text: str) -> tuple[str, list[str]]:
    """Return the text without what PostgreSQL and UTF-8 cannot hold, and what was changed for that."""
    changes = []
    if nuls := text.count("\0"):
        text = text.replace("\0", REPLACEMENT)
        changes.append(f"{nuls} NUL characters replaced")
    try:
        text.encode()
    except UnicodeEncodeError:
        # By way of UTF-16, so that two halves that stand together become their character.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        changes.append("lone surrogates replaced")
    return text, changes


def json_size(text: str) -> int:
    r"""Bytes of a storable text as JSON, quotes and escapes included: `\x01` takes six."""
    return len(_encode(text))


def fitted(text: str, max_bytes: int, max_chars: int | None = None) -> tuple[str, int, list[str]]:
    """Return the storable beginning of a text that fits, its size as JSON, and what was changed."""
    begun = text[: max(max_bytes if max_chars is None else min(max_bytes, max_chars), 0)]
    kept, changes = storable(begun)
    whole = len(begun) == len(text)
    while (size := json_size(kept)) > max_bytes and kept:
        kept = kept[: min(len(kept) - 1, len(kept) * max_bytes // size)]
        whole = False
    if not whole:
        changes.append(f"cut from {len(text)} characters to {len(kept)}")
    return kept, size, changes
