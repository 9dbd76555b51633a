"""What the library says about itself: sparingly, and never at the cost of its work."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from children import run_script
from execution_logger import diagnostics
from execution_logger.diagnostics import InternalErrors, Seldom, report

InternalErrorsSeen = list[tuple[str, BaseException]]


@pytest.fixture
def failing_handler() -> Iterator[None]:
    """A handler of the host's that raises, which the standard library lets through."""

    class Failing(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise ZeroDivisionError

    handler = Failing()
    diagnostics.logger.addHandler(handler)
    yield
    diagnostics.logger.removeHandler(handler)


def test_a_thing_is_said_once_an_hour_whatever_else_is_said() -> None:
    """Things that alternate do not make each other news; how many are remembered is bounded."""
    now = 0.0
    seldom = Seldom(lambda: now)
    assert [seldom.may_say(what) for what in "ababab"] == [True, True, False, False, False, False]
    now = 3600.0
    assert seldom.may_say("a")
    assert all(seldom.may_say(number) for number in range(1000))
    assert len(seldom._said) == 100


def test_each_kind_of_error_is_logged_once_and_counted_always(
    caplog: pytest.LogCaptureFixture, internal_errors: InternalErrorsSeen
) -> None:
    """A kind is where it happened and what it was."""
    errors = InternalErrors()
    for where, error in [("a", KeyError("1")), ("a", KeyError("2")), ("a", OSError()), ("b", KeyError("3"))]:
        errors.record(where, error)
    assert errors.count == 4
    assert [record.getMessage() for record in caplog.records] == [
        "internal error in a; entries are kept",
        "internal error in a; entries are kept",
        "internal error in b; entries are kept",
    ]
    assert "KeyError: '1'" in caplog.text
    assert [where for where, _ in internal_errors] == ["a", "a", "a", "b"]
    internal_errors.clear()


def test_it_is_said_on_the_librarys_logger(caplog: pytest.LogCaptureFixture) -> None:
    """Which a host can silence; and it is said where it was called."""
    report(logging.WARNING, "%d entries", 3)
    (record,) = caplog.records
    assert (record.name, record.getMessage()) == ("execution_logger", "3 entries")
    assert record.funcName == "test_it_is_said_on_the_librarys_logger"


@pytest.mark.usefixtures("failing_handler")
def test_a_handler_that_fails_ends_nothing(internal_errors: InternalErrorsSeen) -> None:
    """What was to be said is lost, and counted."""
    report(logging.WARNING, "hello")
    errors = InternalErrors()
    errors.record("a", KeyError())
    assert errors.count == 1
    assert [(where, type(error)) for where, error in internal_errors] == [
        ("logging", ZeroDivisionError),
        ("logging", ZeroDivisionError),
        ("a", KeyError),
    ]
    internal_errors.clear()


@pytest.mark.parametrize("configure", ["dictConfig({'version': 1})", "fileConfig(path)"])
def test_a_host_that_configures_logging_does_not_silence_us(configure: str, tmp_path: Path) -> None:
    """Both disable by default what they are not told of; a level is what switches us off."""
    path = tmp_path / "logging.ini"
    path.write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\nlevel=INFO\nhandlers=\n"
    )
    said = run_script(
        f"""
        import copy, logging, logging.config, pickle
        from execution_logger.diagnostics import logger, report
        path = {str(path)!r}
        other = logging.getLogger("other")
        logging.config.{configure}
        other.warning("silent")
        report(logging.WARNING, "entries are kept")
        logger.warning("said")
        assert pickle.loads(pickle.dumps(logger)) is logger
        logging.getLogger("execution_logger").setLevel(logging.CRITICAL)
        logger.warning("silent")
        """
    )
    assert said.splitlines() == ["entries are kept", "said"]
