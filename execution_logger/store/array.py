"""The array: what a batch comes as, a JSON array of encoded entries."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec

from execution_logger.store.text import storable

_decode = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class EntryArray:
    """The entries of a batch, together and one by one.

    Attributes:
        text: the whole array, as every database takes it.
        entries: each entry, not yet copied out of the text.
    """

    text: str
    entries: Sequence[msgspec.Raw | str]

    @classmethod
    def read(cls, batch: object) -> Self:
        """Take a batch apart.

        Raises:
            TypeError, ValueError, RecursionError: it is no JSON array.
        """
        if not isinstance(batch, str):
            raise TypeError(f"{type(batch).__name__} instead of a text")
        try:
            # The decoder takes neither NUL nor lone surrogates: the text can be passed on as it is.
            return cls(batch, _decode(batch))
        except (msgspec.DecodeError, UnicodeEncodeError):
            return cls._read_leniently(storable(batch))

    @classmethod
    def _read_leniently(cls, text: str) -> Self:
        try:
            return cls(text, _decode(text))
        except msgspec.DecodeError:
            # Python's decoder takes NaN and lone surrogates too: such an entry goes alone then.
            items = json.loads(text, strict=False)
        if not isinstance(items, list):
            raise TypeError(f"{type(items).__name__} instead of an array")
        entries = [json.dumps(item) for item in items]
        return cls(join(entries), entries)

    def texts(self) -> list[str]:
        """Each entry, byte for byte."""
        return [entry if isinstance(entry, str) else bytes(entry).decode() for entry in self.entries]


def join(entries: Iterable[str]) -> str:
    """Encoded entries as one array."""
    return f"[{','.join(entries)}]"
