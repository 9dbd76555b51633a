"""The library says little about itself, and never fails because it cannot."""

import logging

import pytest

from execution_logger.diagnostics import InternalErrors, report

Errors = list[tuple[str, BaseException]]


class BrokenHandler(logging.Handler):
    """A handler of a host that fails."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError(record.getMessage())


def test_each_kind_of_error_is_logged_once(caplog: pytest.LogCaptureFixture, internal_errors: Errors) -> None:
    """An error that comes back a thousand times a second fills no disk; all are counted."""
    errors = InternalErrors()
    for _ in range(3):
        errors.record("shipper", ValueError("wrong"))
    errors.record("shipper", KeyError("wrong"))
    errors.record("buffer", KeyError("wrong"))
    assert errors.count == 5
    assert [record.getMessage() for record in caplog.records] == [
        "internal error in shipper; entries are kept",
        "internal error in shipper; entries are kept",
        "internal error in buffer; entries are kept",
    ]
    internal_errors.clear()


def test_an_error_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture, internal_errors: Errors
) -> None:
    """On the logger that hosts know the library by."""
    error = ValueError("wrong")
    InternalErrors().record("shipper", error)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("execution_logger", logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    internal_errors.clear()


def test_tests_see_every_error(internal_errors: Errors) -> None:
    """What production survives must not be overlooked here."""
    errors = [ValueError("1"), ValueError("2")]
    recorder = InternalErrors()
    for error in errors:
        recorder.record("shipper", error)
    assert internal_errors == [("shipper", errors[0]), ("shipper", errors[1])]
    internal_errors.clear()


def test_a_message_names_the_line_that_reports_it(caplog: pytest.LogCaptureFixture) -> None:
    """Not the one in this module."""
    report(logging.WARNING, "%s entries", 5)
    (record,) = caplog.records
    assert (record.getMessage(), record.levelno, record.filename) == (
        "5 entries",
        logging.WARNING,
        "test_diagnostics.py",
    )


def test_a_broken_handler_of_the_host_does_no_harm(internal_errors: Errors) -> None:
    """What was under way goes on."""
    logger, handler = logging.getLogger("execution_logger"), BrokenHandler()
    logger.addHandler(handler)
    try:
        report(logging.WARNING, "hello")
    finally:
        logger.removeHandler(handler)
    ((where, error),) = internal_errors
    assert where == "logging"
    assert str(error) == "hello"
    internal_errors.clear()
