"""What was changed to make an entry storable."""

from collections.abc import Callable
from typing import Any

from execution_logger.text import json_size, storable

CHANGED = "_changed"
"""The key in `details` under which an entry says what was changed to make it storable."""

_MAX_PLACES = 20
_MAX_PLACE_CHARS = 100
_MAX_TEXT_CHARS = 200
_REST = "..."


class Changes:
    """Changes by the name of their place, e.g. `details.rows[3].price`.

    Those of the places that are nested least are kept when there are too many: that all of `details.rows`
    was cut says more than what was changed in a row.
    """

    def __init__(self) -> None:
        self._path: list[str] = []
        self._texts: dict[str, str] = {}
        self._depths: dict[str, int] = {}
        self._unnamed = 0

    @property
    def depth(self) -> int:
        """How many names the present place has."""
        return len(self._path)

    @property
    def is_at_item(self) -> bool:
        """Whether the present place is an item of a sequence."""
        return bool(self._path) and self._path[-1].startswith("[")

    def at(self, name: str, step: Callable[..., Any], *args: Any) -> Any:
        """Call `step`, whose changes are at `name` below the present place."""
        self._path.append(name)
        try:
            return step(*args)
        finally:
            self._path.pop()

    def mark(self, what: str) -> None:
        """Say that something was changed at the present place."""
        depth = len(self._path)
        if len(self._texts) >= _MAX_PLACES and depth >= max(self._depths.values()):
            self._unnamed += 1
            return
        place, _ = storable("".join(self._path)[-_MAX_PLACE_CHARS:])
        what, _ = storable(what[:_MAX_TEXT_CHARS])
        earlier = self._texts.get(place)
        if earlier is None:
            self._texts[place] = what
            self._depths[place] = depth
            self._bound()
        elif what not in earlier and len(earlier) < _MAX_TEXT_CHARS:
            self._texts[place] = f"{earlier}; {what}"

    def within(self, max_bytes: int) -> dict[str, str]:
        """As many as fit into `max_bytes` of JSON, and how many more there are; empty without changes."""
        named: dict[str, str] = {}
        unnamed = self._unnamed
        bytes_left = max_bytes - json_size(_REST) - json_size(_more(unnamed + len(self._texts))) - 4
        for place in sorted(self._depths, key=self._depths.__getitem__):
            what = self._texts[place]
            size = json_size(place) + json_size(what) + 2
            if size <= bytes_left:
                named[place] = what
                bytes_left -= size
            else:
                unnamed += 1
        return named | {_REST: _more(unnamed)} if unnamed else named

    def _bound(self) -> None:
        if len(self._texts) > _MAX_PLACES:
            deepest = max(reversed(self._depths), key=self._depths.__getitem__)
            del self._texts[deepest], self._depths[deepest]
            self._unnamed += 1


def _more(count: int) -> str:
    return f"{count} more"
