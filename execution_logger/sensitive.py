"""Which keys hold secrets."""

from collections.abc import Iterable
from enum import IntEnum

MASK = "[masked]"

_MOST_VERDICTS = 4096


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
        if len(self) >= _MOST_VERDICTS:  # keys may be data, such as ids: don't collect them for ever
            self.clear()
        self[key] = verdict
        return verdict

    def _judge(self, key: str) -> Verdict:
        found = [word for word in self._words if word in key]
        if not found:
            return Verdict.KEEP
        # `prompt_tokens: 1200` is what people look for in the log of an agent.
        return Verdict.NUMBERS_ONLY if found == ["token"] and _counts_tokens(key) else Verdict.MASK


def _counts_tokens(key: str) -> bool:
    return key.endswith("tokens") or "tokencount" in key or "tokenusage" in key or "tokenlimit" in key


def _folded(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "").replace(" ", "")
