"""The array: a batch is taken apart without a change to any of its entries."""

import json

import pytest

from batches import batch, encoded
from execution_logger.store.insert import EntryArray


@pytest.mark.parametrize(
    "entries",
    [[], [encoded(message='学 \\ " / \u2028')], ['{"z": 1,"a":  2.50}', "5", "null", "[1, [2]]", '"text"']],
)
def test_good_entries_stay_as_they_are(entries: list[str]) -> None:
    """The text is passed on as it came, and each entry is found in it byte for byte."""
    text = f" {batch(*entries)}\n"
    array = EntryArray.read(text)
    assert array.text is text
    assert array.texts() == entries


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ('[{"a":"x\0y"}]', ['{"a":"x\\u0000y"}']),
        ('[{"a":"\ud800"}]', ['{"a": "\\ud800"}']),
        ('[{"a":"\\ud800"}, 1]', ['{"a": "\\ud800"}', "1"]),
        ('[{"a":NaN}]', ['{"a": NaN}']),
    ],
    ids=["NUL", "a lone surrogate", "an escaped one", "NaN"],
)
def test_what_no_database_takes_can_be_sent_to_one(text: str, entries: list[str]) -> None:
    """The database refuses such an entry by itself, and has to be able to say so."""
    array = EntryArray.read(text)
    assert array.texts() == entries
    assert json.loads(array.text, strict=False) == json.loads(text, strict=False)
    array.text.encode()
    assert "\0" not in array.text


@pytest.mark.parametrize("batch", ["", "5", "{}", '["', "[1] 2", "[" * 100_000, b"[]", None, ["[]"]])
def test_what_is_no_array_is_said_to_be_none(batch: object) -> None:
    """The writer makes it a dead letter, whole."""
    with pytest.raises((TypeError, ValueError, RecursionError)):
        EntryArray.read(batch)
