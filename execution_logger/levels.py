"""The levels, and what loggers call them: one function knows every name."""

from collections.abc import Mapping
from typing import Any

LEVELS = ("debug", "info", "warning", "error", "critical")
"""The usual ones, from the least to the gravest."""

LEVEL_NAMES: Mapping[str, str] = {
    **{level: level for level in LEVELS},
    "warn": "warning",
    "err": "error",
    "fatal": "critical",
    "crit": "critical",
}
"""What loggers call them, the own name of each first."""

_NUMBERS = dict(zip((10, 20, 30, 40, 50), LEVELS, strict=True))  # the standard library's


def known_level(level: Any) -> Any:
    """The level that is meant, `"ERROR"` and `logging.ERROR` included; an unknown one as it is."""
    if type(level) is int:
        return _NUMBERS.get(level, level)
    if type(level) is not str:
        return level
    return LEVEL_NAMES.get(level) or LEVEL_NAMES.get(level.lower()) or level
