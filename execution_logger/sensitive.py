"""Which keys hold secrets."""

import re
import string
from collections.abc import Iterable
from enum import IntEnum

MASK = "[masked]"

# Keys may be data, such as ids or whole prompts: neither many nor long ones are kept for ever.
_MOST_VERDICTS = 4096
_LONGEST_REMEMBERED = 64

# How an object's text shows what it holds: a repr as `name=value`, a dict as `'name': value`.
_NAME = re.compile(
    r"""(?<![\w-])(?P<bare>[\w-]++)=|(?P<quote>['"])(?P<quoted>[^'"\n]{1,100}+)(?P=quote)\s*:"""
)
# A quoted value, a word, or anything else to the end of the line: where a nested value ends is not seen.
_VALUE = re.compile(
    r"""\s*(?:'(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+"|[^\s,'"()\[\]{}<>]++(?=[\s,)\]}>]|$)|[^\n]*)"""
)

_SEPARATORS = str.maketrans("", "", string.punctuation + string.whitespace)


class Verdict(IntEnum):
    """What happens to a value under a key."""

    KEEP = 0
    MASK = 1
    NUMBERS_ONLY = 2
    """The key counts language-model tokens: numbers stay, anything else is masked."""


class SensitiveKeys(dict[str, Verdict]):
    """Key to verdict, remembered: hosts use the same few keys again and again.

    A key is sensitive when it contains one of the words, whatever its case and separators:
    `token` covers `accessToken`, `X-Auth-Token` and `token_2`.
    """

    def __init__(self, words: Iterable[str]) -> None:
        super().__init__()
        self._words = tuple(word for word in map(_folded, words) if word)

    def __missing__(self, key: str) -> Verdict:
        verdict = self._judge(_folded(key))
        if len(key) <= _LONGEST_REMEMBERED:
            if len(self) >= _MOST_VERDICTS:
                self.clear()
            self[key] = verdict
        return verdict

    def masked(self, text: str) -> str:
        """Mask the values under sensitive keys in the text of an object, such as its repr."""
        parts: list[str] = []
        end = 0
        for name in _NAME.finditer(text):
            verdict = self[name["bare"] or name["quoted"]]
            # What stands inside a masked value is gone with it.
            if verdict is Verdict.KEEP or name.start() < end:
                continue
            value = _VALUE.match(text, name.end())
            value_end = value.end() if value else len(text)
            if verdict is Verdict.MASK or not text[name.end() : value_end].strip().isdigit():
                parts += text[end : name.end()], MASK
                end = value_end
        return "".join([*parts, text[end:]])

    def _judge(self, key: str) -> Verdict:
        found = [word for word in self._words if word in key]
        if not found:
            return Verdict.KEEP
        # `prompt_tokens: 1200` is what people look for in the log of an agent.
        return Verdict.NUMBERS_ONLY if found == ["token"] and _counts_tokens(key) else Verdict.MASK


def _counts_tokens(key: str) -> bool:
    return "tokens" in key or any(f"token{what}" in key for what in ("count", "usage", "limit", "detail"))


def _folded(key: str) -> str:
    return key.lower().translate(_SEPARATORS)
