"""The examination: side by side, within its time, whatever a check does."""

import threading
import time
from collections.abc import Iterator

import pytest

from doubles import DEADLINE_SECONDS
from execution_logger import Settings
from execution_logger.errors import SettingsError, StoreUnavailableError
from execution_logger.operate import doctor as examination
from execution_logger.operate.doctor import AREAS, Finding, Level, Subject, examine, worst
from execution_logger.operate.doctor.finding import compare_clocks, error, ok, warning

SUBJECT = Subject(Settings(), {}, time.time)


def good(_: Subject) -> Iterator[Finding]:
    """All is well."""
    yield ok("database.table", "a table")


def away(_: Subject) -> Iterator[Finding]:
    """A server that does not answer."""
    yield error("broker.connection", "refused", "start it")


def test_lines_run_side_by_side_and_are_shown_in_order() -> None:
    """Each of these waits for the other one."""
    both = threading.Barrier(2)

    def first(_: Subject) -> Iterator[Finding]:
        both.wait(DEADLINE_SECONDS)
        yield ok("settings.values", "a")

    def second(_: Subject) -> Iterator[Finding]:
        both.wait(DEADLINE_SECONDS)
        yield ok("database.table", "b")

    found = examine(SUBJECT, lines=[[("database", second)], [("settings", first)]])
    assert [finding.what for finding in found] == ["a", "b"]


def test_what_hangs_is_a_finding_and_hides_nothing() -> None:
    """What its check has found before is there, too; and what it finds later is not waited for."""
    go_on, is_over = threading.Event(), threading.Event()

    def hangs(_: Subject) -> Iterator[Finding]:
        yield warning("broker.eviction", "something", "do it")
        go_on.wait(DEADLINE_SECONDS)
        try:
            yield ok("broker.queue", "too late")
        finally:
            is_over.set()

    found = examine(SUBJECT, lines=[[("broker", hangs)], [("database", good)]], limit_seconds=1)
    go_on.set()
    assert [(finding.name, finding.level) for finding in found] == [
        ("broker.eviction", Level.WARNING),
        ("broker.connection", Level.ERROR),
        ("database.table", Level.OK),
    ]
    assert found[1].what == "no answer within 1 s"
    assert is_over.wait(DEADLINE_SECONDS)
    assert len(found) == 3


def test_of_a_server_that_is_away_no_more_is_asked() -> None:
    """The next check of its line would say the same."""
    found = examine(SUBJECT, lines=[[("broker", away), ("workers", good)]])
    assert [finding.name for finding in found] == ["broker.connection"]


@pytest.mark.parametrize(
    ("failure", "name", "what"),
    [
        (StoreUnavailableError("it is away"), "database.connection", "it is away"),
        (PermissionError(13, "Permission denied"), "database.connection", "Permission denied"),
        (SettingsError("X=1: must be 2"), "database.settings", "X=1: must be 2"),
        (KeyError("x"), "database.check", "could not be examined: KeyError: 'x'"),
    ],
)
def test_a_check_that_fails_is_a_finding(failure: Exception, name: str, what: str) -> None:
    """Never a traceback."""

    def fails(_: Subject) -> Iterator[Finding]:
        yield from ()
        raise failure

    (finding,) = examine(SUBJECT, lines=[[("database", fails)]])
    assert (finding.name, finding.level) == (name, Level.ERROR)
    assert what in finding.what


def test_what_is_not_wanted_is_left_out() -> None:
    """By area."""
    found = examine(SUBJECT, {"broker"}, lines=[[("broker", away), ("database", good)]])
    assert [finding.area for finding in found] == ["database"]


def areas_of(settings: Settings) -> list[list[str]]:
    """The areas that are examined, line by line."""
    return [[area for area, _ in line] for line in examination._lines_for(settings)]


def test_every_area_is_examined_and_servers_of_their_own_at_the_same_time() -> None:
    """Confirmations in the broker's Redis are asked for behind it."""
    lines = areas_of(Settings())
    assert sorted(area for line in lines for area in line) == sorted(AREAS)
    assert ["broker", "results", "workers"] in lines
    assert ["results"] in areas_of(Settings(result_backend="redis://elsewhere:1/0"))
    without = Settings(celery_enabled=False, database_url="sqlite:///x")
    assert areas_of(without) == [["settings", "journal"], ["database"]]


def test_the_worst_level_counts() -> None:
    """Nothing at all is all right."""
    assert worst([]) is Level.OK
    assert worst([ok("a.b", "")]) is Level.OK
    assert worst([error("a.b", "", ""), warning("a.b", "", ""), ok("a.b", "")]) is Level.ERROR


@pytest.mark.parametrize(
    ("told", "between", "what"),
    [
        (1000.0, (1000.0, 1000.0), None),
        (1002.0, (1000.0, 1000.0), None),
        (1003.0, (1000.0, 1000.0), "3 s ahead of"),
        (996.0, (1000.0, 1000.0), "4 s behind"),
        (1004.0, (1000.0, 1006.0), None),
        (1010.0, (1000.0, 1006.0), "7 s ahead of"),
    ],
)
def test_clocks_differ_when_nothing_else_explains_it(
    told: float, between: tuple[float, float], what: str | None
) -> None:
    """An answer that was long on its way may have been given at any moment of it."""
    found = list(compare_clocks("broker", "Redis'", told, *between))
    assert [finding.name for finding in found] == ([] if what is None else ["broker.clock"])
    assert what is None or what in found[0].what
