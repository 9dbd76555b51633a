"""The span: which entries of which process a batch holds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import msgspec

from execution_logger.store.text import batch_key

_PROCESS = re.compile(r"[A-Za-z0-9._-]{1,100}")
_MAX_SEQUENCE = 2**48  # a million entries a second for nine years; sums of it stay within 64 bits
_YEARS = range(1970, 9999)


class _Moment(msgspec.Struct):
    created_at: datetime


_decode = msgspec.json.Decoder(_Moment).decode


@dataclass(frozen=True, slots=True)
class Span:
    """Which entries a batch holds: `count` consecutive ones of a process, from number `first` on.

    Attributes:
        batch_id: also recognises the batch when it is delivered again.
        process: the name of the pipeline that made them.
        first: the first one's number; those of a process begin at 1.
        count: how many there are.
        oldest_at: `created_at` of the first one in UTC, None when it cannot be read.
        newest_at: that of the last one.
    """

    batch_id: str
    process: str
    first: int
    count: int
    oldest_at: datetime | None
    newest_at: datetime | None

    @classmethod
    def of(
        cls, batch_id: str, process: object, first: object, entries: Sequence[msgspec.Raw | str]
    ) -> Self | None:
        """The span of a batch, None when it has none: it comes from elsewhere, or is forged.

        The entries are in the order of their calls, so that the first and the last one tell the time.
        """
        if not isinstance(process, str) or not _PROCESS.fullmatch(process):
            return None
        # A bool is an int.
        if type(first) is not int or not 1 <= first <= _MAX_SEQUENCE:
            return None
        ends = (entries[0], entries[-1]) if entries else ()
        moments = [moment for moment in map(_created_at, ends) if moment is not None]
        oldest_at, newest_at = min(moments, default=None), max(moments, default=None)
        return cls(batch_key(batch_id), process, first, len(entries), oldest_at, newest_at)

    def values(self) -> dict[str, Any]:
        """The attributes by their names, as the statements have them."""
        return {name: getattr(self, name) for name in self.__slots__}


def _created_at(entry: msgspec.Raw | str) -> datetime | None:
    try:
        moment = _decode(entry).created_at.astimezone(UTC)
    except (msgspec.DecodeError, ValueError, OverflowError):
        return None
    return moment if moment.year in _YEARS else None
