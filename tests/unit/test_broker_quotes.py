"""Exchanged quotes: nothing is changed on the way, and JSON within JSON stays short."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anything import plain_details
from execution_logger.broker.message import exchange_quotes, restore_quotes


@given(st.lists(plain_details, max_size=3))
def test_an_array_of_entries_comes_back(details: list[object]) -> None:
    """Whatever they hold."""
    array = json.dumps(
        [{"id": "1", "details": each} for each in details], ensure_ascii=False, separators=(",", ":")
    )
    assert restore_quotes(exchange_quotes(array)) == array


@given(st.text(st.characters()))
def test_it_is_its_own_inverse(text: str) -> None:
    """For forged texts too, with halves of characters."""
    assert exchange_quotes(exchange_quotes(text)) == text


@pytest.mark.parametrize("text", ["", "[]", '[{"a":"it\'s"}]', "[{}]", "['", "nothing of the kind"])
def test_what_was_not_exchanged_stays(text: str) -> None:
    """Other producers need not know of it."""
    assert restore_quotes(text) == text


def test_json_within_json_needs_no_backslashes() -> None:
    """Which is what it is for."""
    array = json.dumps([{"message": "done", "details": {"model": "large"}}])
    assert len(json.dumps(exchange_quotes(array))) == len(array) + 2
