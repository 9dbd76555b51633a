"""Texts are storable, and their size is known."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anything import LoudText, Shy, plain_texts
from execution_logger.text import REPLACEMENT, fitted, json_size, storable, text_of, type_name, unreadable

any_texts = st.text(st.characters())


@given(any_texts)
def test_storable_texts_have_no_nul_and_are_utf_8(text: str) -> None:
    """Whatever they had before."""
    clean, _ = storable(text)
    assert "\0" not in clean
    assert clean.encode().decode() == clean


@given(plain_texts)
def test_what_is_storable_stays_as_it_is(text: str) -> None:
    """And nothing is said to have changed."""
    assert storable(text) == (text, [])


@pytest.mark.parametrize(
    ("text", "clean", "changes"),
    [
        ("a\0b\0", f"a{REPLACEMENT}b{REPLACEMENT}", ["2 NUL characters replaced"]),
        ("a\ud800b", f"a{REPLACEMENT}b", ["lone surrogates replaced"]),
        ("\udfff\ud800", REPLACEMENT * 2, ["lone surrogates replaced"]),
        ("\ud83d\ude00!", "😀!", ["lone surrogates replaced"]),
        ("\0\ud800", REPLACEMENT * 2, ["1 NUL characters replaced", "lone surrogates replaced"]),
    ],
)
def test_what_is_not_storable_is_replaced(text: str, clean: str, changes: list[str]) -> None:
    """One character by one, and halves that belong together by the whole."""
    assert storable(text) == (clean, changes)


@given(plain_texts)
def test_the_size_is_that_of_the_json(text: str) -> None:
    """Escapes and quotes count."""
    assert json_size(text) == len(json.dumps(text, ensure_ascii=False).replace("\x7f", "?").encode())


def test_control_characters_count_six_bytes() -> None:
    r"""JSON writes them as \u0001."""
    assert json_size("\x01" * 10) == 62


@given(any_texts, st.integers(2, 50), st.none() | st.integers(0, 50))
def test_fitted_texts_fit(text: str, max_bytes: int, max_chars: int | None) -> None:
    """In bytes of JSON and in characters; the size that is told is the true one."""
    kept, size, _ = fitted(text, max_bytes, max_chars)
    assert size == json_size(kept) <= max_bytes
    assert max_chars is None or len(kept) <= max_chars
    assert storable(text)[0].startswith(kept) or kept.endswith(REPLACEMENT)


@given(any_texts)
def test_a_text_that_fits_is_not_cut(text: str) -> None:
    """Nor said to be."""
    clean, changes = storable(text)
    assert fitted(text, 6 * len(text) + 2) == (clean, json_size(clean), changes)


@pytest.mark.parametrize(
    ("max_bytes", "kept"), [(-1, ""), (0, ""), (2, ""), (3, "a"), (7, "abcde"), (8, "abcdef"), (9, "abcdef")]
)
def test_a_text_that_does_not_fit_is_cut_and_that_is_said(max_bytes: int, kept: str) -> None:
    """With the length that it had."""
    said = [] if kept == "abcdef" else [f"cut from 6 characters to {len(kept)}"]
    assert fitted("abcdef", max_bytes) == (kept, len(kept) + 2, said)


def test_as_much_is_kept_as_fits() -> None:
    """Where escapes are spread evenly; elsewhere a little less."""
    assert len(fitted("\x01" * 1000, 602)[0]) == 100
    assert len(fitted("\x01" * 50 + "a" * 1000, 602)[0]) >= 300


def test_of_a_huge_text_only_the_beginning_is_looked_at() -> None:
    """What is beyond the bound is neither cleaned nor counted."""
    kept, _, changes = fitted("a" * 102 + "\0" * 50_000_000, 102)
    assert kept == "a" * 100
    assert changes == ["cut from 50000102 characters to 100"]


@pytest.mark.parametrize(("value", "text"), [("x", "x"), (5, "5"), (None, "None"), (ValueError("no"), "no")])
def test_text_of(value: Any, text: str) -> None:
    """As str() has it."""
    assert text_of(value) == text


@pytest.mark.parametrize("make", [lambda: Shy(), lambda: LoudText("x")])  # noqa: PLW0108 - pytest asks for names
def test_text_of_what_has_no_text(make: Callable[[], Any]) -> None:
    """Never raises, and never returns what is a text by name only."""
    value = make()
    assert text_of(value) == unreadable(value) == f"<unreadable {type_name(value)}>"


def test_names_of_types_are_short_and_cannot_be_hidden() -> None:
    """They stand in marks and placeholders."""
    assert type_name(Shy()) == "Shy"
    assert len(type_name(type("x" * 10_000, (), {})())) == 100
