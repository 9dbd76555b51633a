"""A timed block: an entry when it begins, one when it ends, and what the block raises goes on."""

import asyncio
import copy
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import trio

from execution_logger.api.operations import TimedOperation
from execution_logger.entry.entry import LogEntry, LogLevel

Recorded = list[tuple[LogLevel, str, int | None, Any]]


class Timed:
    """A timed operation, and what it records."""

    def __init__(self, name: Any = "search", language: str = "zh") -> None:
        self.recorded: Recorded = []
        self.operation = TimedOperation(self._record, name, language)

    def _record(
        self, level: LogLevel, message: str, duration_ms: int | None, details: Any, *_: Any
    ) -> LogEntry:
        self.recorded.append((level, message, duration_ms, None if details is None else dict(details)))
        return LogEntry("id", datetime.now(UTC), "", level, "", message)

    def fail(self, error: BaseException, details: dict[str, Any], before: Callable[[], object] = int) -> None:
        """Run a block that sets details and raises."""
        with self.operation as timer:
            timer.set_details(details)
            before()
            raise error

    @property
    def last(self) -> tuple[LogLevel, str, int | None, Any]:
        """The latest entry."""
        return self.recorded[-1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stops the time, and lets these seconds pass at each call."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def test_a_block_that_completes(clock: Callable[[float], None]) -> None:
    """Its duration is in whole milliseconds; the first entry is there before the block runs."""
    timed = Timed()
    with timed.operation as timer:
        assert timed.recorded == [(LogLevel.INFO, "search 开始", None, None)]
        timer.set_details({"found": 3})
        clock(1.2346)
    assert timed.recorded[1:] == [(LogLevel.INFO, "search 完成", 1235, {"found": 3})]


def test_a_block_that_raises(clock: Callable[[float], None]) -> None:
    """The error is in the text and in the details, and goes on."""
    timed = Timed()
    error = ValueError("no such index")
    with pytest.raises(ValueError, match="index") as caught:
        timed.fail(error, {"found": 3}, lambda: clock(0.5))
    assert caught.value is error
    details = {"error": "no such index", "found": 3}
    assert timed.last == (LogLevel.ERROR, "search 失败: no such index", 500, details)


def test_the_text_has_the_first_100_characters_of_an_error() -> None:
    """The details have all of them."""
    timed = Timed()
    with pytest.raises(ValueError, match="x"), timed.operation:
        raise ValueError("x" * 101)
    assert timed.last[1] == "search 失败: " + "x" * 100
    assert timed.last[3] == {"error": "x" * 101}


def test_details_of_the_timer_win_over_the_error() -> None:
    """As the contract has it: `{"error": str(exc), **timer.details}`."""
    timed = Timed()
    with pytest.raises(KeyError):
        timed.fail(KeyError(), {"error": "mine"})
    assert timed.last[3] == {"error": "mine"}


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit])
def test_a_block_that_is_cancelled(error: type[BaseException]) -> None:
    """A warning, with what there is, and the cancellation goes on."""
    timed = Timed()
    with pytest.raises(error):
        timed.fail(error(), {"found": 3})
    level, text, duration_ms, details = timed.last
    assert (level, text, details) == (LogLevel.WARNING, "search 已取消", {"found": 3})
    assert duration_ms is not None


@pytest.mark.parametrize(
    ("errors", "level"),
    [
        ([asyncio.CancelledError(), BaseExceptionGroup("", [GeneratorExit()])], LogLevel.WARNING),
        ([asyncio.CancelledError(), BaseExceptionGroup("", [ValueError()])], LogLevel.ERROR),
    ],
)
def test_a_block_of_which_each_part_is_cancelled(errors: list[BaseException], level: LogLevel) -> None:
    """Nothing has failed, unless one of them has."""
    timed = Timed()
    with pytest.raises(BaseExceptionGroup):
        timed.fail(BaseExceptionGroup("all of them", errors), {})
    assert timed.last[0] == level


