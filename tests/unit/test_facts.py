"""The facts: every part is asked at the same time, and none of them for long."""

import threading
from collections.abc import Callable, Iterator

import pytest

from doubles import DEADLINE_SECONDS
from execution_logger import Settings
from execution_logger.errors import ExecutionLoggerError
from execution_logger.operate.asking import Asking, Facts, Part
from execution_logger.operate.facts import ask_for


class Silent:
    """A part that says a little and then nothing, until it is let go."""

    def __init__(self) -> None:
        self.times_asked = 0
        self.go = threading.Event()

    def read(self, facts: Facts) -> None:
        """Say which time it is."""
        self.times_asked += 1
        facts["time"] = self.times_asked
        assert self.go.wait(DEADLINE_SECONDS)
        facts["done"] = True


@pytest.fixture
def silent() -> Iterator[Silent]:
    """One that is let go in the end."""
    silent = Silent()
    yield silent
    silent.go.set()


def says(**facts: object) -> Callable[[Facts], None]:
    """A part with these facts."""
    return lambda found: found.update(facts)


def breaks(facts: Facts) -> None:
    """A part that fails halfway."""
    facts["half"] = 1
    raise ExecutionLoggerError("no more")


def ask(reads: dict[str, Callable[[Facts], None]]) -> dict[str, Part]:
    """What they say."""
    return Asking(reads, DEADLINE_SECONDS).ask()


def test_each_part_answers_for_itself() -> None:
    """One that fails hides neither the others nor what it has said before."""
    parts = ask({"a": says(x=1), "b": breaks, "c": says()})
    assert parts == {"a": Part({"x": 1}), "b": Part({"half": 1}, "no more"), "c": Part({})}


def test_parts_are_asked_at_the_same_time() -> None:
    """Each of these waits for the other one."""
    meeting = threading.Barrier(2, timeout=DEADLINE_SECONDS)

    def meet(facts: Facts) -> None:
        facts["met"] = meeting.wait() in (0, 1)

    assert ask({"a": meet, "b": meet}) == {"a": Part({"met": True}), "b": Part({"met": True})}


def test_a_part_that_hangs_is_not_waited_for(silent: Silent) -> None:
    """What it has said so far is shown, and it is not asked again before it has answered."""
    asking = Asking({"silent": silent.read, "other": says(x=1)}, answer_seconds=0.05)
    for _ in range(3):
        parts = asking.ask()
        assert parts["other"] == Part({"x": 1})
        assert parts["silent"].facts == {"time": 1}
        assert parts["silent"].error == "no answer within 0.05 s"
    silent.go.set()
    asking._answer_seconds = 10
    assert asking.ask()["silent"] == Part({"time": 1, "done": True})
    assert asking.ask()["silent"] == Part({"time": 2, "done": True})


def test_a_defect_is_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """It hides no other part, must not look like an outage, and is in the log with its traceback."""

    def defective(_: Facts) -> None:
        raise ZeroDivisionError("a bug")

    parts = ask({"a": defective, "b": says(x=1)})
    assert parts["b"] == Part({"x": 1})
    assert parts["a"].error == "this is a defect, please report it: ZeroDivisionError: a bug"
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize(
    ("celery_enabled", "asked"), [(True, ["journals", "queue", "workers"]), (False, ["journals"])]
)
def test_without_celery_nothing_of_it_is_asked(celery_enabled: bool, asked: list[str]) -> None:  # noqa: FBT001
    """There is none to be unreachable."""
    settings = Settings(celery_enabled=celery_enabled, database_url="sqlite:///x.db")
    found = ask_for(settings, ("journals", "queue", "workers"), DEADLINE_SECONDS)
    assert list(found._reads) == asked
