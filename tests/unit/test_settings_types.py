"""The types of settings: what they accept, and how values are written."""

import math
from typing import Any, Literal

import pytest

from execution_logger import settings as hints

LANGUAGE = Literal["zh", "en"]
WORDS = tuple[str, ...]


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 5), (float, 5), (float, 5.5), (str, ""), (str, "x"), (bool, True), (LANGUAGE, "zh"),
        (WORDS, ()), (WORDS, ("a", "b")), (str | None, None), (str | None, "x"), (float | None, 5),
    ],
)  # fmt: skip
def test_these_are_accepted(hint: Any, value: object) -> None:
    """A whole number is a number too."""
    assert hints.accepts(hint, value)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, "5"), (int, True), (int, 5.0), (int, None), (float, "5"), (float, math.inf), (float, math.nan),
        (float, True), (str, 5), (str, None), (str, b"x"), (bool, 1), (bool, "true"), (LANGUAGE, "fr"),
        (LANGUAGE, []), (WORDS, "abc"), (WORDS, ["a"]), (WORDS, (1,)), (str | None, 5),
        (float | None, math.nan),
    ],
)  # fmt: skip
def test_these_are_not(hint: Any, value: object) -> None:
    """Texts that look like values, and numbers that nothing can wait for."""
    assert not hints.accepts(hint, value)


@pytest.mark.parametrize(
    ("hint", "allowed"),
    [
        (int, "a whole number"), (float, "a finite number"), (str, "a text"), (bool, "true or false"),
        (LANGUAGE, "one of zh, en"), (WORDS, "a tuple of texts"), (float | None, "a finite number or None"),
    ],
)  # fmt: skip
def test_what_is_allowed_is_said(hint: Any, allowed: str) -> None:
    """As the end of a sentence: must be ..."""
    assert hints.allowed(hint) == allowed


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (int, "50", 50), (int, "-5", -5), (float, "2", 2.0), (float, "1e3", 1000.0), (str, "Text", "Text"),
        (bool, "TRUE", True), (bool, "1", True), (bool, "on", True), (bool, "no", False), (bool, "0", False),
        (LANGUAGE, "ZH", "zh"), (WORDS, "a, b ,,c", ("a", "b", "c")), (str | None, "x", "x"),
        (float | None, "2.5", 2.5),
    ],
)  # fmt: skip
def test_texts_are_parsed(hint: Any, text: str, value: object) -> None:
    """As people write them in the environment."""
    parsed = hints.parsed(hint, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("hint", "text", "message"),
    [
        (int, "many", "must be a whole number"), (int, "2.5", "must be a whole number"),
        (float, "soon", "must be a finite number"), (bool, "maybe", "must be true or false"),
        (float | None, "soon", "must be a finite number"),
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused(hint: Any, text: str, message: str) -> None:
    """Saying what is allowed, without the text, which may be a secret."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        hints.parsed(hint, text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(50, "50"), (2.0, "2.0"), (True, "true"), (False, "false"), (None, ""), (("a", "b"), "a,b"), ("x", "x")],
)
def test_values_are_written_as_they_are_read(value: Any, text: str) -> None:
    """Nothing for None, as an empty variable counts as unset."""
    assert hints.written(value) == text
    if text:
        hint = WORDS if isinstance(value, tuple) else type(value)
        assert hints.parsed(hint, text) == value
