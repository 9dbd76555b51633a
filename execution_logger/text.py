"""Texts: of any object, storable in every database, of a known size as JSON, and safe to show."""

import codecs
import json
import opcode
import re
import unicodedata
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_HOSTILE = (Exception, SystemExit, GeneratorExit)
_RAISE = opcode.opmap["RAISE_VARARGS"]
_MAX_NAME_CHARS = 100
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # control, format (also bidirectional), surrogate, breaks
_JOINERS = "\u200c\u200d"  # parts of words and of emoji
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INDENT = "  "

_encode = msgspec.json.Encoder().encode
codecs.lookup("utf-16-le")  # or it would be imported in a call, which imports nothing
_name_of = type.__dict__["__name__"].__get__  # a metaclass may have a `__name__` of its own, which raises


def is_hostile(error: BaseException) -> bool:
    """Whether data raised this while it was read, inside `__repr__`, `__iter__` or a property, say.

    What a signal brings is the host's own and must go on: what a handler written in Python raises,
    whatever its class, and the KeyboardInterrupt of Python's own handler, for which no `raise` statement
    stands anywhere. So a KeyboardInterrupt, or another exception that no `except Exception` catches, is
    taken for the data's only where a `raise` made it. One that is injected into a thread goes on as well.
    """
    trace, before = error.__traceback__, None
    while trace is not None:
        frame = trace.tb_frame
        if before is not None and _is_handler(frame, before):
            return False
        last, before, trace = trace, frame, trace.tb_next
    if isinstance(error, _HOSTILE) or type(error).__module__ == "pyo3_runtime":  # a panic of Rust's
        return True
    return before is not None and before.f_code.co_code[last.tb_lasti] == _RAISE


def _is_handler(frame: FrameType, interrupted: FrameType) -> bool:
    """Whether a frame is that of a signal handler: those are given the frame that they interrupt."""
    return any(
        value is interrupted or (type(value) is tuple and any(item is interrupted for item in value))
        for value in frame.f_locals.values()
    )


def type_name(value: object) -> str:
    """The name of a value's type, whatever the type does to hide it."""
    name: str = _name_of(type(value))
    return name[:_MAX_NAME_CHARS]


def text_of(value: Any, how: Callable[[Any], str] = str) -> str:
    """`str(value)`, or a placeholder when that raises."""
    try:
        return str.__str__(how(value))  # str() may return a subclass with methods of its own
    except BaseException as error:
        if not is_hostile(error):
            raise
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


def fitted(
    text: str, max_bytes: int, max_chars: int | None = None, length: int | None = None
) -> tuple[str, int, list[str]]:
    """Return the storable beginning of a text that fits, its size as JSON, and what was changed.

    Of a text that was cut before, `length` says how long it was.
    """
    begun = text[: max(max_bytes if max_chars is None else min(max_bytes, max_chars), 0)]
    kept, changes = storable(begun)
    whole = length is None and len(begun) == len(text)
    while (size := json_size(kept)) > max_bytes and kept:
        kept = kept[: min(len(kept) - 1, len(kept) * max_bytes // size)]
        whole = False
    if not whole:
        changes.append(f"cut from {len(text) if length is None else length} characters to {len(kept)}")
    return kept, size, changes


def printable(text: str) -> str:
    r"""The text on one line, with what would steer a terminal written out: `\x1b[2J`, `\n`.

    Whoever can log could otherwise clear the screen, change the window's title, make a line read as
    another one, or add lines to a log.
    """
    return _without_hidden(text, _escaped)


def printable_lines(text: str) -> str:
    """A text that has lines of its own, each printable; all but the first are indented.

    So none of them looks like the beginning of another message.
    """
    first, *others = map(printable, text.split("\n"))
    return "\n".join([first, *(line if line.startswith(_INDENT) else _INDENT + line for line in others)])


def printable_json(text: str) -> str:
    """JSON that does not steer a terminal; it stays the same JSON, with its line breaks."""
    return _without_hidden(text, _escaped_in_json, but="\n")


def _without_hidden(text: str, escaped: Callable[[str], str], but: str = "") -> str:
    if text.isprintable():
        return text
    return "".join(escaped(char) if char != but and _is_hidden(char) else char for char in text)


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in _HIDDEN and char not in _JOINERS


def _escaped(char: str) -> str:
    return _SHORT.get(char) or char.encode("unicode_escape").decode()


def _escaped_in_json(char: str) -> str:
    return json.dumps(char)[1:-1] if char > "\x7f" else f"\\u{ord(char):04x}"


HIDDEN = "(hidden)"
"""What stands for a URL whose password cannot be told from the rest of it."""

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
# A password may hold a `;` as well: only one before a scheme stands between two URLs.
_BETWEEN = re.compile(r";(?=[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
_HOST = r"(?:[\w.%-]*|\[[\w:.%]*\]?)(?::\d*)?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")
_AUTHORITY = re.compile(r"[^/?#]*")
_QUERY = re.compile(r"[?#][\w.%-]+=.*", re.DOTALL)
_PATH = re.compile(r"[^?#]*")


def each_url(urls: str) -> list[str]:
    """The URLs of a text that may hold several with `;` between them."""
    return _BETWEEN.split(urls)


def public_url(urls: str, user: str = "") -> str:
    """The URL, or several with `;` between them, for people to read.

    Args:
        urls: may be anything; passwords in it may hold characters that should have been escaped.
        user: what stands for a user and a password, with the `@`.
    """
    return ";".join(_public(url, user) for url in each_url(urls)) if urls else ""


def _public(url: str, user: str) -> str:
    match = _URL.fullmatch(url)
    place = _place(match[2], user) if match else None
    return HIDDEN if match is None or place is None else f"{match[1]}://{place}"


def _place(rest: str, user: str) -> str | None:
    """Host and path; None when a part of them may be one of a password."""
    authority = _AUTHORITY.match(rest)[0]  # type: ignore[index]  # it matches any text
    login, at, host = authority.rpartition("@")
    behind = rest[len(authority) :]
    path = _PATH.match(behind)[0]  # type: ignore[index]  # as above
    if _HOSTS.fullmatch(host):
        # A path may hold an `@` as well, but so may a password that begins before it.
        is_clear = "@" not in behind or _QUERY.match(behind[len(path) :])
        if (is_clear and "@" not in path) or not authority:
            return f"{user if at else ''}{host}{path}"
        return None
    # A password with `/`, `?` or `#` in it: the host is behind the one `@`.
    login, at, place = rest.rpartition("@")
    return f"{user}{_PATH.match(place)[0]}" if at and "@" not in login else None  # type: ignore[index]