def test_a_block_that_trio_cancels() -> None:
    """Its exception is another one than asyncio's."""
    timed = Timed()

    async def work() -> None:
        with trio.move_on_after(0):
            async with timed.operation:
                await trio.sleep_forever()

    trio.run(work)
    assert timed.last[:2] == (LogLevel.WARNING, "search 已取消")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_block_that_ends_the_program(error: type[BaseException]) -> None:
    """It did not complete."""
    timed = Timed()
    with pytest.raises(error), timed.operation:
        raise error
    assert timed.last[0] is LogLevel.ERROR


async def test_a_task_that_is_cancelled() -> None:
    """It ends as cancelled, not as completed."""
    timed, began = Timed(), asyncio.Event()

    async def work() -> None:
        async with timed.operation:
            began.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert timed.last[:2] == (LogLevel.WARNING, "search 已取消")


async def test_with_and_without_async() -> None:
    """The entries are the same."""
    plain, with_async = Timed(), Timed()
    with plain.operation:
        pass
    async with with_async.operation as timer:
        assert timer is with_async.operation
    assert [entry[:2] for entry in plain.recorded] == [entry[:2] for entry in with_async.recorded]


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("zh", ["a 开始", "a 完成", "a 已取消", "a 失败: x"]),
        ("en", ["a started", "a completed", "a cancelled", "a failed: x"]),
    ],
)
def test_the_texts(language: str, texts: list[str]) -> None:
    """Dashboards match on them."""
    found = []
    for error in (None, asyncio.CancelledError(), ValueError("x")):
        timed = Timed("a", language)
        timed.operation.__enter__()
        timed.operation.__exit__(type(error) if error else None, error, None)
        found += [entry[1] for entry in timed.recorded]
    assert list(dict.fromkeys(found)) == texts


def test_a_name_with_braces_is_a_name() -> None:
    """It is put into a template, and is none."""
    timed = Timed("{0} {name} {}")
    with timed.operation:
        pass
    assert timed.last[1] == "{0} {name} {} 完成"


def test_details_are_gathered_and_readable() -> None:
    """Later ones win; they can be set one by one, too."""
    timed = Timed()
    with timed.operation as timer:
        assert timer.details == {}
        timer.set_details({"a": 1, "b": 1})
        timer.set_details({"b": 2})
        timer.details["c"] = 3
        assert timer.details == {"a": 1, "b": 2, "c": 3}
    assert timed.last[3] == {"a": 1, "b": 2, "c": 3}


def test_a_deep_copy_is_itself() -> None:
    """Of a host's data that has one that is entered: there is one block, and one end."""
    timed = Timed()
    with timed.operation as timer:
        copy.deepcopy({"timer": timer})["timer"].set_details({"n": 1})
    assert timed.last[3] == {"n": 1}


def test_without_details_there_are_none() -> None:
    """Not even empty ones."""
    timed = Timed()
    with timed.operation as timer:
        timer.set_details({})
    assert timed.last[3] is None


class Hostile:
    """An object that cannot be shown, read or formatted."""

    def __str__(self) -> str:
        raise SystemExit

    def __format__(self, _: str) -> str:
        raise ValueError

    def __iter__(self) -> Iterator[Any]:
        raise RecursionError

    __repr__ = __str__


@pytest.mark.parametrize("details", ["text", 5, [1, 2], Hostile(), object()])
def test_details_that_are_no_dict_are_kept(details: Any) -> None:
    """The block is not the place to raise for them."""
    timed = Timed()
    with timed.operation as timer:
        timer.set_details({"a": 1})
        timer.set_details(details)
    assert timed.last[3] == {"a": 1, "details": details}


@pytest.mark.parametrize("name", [None, 5, Hostile(), b"x"])
def test_a_name_that_is_no_text_is_shown(name: Any) -> None:
    """As well as it can be."""
    timed = Timed(name)
    with timed.operation:
        pass
    assert timed.last[1].endswith(" 完成")


def test_an_error_that_cannot_be_shown_goes_on() -> None:
    """It is the one that the caller must see, not what its text raises."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise SystemExit

    timed = Timed()
    with pytest.raises(MuteError), timed.operation:
        raise MuteError
    assert timed.last[1] == "search 失败: <unreadable MuteError>"
