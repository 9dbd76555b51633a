"""What the type of a setting accepts, and how its values are written in the environment."""

import typing
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Literal

_ALLOWED = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}


def accepts(hint: Any, value: object) -> bool:
    """Whether a value is of the type; a whole number is also one with a fraction, a bool is neither."""
    if typing.get_origin(hint) is Literal:
        return isinstance(value, str) and value in typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(isinstance(word, str) for word in value)
    if kinds := typing.get_args(hint):
        return any(accepts(kind, value) for kind in kinds)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    if hint is float:
        return isinstance(value, int) or (isinstance(value, float) and isfinite(value))
    return isinstance(value, hint)


def allowed(hint: Any) -> str:
    """What to tell somebody whose value is not accepted."""
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(typing.get_args(hint))}"
    if typing.get_origin(hint) is tuple:
        return "a tuple of texts"
    return " or ".join(_ALLOWED.get(kind, "None") for kind in typing.get_args(hint) or (hint,))


def parsed(hint: Any, text: str) -> Any:
    """The value that a variable's text stands for.

    Raises:
        ValueError: saying what is allowed.
    """
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if typing.get_origin(hint) is tuple:
        return tuple(word.strip() for word in text.split(",") if word.strip())
    if typing.get_origin(hint) is Literal:
        return text.lower()
    kind = kinds[0] if kinds else hint
    try:
        return _PARSERS.get(kind, str)(text)
    except (KeyError, ValueError):
        raise ValueError(f"must be {_ALLOWED[kind]}") from None


def written(value: object) -> str:
    """The text that stands for a value; "" for None, as an empty variable is an unset one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


_BOOLS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}

_PARSERS: Mapping[Any, Callable[[str], Any]] = {
    bool: lambda text: _BOOLS[text.lower()],
    int: int,
    float: float,
}
