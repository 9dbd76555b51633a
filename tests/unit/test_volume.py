"""Volume: what is recorded at all, by level and category, by the run, and by how many entries it has."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_logger import ExecutionLogger
from execution_logger.entry.entry import LogCategory, LogEntry, LogLevel
from execution_logger.entry.volume import Volume
from execution_logger.errors import SettingsError
from execution_logger.settings import Settings
from execution_logger.testing import MemoryDelivery

SETTINGS = Settings(journal=False, language="en")

Recorder = Callable[..., tuple[ExecutionLogger, MemoryDelivery]]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Makes loggers with these settings of the volume, and what they deliver to."""
    loggers = []

    def make(**settings: Any) -> tuple[ExecutionLogger, MemoryDelivery]:
        delivery = MemoryDelivery()
        logger = ExecutionLogger(replace(SETTINGS, **settings), make_delivery=lambda: delivery)
        loggers.append(logger)
        return logger, delivery

    yield make
    for logger in loggers:
        logger.sync.shutdown()


def recorded(logger: ExecutionLogger, delivery: MemoryDelivery) -> list[LogEntry]:
    """The entries that were."""
    assert logger.sync.flush().complete
    return msgspec.convert(delivery.entries, list[LogEntry])


def messages(logger: ExecutionLogger, delivery: MemoryDelivery) -> list[str]:
    """Those of the entries that were recorded."""
    return [entry.message for entry in recorded(logger, delivery)]


def test_by_default_everything_is_recorded(recorder: Recorder) -> None:
    """And a call is spared the question."""
    logger, _ = recorder()
    assert logger.sync.debug("r", "tool", "m").id
    assert logger._host.volume is None
    assert logger.stats()["left_out"] == 0


def test_the_least_grave_level_and_those_of_categories(recorder: Recorder) -> None:
    """By any of their names; levels and categories that nobody knows are recorded."""
    logger, delivery = recorder(level=("INFO", "tool = Err", "agent=debug"))
    for category in ("workflow", "tool", "agent", LogCategory.TOOL):
        for level in ("debug", "info", LogLevel.WARNING, "error", "mine"):
            logger.sync.log("r", level, category, f"{category} {level}")
    assert messages(logger, delivery) == [
        "workflow info", "workflow warning", "workflow error", "workflow mine",
        "tool error", "tool mine",
        "agent debug", "agent info", "agent warning", "agent error", "agent mine",
        "tool error", "tool mine",
    ]  # fmt: skip
    assert logger.stats()["left_out"] == 7
    assert logger.stats()["accepted"] == 13


def test_what_is_left_out_comes_back_without_an_id(recorder: Recorder) -> None:
    """With what names it, whatever that is; nothing raises because of it."""

    class Bad(str):
        __slots__ = ()
        __hash__ = None  # type: ignore[assignment]

        def __str__(self) -> str:
            raise ValueError("no")

    logger, delivery = recorder(level=("error",), run_max_entries=1)
    entry = logger.sync.info(None, "agent", "m", details={"a": 1})
    assert (entry.id, entry.task_id, entry.level, entry.message, entry.details) == ("", "", "info", "m", None)
    strange: tuple[Any, ...] = (Bad("x"), ["x"], {}, 5, None)
    for value in strange:
        logger.sync.info(value, value, value)
        assert logger.sync.log("r", value, value, "strange").id
    assert messages(logger, delivery) == ["strange"] * 5


RUNS = [f"run-{number}" for number in range(2000)]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_debug_entries_of_a_share_of_the_runs(share: float) -> None:
    """Of a run all or none, in every process the same; other levels and no run are not asked."""
    ours, others = (Volume(replace(SETTINGS, debug_share=share)) for _ in range(2))
    taken = {run for run in RUNS if ours.takes(run, "debug", "tool")}
    assert taken == {run for run in RUNS if others.takes(run, "debug", "agent")}
    assert abs(len(taken) / len(RUNS) - share) < 0.03
    assert all(ours.takes(run, "info", "tool") for run in RUNS)
    assert ours.takes(None, "debug", "tool")
    run = UUID("01a22505-c189-7200-be65-eeb94327379a")
    assert ours.takes(run, "debug", "tool") == ours.takes(str(run), "debug", "tool")


def test_the_choice_of_runs_never_changes() -> None:
    """Processes of different versions must agree."""
    volume = Volume(replace(SETTINGS, debug_share=0.3))
    assert [run for run in RUNS[:12] if volume.takes(run, "debug", "tool")] == CHOSEN


CHOSEN = ["run-1", "run-5", "run-9"]


