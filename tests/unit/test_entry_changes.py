"""What was changed is said, shortly, by the name of its place."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_logger.entry.changes import Changes


def marked(*changes: tuple[str, str]) -> Changes:
    """Changes, each a place and what happened there."""
    made = Changes()
    for place, what in changes:
        made.at(place, made.mark, what)
    return made


def test_nothing_was_changed() -> None:
    """Then nothing is said."""
    assert Changes().within(1000) == {}


def test_places_are_named_by_the_way_to_them() -> None:
    """As one would write them in Python."""
    changes = Changes()
    changes.at("details", changes.at, ".rows", changes.at, "[3]", changes.mark, "cut")
    assert changes.within(1000) == {"details.rows[3]": "cut"}
    assert changes.depth == 0


def test_the_way_back_is_found_after_an_error() -> None:
    """Marks that follow have the right place."""
    changes = Changes()
    with pytest.raises(ZeroDivisionError):
        changes.at("a", lambda: 1 / 0)
    changes.at("b", changes.mark, "cut")
    assert changes.within(1000) == {"b": "cut"}


def test_changes_at_one_place_are_said_together_and_once() -> None:
    """In the order in which they happened."""
    assert marked(("a", "x"), ("a", "y"), ("a", "x")).within(1000) == {"a": "x; y"}


def test_what_is_too_much_is_counted() -> None:
    """By places, of which the first 20 are named."""
    changes = marked(*((f"place {number}", "cut") for number in range(25))).within(10_000)
    assert len(changes) == 21
    assert changes["..."] == "5 more"


def test_of_too_many_changes_the_outermost_are_named() -> None:
    """That a whole list was cut says more than what was changed in an item."""
    changes = Changes()
    for number in range(50):
        changes.at("details", changes.at, f"[{number}]", changes.mark, "inner")
    changes.at("details", changes.mark, "outer")
    within = changes.within(10_000)
    assert list(within) == ["details", *(f"details[{number}]" for number in range(19)), "..."]
    assert within["..."] == "31 more"
    assert changes.within(45) == {"details": "outer", "...": "50 more"}


def test_a_place_with_endless_changes_stays_short() -> None:
    """A dict of a million bad keys marks one place a million times."""
    (text,) = marked(*(("keys", f"bad key {number}") for number in range(10_000))).within(10_000).values()
    assert len(text) < 500


@given(
    st.lists(st.tuples(st.text(st.characters()), st.text(st.characters())), min_size=1), st.integers(40, 500)
)
def test_it_fits_and_never_says_nothing(changes: list[tuple[str, str]], max_bytes: int) -> None:
    """As JSON that every database stores."""
    within = marked(*changes).within(max_bytes)
    text = json.dumps(within, ensure_ascii=False, separators=(",", ":"))
    assert within
    assert "\\u0000" not in text
    assert len(text.encode()) <= max_bytes + 2
