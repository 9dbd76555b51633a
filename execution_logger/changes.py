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
    """Changes by the name of their place, e.g. `details.rows[3].price`."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._texts: dict[str, str] = {}
        self._unnamed = 0

    @property
    def depth(self) -> int:
        """How many names the present place has."""
        return len(self._path)

    def at(self, name: str, step: Callable[..., Any], *args: Any) -> Any:
        """Call `step`, whose changes are at `name` below the present place."""
        self._path.append(name)
        try:
            return step(*args)
        finally:
            self._path.pop()

    def mark(self, what: str) -> None:
        """Say that something was changed at the present place."""
        place, _ = storable("".join(self._path)[-_MAX_PLACE_CHARS:])
        what, _ = storable(what[:_MAX_TEXT_CHARS])
        earlier = self._texts.get(place)
        if earlier is None and len(self._texts) >= _MAX_PLACES:
            self._unnamed += 1
        elif earlier is None:
            self._texts[place] = what
        elif what not in earlier and len(earlier) < _MAX_TEXT_CHARS:
            self._texts[place] = f"{earlier}; {what}"

    def within(self, max_bytes: int) -> dict[str, str]:
        """As many as fit into `max_bytes` of JSON, and how many more there are; empty without changes."""
        named: dict[str, str] = {}
        unnamed = self._unnamed
        bytes_left = max_bytes - json_size(_REST) - json_size(_more(unnamed + len(self._texts))) - 4
        for place, what in self._texts.items():
            size = json_size(place) + json_size(what) + 2
            if size <= bytes_left:
                named[place] = what
                bytes_left -= size
            else:
                unnamed += 1
        return named | {_REST: _more(unnamed)} if unnamed else named


def _more(count: int) -> str:
    return f"{count} more"
