"""Which keys hold secrets, and where texts show them."""

import re
import string
from collections.abc import Iterable, Mapping
from enum import Enum, IntEnum
from functools import lru_cache
from itertools import islice
from typing import Any

MASK = "[masked]"

# Keys may be data, such as ids or whole prompts: neither many nor long ones are kept for ever.
_MOST_VERDICTS = 4096
_LONGEST_REMEMBERED = 64

# How an object's text shows what it holds: a repr as `name=value`, a dict as `'name': value`.
_NAME = re.compile(
    r"""(?<![\w-])(?P<bare>[\w-]++)=|(?P<quote>['"])(?P<quoted>[^'"\n]{1,100}+)(?P=quote)\s*[:,]"""
)
# A quoted value, a word, or anything else to the end of the line: where a nested value ends is not seen.
_VALUE = re.compile(
    r"""\s*(?:b?'(?:[^'\\\n]|\\.)*+'|b?"(?:[^"\\\n]|\\.)*+"|[^\s,'"()\[\]{}<>]++(?=[\s,)\]}>]|$)|[^\n]*)"""
)

_LOGIN = r"""(?:[^\s/?\#"'<>]|'(?![,\])}:\s]))*"""
# Credentials in plain texts, also where JSON has escaped the slashes. If no port stands there, a password may
# hold what should have been escaped, and a quote that else ends a URL.
_CREDENTIALS = re.compile(
    rf"""
      (?P<slashes>:(?:\\{{0,7}}/){{2}})
        (?:{_LOGIN}@|[^\s/?\#@:"'<>\[]*:(?!\d{{1,5}}'|\d{{0,5}}(?:\\{{0,7}}/|[?\#,;\s"<>)\]}}]|$))[^\s"<>]{{0,1000}}@)
      | (?<=[?&\#;])(?P<parameter>[\w.%-]{{1,100}}+)=[^&\s"'<>\#]++
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Passwords, headers and cookies as people, programs and JSON write them: name, `=` or `:`, value. Two plain
# words behind a colon are prose, a quote there ends what is quoted, and a call behind a space is code.
_PROSE = r"""(?![^\W\d_]++[.,;!?]?[ \t]++[^\W\d_]++(?!\s{0,9}[=:]|\w)|["'](?:[\s,.;:)\]]|$))"""
_SCHEME = r"""(?:(?:\\{0,3}["'])?(?:bearer|basic|digest|token|negotiate|aws4-hmac-sha256)[ ]++)?+"""
_NAMED = re.compile(
    rf"""
      (?:password|passwd|passphrase|(?P<header>authorization)|(?:php)?sess(?:ion)?id|connect\.sid)
      (?:\\{{0,3}}["'])? [ \t]{{0,20}}+ (?:=(?![=~])>?+|:(?!:|//)=?+(?P<colon>)) (?P<spaced>[ \t]{{1,20}}+)?+
      (?(header){_SCHEME}) (?(colon){_PROSE}) (?(spaced)(?![\w.]++[(\[]))
      (?P<secret>(?!["']?{re.escape(MASK)}|(?:null|none)\b)(?:
          '(?:[^'\\]|\\.)*+'? | "(?:[^"\\]|\\.)*+"? | \\{{1,3}}["'][^"'\\]++
          | [\w-]{{1,100}}+="[^"\n]*+" | [^\s,;&'"()\[\]{{}}]++
        )(?(header)(?:,[ ]?[\w-]{{1,100}}+=(?:"[^"\n]*+"?|[^\s,"]*+))*+))
      | (?<!\w)bearer[ ]++(?P<token>
          (?=[\w.~+/-]{{0,200}}[\d_]|[\w-]{{1,200}}\.[\w-]{{1,200}}\.|[\w.~+/-]{{24}})
          [\w.~+/-]{{6,}}+=*+)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PARAMETERS = frozenset({"sig", "key", "auth"})
"""Parameters of URLs that are secrets, and harmless words elsewhere."""
WINDOW_CHARS = 4096

_SEPARATORS = str.maketrans("", "", string.punctuation + string.whitespace)
_PARTS = re.compile(r"(?<=[^\W_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[\W_]+")

# Parts of other words, too: records_number, session_idle_seconds. They count where a part of the key ends.
_ENDS_A_PART: Mapping[str, re.Pattern[str]] = {
    "dsn": re.compile(r"dsns?\d*(?: |$)"),
    "sessionid": re.compile(r"session ?ids?\d*(?: |$)"),
    "sessid": re.compile(r"(?:^| |php)sess ?ids?\d*(?: |$)"),
    "connectsid": re.compile(r"connect ?sid(?: |$)"),
}
# What is only said of them is no secret: signature_version, jwt_algorithm.
_DESCRIBED = frozenset(
    {"passphrase", "jwt", "bearer", "sessionid", "sessid", "connectsid", "dsn", "signature"}
)
_DESCRIPTIONS = (
    "version", "algorithm", "alg", "method", "type", "format", "count", "length", "size", "valid", "verified",
    "enabled", "required", "expires", "ttl",
)  # fmt: skip
# Keys of a value whose name stands beside it, and those of such a name: also header_name and VARIABLE.
_VALUE_KEY = re.compile(r"values?[\W_]*$|(?:^|[\W_]|(?-i:(?<=[^\W_A-Z])(?=V)))vals?$", re.IGNORECASE)
_NAMED_THINGS = (
    "header", "cookie", "variable", "var", "envvar", "parameter", "param", "field", "option", "setting",
    "property", "attribute",
)  # fmt: skip
_NAMES = frozenset(
    {*_NAMED_THINGS, *(f"{thing}{word}" for thing in ("", *_NAMED_THINGS) for word in ("name", "key"))}
)
_NAMING = ("name", "key", *_NAMED_THINGS)
_MOST_BESIDE = 32


class Verdict(IntEnum):
    """What happens to a value under a key."""

    KEEP = 0
    MASK = 1
    NUMBERS_ONLY = 2
    """The key counts language-model tokens: numbers stay, anything else is masked."""
    AS_NAMED = 3
    """The key says "value": what it holds is told by another one beside it, "name" or "key"."""


class SensitiveKeys(dict[str, Verdict]):
    """Key to verdict, remembered: hosts use the same few keys again and again.

    A key is sensitive when it contains one of the words, whatever its case and separators:
    `token` covers `accessToken`, `X-Auth-Token` and `token_2`.
    """

    def __init__(self, words: Iterable[str]) -> None:
        super().__init__()
        self._words = tuple(word for word in map(_folded, words) if word)

    def __missing__(self, key: str) -> Verdict:
        if len(key) > WINDOW_CHARS:  # it is a text: what is judged of it does not grow with it
            return self.named(key[: WINDOW_CHARS // 2] + key[-WINDOW_CHARS // 2 :])
        verdict = self._judge(key, _folded(key))
        if len(key) <= _LONGEST_REMEMBERED:
            if len(self) >= _MOST_VERDICTS:
                self.clear()
            self[key] = verdict
        return verdict

    def of(self, key: object, text: str, pairs: Iterable[tuple[Any, Any]]) -> Verdict:
        """What happens to the value under a key, whose text is `text`, among the pairs of a mapping."""
        verdict = self[text]
        if verdict is Verdict.KEEP and isinstance(key, Enum):
            verdict = self[str(key._name_)]
        return self._as_named(text, pairs) if verdict is Verdict.AS_NAMED else verdict

    def _as_named(self, key: str, pairs: Iterable[tuple[Any, Any]]) -> Verdict:
        """What happens to a value whose name is beside it, as Docker, Kubernetes and AWS write them."""
        # What stands before "value", also in the key of its name: "default_value", "ParameterValue".
        prefix, _, _ = _folded(key[-_LONGEST_REMEMBERED:]).rpartition("val")
        for beside, name in islice(pairs, _MOST_BESIDE):
            naming = _naming(_text_of(beside)[:_LONGEST_REMEMBERED])
            is_its = naming in _NAMES or naming.removeprefix(prefix) in _NAMES
            if is_its and (verdict := self.named(name)):
                return verdict
        return Verdict.KEEP

    def named(self, name: Any) -> Verdict:
        """What happens to a value with this name, as a header has one: a text, bytes or an enum's member."""
        if type(name) is not str and issubclass(type(name), Enum):
            return self.named(name._value_) or self.named(name._name_)
        verdict = self[_text_of(name)[:WINDOW_CHARS]]
        return Verdict.KEEP if verdict is Verdict.AS_NAMED else verdict

    def masked(self, text: str) -> str:
        """Mask what the text of an object, such as its repr, shows under sensitive keys, and credentials."""
        parts: list[str] = []
        end = 0
        for name in _NAME.finditer(text):
            verdict = self[name["bare"] or name["quoted"]]
            # What stands inside a masked value is gone with it.
            if verdict is Verdict.KEEP or verdict is Verdict.AS_NAMED or name.start() < end:
                continue
            value = _VALUE.match(text, name.end())
            value_end = value.end() if value else len(text)
            if verdict is Verdict.MASK or not text[name.end() : value_end].strip().isdigit():
                parts += text[end : name.end()], MASK
                end = value_end
        return self.without_credentials("".join([*parts, text[end:]]))

    def without_credentials(self, text: str) -> str:
        """Mask users and passwords in URLs, sensitive parameters, and passwords, headers and cookies."""
        if "://" in text or "assword=" in text or ("\\" in text and "\\/" in text):
            text = _CREDENTIALS.sub(self._without, text)
        return _NAMED.sub(_without_secret, text) if _may_name(text.lower()) else text

    def shown_in(self, text: str) -> bool:
        """Whether a text shows credentials."""
        return self.without_credentials(text) != text

    def beginning(self, text: str, most_chars: int) -> str:
        """The beginning of a text, without credentials.

        It is cut first, so that the work is bounded. A little more is looked at than may be kept: one that is
        cut in two could not be seen.
        """
        if len(text) <= most_chars:
            return self.without_credentials(text)
        return self.without_credentials(seen(text, most_chars))[:most_chars]

    def _without(self, found: re.Match[str]) -> str:
        if name := found["parameter"]:
            is_secret = name.lower() in _PARAMETERS or self[name] is Verdict.MASK
            return f"{name}={MASK}" if is_secret else found[0]
        return f"{found['slashes']}{MASK}@"

    def _judge(self, key: str, folded: str) -> Verdict:
        found = [word for word in self._words if word in folded]
        if found and not _DESCRIBED.isdisjoint(found):
            found = _without_descriptions(found, key, folded)
        if not found:
            return Verdict.AS_NAMED if _VALUE_KEY.search(key) else Verdict.KEEP
        # `prompt_tokens: 1200` is what people look for in the log of an agent.
        return Verdict.NUMBERS_ONLY if found == ["token"] and _counts_tokens(folded) else Verdict.MASK


def _may_name(lowered: str) -> bool:
    """Whether a text may hold one of the names, by parts of them: what costs the least to find out."""
    return (
        "passw" in lowered
        or "sessi" in lowered
        or "bearer " in lowered
        or "authoriz" in lowered
        or "connect.sid" in lowered
        or "passphrase" in lowered
    )


def _without_secret(found: re.Match[str]) -> str:
    begin = max(found.start("secret"), found.start("token"))  # one of them is -1
    return f"{found[0][: begin - found.start()]}{MASK}"


def seen(text: str, most_chars: int) -> str:
    """The beginning of a longer text, cut where no URL, and no password, is cut in two."""
    window = text[: most_chars + WINDOW_CHARS]
    parts = window.rsplit(maxsplit=1)
    # One that never ends might be a URL whose login is not over: as if it were.
    return parts[0] if len(parts) > 1 and len(parts[0]) >= most_chars else f"{window}@"


def _without_descriptions(found: list[str], key: str, folded: str) -> list[str]:
    spaced = _PARTS.sub(" ", key).lower()
    found = [word for word in found if word not in _ENDS_A_PART or _ENDS_A_PART[word].search(spaced)]
    return [] if _DESCRIBED.issuperset(found) and folded.endswith(_DESCRIPTIONS) else found


def _counts_tokens(key: str) -> bool:
    return "tokens" in key or any(f"token{what}" in key for what in ("count", "usage", "limit", "detail"))


@lru_cache(_MOST_VERDICTS)
def _naming(key: str) -> str:
    """The key, folded, of what may be the name of a value beside it; empty when it is none."""
    folded = _folded(key)
    return folded if folded.endswith(_NAMING) else ""


def _text_of(name: Any) -> str:
    """The text of what may be a name, of bytes as much as a name has; empty when it is none."""
    kind = type(name)
    if kind is str:
        return name  # type: ignore[no-any-return]
    if issubclass(kind, (bytes, bytearray)):
        return name[:_LONGEST_REMEMBERED].decode("latin-1")  # type: ignore[no-any-return]
    return str.__str__(name) if issubclass(kind, str) else ""


def _folded(key: str) -> str:
    return key.lower().translate(_SEPARATORS)