def test_a_run_has_room_for_so_many_debug_and_info_entries(recorder: Recorder) -> None:
    """Graver ones are always recorded; the first, the tenth, the hundredth that finds none is said."""
    logger, delivery = recorder(run_max_entries=3)
    for number in range(30):
        logger.sync.info("r", "agent", f"info {number}")
    logger.sync.error("r", "agent", "bad")
    logger.sync.debug("other", "agent", "other")
    said = "This run has more than 3 entries: debug and info entries are left out, {} so far"
    assert messages(logger, delivery) == [
        *(f"info {number}" for number in range(3)), said.format(1), said.format(10), "bad", "other",
    ]  # fmt: skip
    marker = recorded(logger, delivery)[3]
    assert (marker.task_id, marker.level, marker.details) == ("r", "warning", {"left_out": 1, "limit": 3})
    assert logger.stats()["left_out"] == 27


def test_a_run_ends_with_how_many_were_left_out(recorder: Recorder) -> None:
    """Its own two entries are always there, as is the end of an operation that has begun."""
    logger, delivery = recorder(run_max_entries=2)
    with logger.run("r"), logger.timed_operation(None, "agent", "first"):
        for number in range(5):
            logger.sync.debug(None, "tool", str(number))
        with logger.timed_operation(None, "agent", "second"):
            pass
    names = [message for message in messages(logger, delivery) if not message.startswith("This run")]
    assert names == ["run started", "first started", "0", "first completed", "run completed"]
    assert recorded(logger, delivery)[-1].details == {"run_state": "done", "left_out": 6}
    logger.sync.info("r", "agent", "again")
    assert messages(logger, delivery)[-1] == "again"


def test_an_operation_that_fails_has_its_end(recorder: Recorder) -> None:
    """Though its beginning was left out."""
    logger, delivery = recorder(level=("error",))
    with pytest.raises(ValueError, match="no"), logger.timed_operation("r", "agent", "search"):
        raise ValueError("no")
    (entry,) = recorded(logger, delivery)
    assert (entry.message, entry.level) == ("search failed: no", "error")
    assert entry.operation_id is not None


def test_it_changes_while_the_process_runs(recorder: Recorder) -> None:
    """What is not named stays; all loggers that are bound to it follow."""
    logger, delivery = recorder()
    bound = logger.bind(agent_name="a")
    logger.set_volume(level="warn, tool=debug", run_max_entries=1)
    for category in ("agent", "tool", "tool"):
        bound.sync.info("r", category, category)
    logger.set_volume(run_max_entries=0)
    bound.sync.info("r", "agent", "still not")
    bound.sync.info("r", "tool", "again")
    logger.set_volume(level="debug")
    bound.sync.debug("r", "agent", "now")
    assert messages(logger, delivery)[::2] == ["tool", "again"]
    assert messages(logger, delivery)[-1] == "now"
    assert logger._host.volume is None
    assert logger.stats()["left_out"] == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"level": "loud"},
        {"level": "=info"},
        {"level": "tool=loud"},
        {"debug_share": 1.5},
        {"run_max_entries": -1},
    ],
    ids=str,
)
def test_a_wrong_value_is_named(recorder: Recorder, wrong: dict[str, Any]) -> None:
    """And nothing changes."""
    logger, _ = recorder(level=("info",))
    with pytest.raises(SettingsError, match=f"EXECUTION_LOGGER_{next(iter(wrong)).upper()}="):
        logger.set_volume(**wrong)
    assert not logger.sync.debug("r", "agent", "m").id


def test_threads_count_exactly() -> None:
    """Each number is given once, and so each marker is."""
    volume = Volume(replace(SETTINGS, run_max_entries=100))
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.extend(volume.over("r", "info") for _ in range(1000)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(found) == {0: 100, **dict.fromkeys(range(1, 3901), 1)}


def test_many_runs_take_little_memory() -> None:
    """That which began first is forgotten."""
    volume = Volume(replace(SETTINGS, run_max_entries=1))
    for number in range(10_001):
        volume.over(f"r{number}", "info")
    assert len(volume._runs) == 10_000
    assert (volume.over("r0", "info"), volume.over("r10000", "info")) == (0, 1)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(list(LogLevel))), max_size=200),
    st.integers(1, 9),
)
def test_no_run_has_more_than_its_room(calls: list[tuple[str, LogLevel]], most: int) -> None:
    """Of debug and info entries, and just that many where there were more."""
    volume = Volume(replace(SETTINGS, run_max_entries=most))
    taken = Counter(run for run, level in calls if not volume.over(run, level))
    small = Counter(run for run, level in calls if level in {"debug", "info"})
    grave = Counter(run for run, level in calls if level not in {"debug", "info"})
    for run in "abc":
        assert taken[run] == grave[run] + min(most, small[run])
        assert volume.end(run) == max(0, small[run] - most)
