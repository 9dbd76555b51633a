"""A report says in one line where the entries are."""

import dataclasses

import pytest

from execution_logger import Report


def test_all_is_delivered() -> None:
    """What failed before that is of no interest."""
    report = Report(complete=True, delivered=5, waiting=0, elapsed_seconds=0.1234, last_error="refused")
    assert str(report) == "5 delivered, 0 waiting after 0.12 s"


def test_some_wait() -> None:
    """With the reason."""
    report = Report(
        complete=False, delivered=0, waiting=5, elapsed_seconds=2, last_error="connection refused"
    )
    assert str(report) == "0 delivered, 5 waiting after 2.00 s: connection refused"


def test_some_were_dropped() -> None:
    """With the reasons."""
    report = Report(
        complete=True, delivered=1, waiting=0, elapsed_seconds=2, dropped={"buffer_full": 3, "refused": 1}
    )
    assert str(report) == "1 delivered, 0 waiting, 3 dropped (buffer_full), 1 dropped (refused) after 2.00 s"


def test_a_report_does_not_change() -> None:
    """It tells of one moment."""
    report = Report(complete=True, delivered=1, waiting=0, elapsed_seconds=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.delivered = 2  # type: ignore[misc]
    assert report.dropped == {}
    assert report.last_error is None


def test_what_is_unconfirmed_is_told_when_there_is_any() -> None:
    """It is sent, and neither waits nor is known to be stored."""
    report = Report(complete=True, delivered=5, waiting=0, elapsed_seconds=0.5, unconfirmed=3)
    assert str(report) == "5 delivered, 0 waiting, 3 unconfirmed after 0.50 s"
    assert "unconfirmed" not in str(Report(complete=True, delivered=5, waiting=0, elapsed_seconds=0.5))
