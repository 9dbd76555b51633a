"""Entries as text that other programs read."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_logger import LogEntry
from execution_logger.read import formats
from execution_logger.read.formats import ChromeTrace, Csv, Format, Ndjson
from execution_logger.store.table import FIELDS

START = datetime(2026, 11, 22, 2, 13, tzinfo=UTC)
HOSTILE = 'said "x";\n=1+1,\t你好\r\n\0'


def entry(**changed: Any) -> LogEntry:
    """A bare entry."""
    usual = {"id": "i", "task_id": "t", "level": "info", "category": "c", "message": "m"}
    return LogEntry(**{**usual, "created_at": datetime(2026, 11, 22, 2, 13, 53, 123456, UTC), **changed})


def rows_of(*entries: LogEntry) -> list[dict[str, str]]:
    """What a spreadsheet reads."""
    text = (Csv().head() + Csv().body(entries)).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_ndjson_has_every_field() -> None:
    """One object a line, whatever is in the texts."""
    text = Ndjson().head() + Ndjson().body([entry(message=HOSTILE, details={"n": 2**70}), entry()])
    first, second = map(json.loads, text.splitlines())
    assert list(first) == list(FIELDS)
    assert first["message"] == HOSTILE
    assert first["details"] == {"n": 2**70}
    assert first["created_at"] == "2026-11-22T02:13:53.123456Z"
    assert second["step"] is second["duration_ms"] is None


def test_csv_has_every_field() -> None:
    """In a column of its own, whatever is in the texts; what is absent is empty."""
    first, second = rows_of(
        entry(message=HOSTILE, details={"名": [1, None]}, duration_ms=-7, step="s"), entry()
    )
    assert list(first) == list(FIELDS)
    assert first["message"] == HOSTILE
    assert json.loads(first["details"]) == {"名": [1, None]}
    assert (first["duration_ms"], first["step"]) == ("-7", "s")
    assert first["created_at"] == "2026-11-22T02:13:53.123456Z"
    assert (second["duration_ms"], second["step"], second["details"]) == ("", "", "")


def test_csv_says_that_it_is_utf_8() -> None:
    """Excel would take it for something else."""
    assert Csv().head().startswith(b"\xef\xbb\xbfid,task_id,")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=HYPERLINK(...)"])
def test_a_text_that_a_spreadsheet_would_calculate_gets_an_apostrophe(text: str) -> None:
    """In any field; other texts and numbers stay as they are."""
    (row,) = rows_of(entry(message=text, task_id=text, category="a=b", duration_ms=-1))
    assert (row["message"], row["task_id"]) == (f"'{text}", f"'{text}")
    assert (row["category"], row["duration_ms"]) == ("a=b", "-1")


@pytest.mark.parametrize("form", [Ndjson, Csv])
def test_half_a_character_is_no_error(form: Any) -> None:
    """A host may have stored such JSON itself."""
    written: Format = form()
    assert written.body([entry(details={"a": "\ud800"}), entry()]).count(b"\n") == 2


def at(
    microseconds: int, operation: str | None = None, parent: str | None = None, **changed: Any
) -> LogEntry:
    """An entry so long after the start."""
    moment = START + timedelta(microseconds=microseconds)
    return entry(id=str(microseconds), created_at=moment, operation_id=operation, parent_id=parent, **changed)


def traced(*pages: list[LogEntry]) -> list[dict[str, Any]]:
    """The events of a trace of these, without those that only name things; times from the start on."""
    trace = ChromeTrace()
    text = b"".join([trace.head(), *map(trace.body, pages), trace.foot()])
    began = int(START.timestamp()) * 1_000_000
    events = json.loads(text)["traceEvents"]
    named = {(each["pid"], each["tid"]) for each in events if each["ph"] == "M"}
    assert {(each["pid"], each["tid"]) for each in events} <= named
    return [each | {"ts": each["ts"] - began} for each in events if each["ph"] != "M"]


def bars(events: list[dict[str, Any]]) -> dict[str, tuple[int, int, int]]:
    """Of each operation the thread, its beginning and its end."""
    return {e["name"]: (e["tid"], e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X"}


def check_threads(events: list[dict[str, Any]]) -> None:
    """Bars of a thread are within each other or apart: nothing else is shown as it is."""
    threads: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for each in events:
        if each["ph"] == "X":
            threads.setdefault((each["pid"], each["tid"]), []).append((each["ts"], each["ts"] + each["dur"]))
    for intervals in threads.values():
        for (a, b), (c, d) in combinations(intervals, 2):
            assert b <= c or d <= a or (a < c and d <= b) or (c < a and b <= d), (intervals, threads)


def test_a_trace_shows_what_is_within_what() -> None:
    """On one thread what comes one after the other, on several what goes on at the same time."""
    events = traced(
        [at(0, "a", message="run started"), at(1, "b", "a", message="one started")],
        [
            at(2, None, "b", message="note", details={"n": 1}),
            at(3, "b", "a", message="one ok", duration_ms=0),
        ],
        [at(4, "c", "a", message="two started"), at(5, "d", "a", message="three started")],
        [at(6, "e", "c", message="four started"), at(7, "e", "c", message="four ok", duration_ms=0)],
        [at(8, "d", "a", message="three ok", duration_ms=0), at(9, "c", "a", message="ok", duration_ms=0)],
        [at(10, "a", message="run failed: no", level="error", duration_ms=0, details={"error": "no"})],
    )
    check_threads(events)
    assert bars(events) == {
        "one": (1, 1, 3), "four": (1, 6, 7), "three": (2, 5, 8), "two": (1, 4, 9), "run": (1, 0, 10),
    }  # fmt: skip
    (note,) = (each for each in events if each["ph"] == "i")
    assert (note["name"], note["tid"], note["ts"], note["s"]) == ("note", 1, 2, "t")
    assert note["args"]["details"] == {"n": 1}
    run = events[-1]
    assert (run["args"]["state"], run["args"]["details"], run["cat"]) == ("failed", {"error": "no"}, "c")


def test_a_trace_shows_what_outlives_what_it_is_within() -> None:
    """On a thread of its own, with what is within it."""
    events = traced(
        [at(0, "a", message="a started"), at(1, "b", "a", message="b started")],
        [at(2, "c", "b", message="c started"), at(3, "a", message="a ok", duration_ms=0)],
        [at(4, "c", "b", message="ok", duration_ms=0), at(5, "b", "a", message="ok", duration_ms=0)],
    )
    check_threads(events)
    assert bars(events) == {"a": (1, 0, 3), "b": (2, 1, 5), "c": (2, 2, 4)}


def test_a_trace_shows_what_is_known_of_an_operation() -> None:
    """Of its end the duration tells the beginning; what has no end lasts to that of the trace."""
    events = traced(
        [at(1000, "a", message="a started"), at(3000, "b", "a", message="b completed", duration_ms=2)],
        [at(4000, task_id="other", message="last")],
    )
    check_threads(events)
    assert bars(events) == {"b": (2, 1000, 3000), "a": (1, 1000, 4000)}
    assert [each["args"]["state"] for each in events if each["ph"] == "X"] == ["done", "no end recorded"]
    assert [each["pid"] for each in events] == [1, 2, 1]


def test_a_trace_shows_a_run_that_ends_in_another_process() -> None:
    """By what its entries say of it; where it begins twice, there is one bar."""
    running, done = {"run_state": "running"}, {"run_state": "done"}
    events = traced(
        [at(each, "a", message="a started", details=running) for each in (0, 2)],
        [at(5, "a", message="a completed", details=done), at(9, "b", message="b completed", details=done)],
    )
    check_threads(events)
    assert bars(events) == {"a": (1, 0, 5), "b": (1, 9, 9)}
    assert [each["args"]["state"] for each in events if each["ph"] == "X"] == ["done", "done"]
    assert [each["ts"] for each in events if each["ph"] == "i"] == [2]


def test_a_trace_of_nothing_is_valid() -> None:
    """And empty."""
    assert traced() == traced([]) == []


@given(
    st.lists(
        st.tuples(
            st.none() | st.sampled_from("abcdefgh"),
            st.none() | st.sampled_from("abcdefgh"),
            st.integers(0, 3),
            st.none() | st.integers(0, 5),
        ),
        max_size=40,
    )
)
def test_a_trace_of_anything_can_be_shown(rows: list[tuple[Any, Any, int, Any]]) -> None:
    """Every operation is there, and no two bars of a thread cross, whatever ends when."""
    moment, entries = 0, []
    for operation, parent, step, duration_ms in rows:
        moment += 1000 * step
        entries.append(at(moment, operation, parent, duration_ms=duration_ms, message=operation or "-"))
    events = traced(entries[:20], entries[20:])
    check_threads(events)
    assert {each["name"] for each in events if each["ph"] == "X"} == {op for op, *_ in rows if op}
    assert sum(each["ph"] == "i" for each in events) == sum(op is None for op, *_ in rows)


def test_a_trace_keeps_little_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of operations without an end only the latest are waited for; all are shown."""
    monkeypatch.setattr(formats, "_MOST_BARS", 10)
    trace = ChromeTrace()
    text = trace.head()
    for number in range(2000):
        text += trace.body([at(number, f"{number}", f"{number - 1}", message=f"{number} started")])
        assert len(trace._bars) <= 10
    events = json.loads(text + trace.foot())["traceEvents"]
    found = [each for each in events if each["ph"] == "X"]
    assert len(found) == 2000
    assert {each["args"]["state"] for each in found} == {"no end recorded"}


def test_half_a_character_is_no_error_in_a_trace() -> None:
    """A host may have stored such JSON itself."""
    (event,) = traced([entry(details={"a": "\ud800"})])
    assert event["args"]["details"] == {"a": "\ud800"}
