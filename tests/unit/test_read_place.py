"""The place of an entry: a token that comes back as it was, and nothing else does."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anything import plain_texts
from execution_logger.read.place import Place, UnknownPlaceError, micros, moment_of

moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@given(moments, plain_texts)
def test_a_token_is_its_place(moment: datetime, id_: str) -> None:
    """To the microsecond, with whatever a host has for an id; and it may stand in a URL as it is."""
    token = Place(moment, id_).to_token()
    assert Place.from_token(token) == Place(moment, id_)
    assert token.replace("-", "").replace("_", "").isalnum()
    assert moment_of(micros(moment)) == moment


@given(st.text() | st.integers().map(str))
def test_any_other_text_is_refused_or_a_place(token: str) -> None:
    """It comes from a URL: nothing else happens."""
    try:
        place = Place.from_token(token)
    except UnknownPlaceError:
        return
    assert Place.from_token(place.to_token()) == place


@pytest.mark.parametrize("token", ["", "x", "eA", "OTk5OTk5OTk5OTk5OTk5OTk5OSB4", "\udcff", "=" * 9])
def test_what_is_no_place_is_named(token: str) -> None:
    """With its beginning."""
    with pytest.raises(UnknownPlaceError, match="is no place that was given here"):
        Place.from_token(token)
