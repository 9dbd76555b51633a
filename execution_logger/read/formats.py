"""Entries as text that other programs read: newline-delimited JSON, CSV, and traces for Perfetto."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from execution_logger.entry.entry import LogEntry, RunState
from execution_logger.read.place import micros
from execution_logger.read.tree import began_at, begins_run, ends, name_of, state_of
from execution_logger.store.table import FIELDS
from execution_logger.text import printable_json

_BYTE_ORDER_MARK = "\ufeff"
_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r")
_MOST_BARS = 5000

_encode = msgspec.json.Encoder().encode


class Format(Protocol):
    """A way to write entries."""

    def head(self) -> bytes:
        """What comes before them."""

    def body(self, entries: Iterable[LogEntry]) -> bytes:
        """Some of them, in the order of their times."""

    def foot(self) -> bytes:
        """What comes after the last one."""


class Ndjson:
    """Each entry as a JSON object on a line of its own, with every field, in UTF-8.

    Times are in UTC, as in "2026-11-22T02:13:53.123456Z"; a field without a value is null. What would steer
    a terminal is an escape.
    """

    def head(self) -> bytes:
        """Nothing."""
        return b""

    def body(self, entries: Iterable[LogEntry]) -> bytes:
        """A line for each."""
        return b"".join(map(_line, entries))

    def foot(self) -> bytes:
        """Nothing."""
        return b""


class Csv:
    """A row for each entry and a column for each field, as spreadsheets read it: RFC 4180, in UTF-8.

    It begins with a byte order mark, without which Excel takes UTF-8 for something else. Details are
    JSON. A text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe in
    front: a spreadsheet would take it for a formula, and whoever can log could have it calculate
    (https://owasp.org/www-community/attacks/CSV_Injection).
    """

    def head(self) -> bytes:
        """The names of the fields."""
        return (_BYTE_ORDER_MARK + _rows([FIELDS])).encode()

    def body(self, entries: Iterable[LogEntry]) -> bytes:
        """A row for each."""
        return _rows([_cell(getattr(entry, field)) for field in FIELDS] for entry in entries).encode(
            errors="replace"
        )

    def foot(self) -> bytes:
        """Nothing."""
        return b""


@dataclass(slots=True, eq=False)
class _Track:
    """A thread of a trace: its bars are within each other or apart."""

    tid: int
    bars: "list[_Bar]" = field(default_factory=list)
    """Those under way, each within the one before it."""
    free_from: int = 0


@dataclass(slots=True, eq=False)
class _Process:
    """A run of a trace."""

    pid: int
    tracks: list[_Track] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Bar:
    """An operation of a trace."""

    begin: LogEntry
    ts: int
    process: _Process
    track: _Track


class ChromeTrace:
    """The Trace Event Format, which https://ui.perfetto.dev and speedscope open, an event on each line.

    A run is a process. An operation is a complete event, from its first entry to its last one; where only
    the last one comes, its duration says when it began; one without an end lasts to the end of the trace.
    Every other entry is an instant. Times are microseconds since 1970, in UTC.

    Complete events of one thread must be within each other or apart (the format's definition is
    https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU). So an operation is on
    the thread of the one that it is within if nothing else is under way there, or else on another one. What
    is under way is in memory: at most 5,000 operations, beyond which the oldest is taken to have no end.
    """

    def __init__(self) -> None:
        self._processes: dict[str, _Process] = {}
        self._bars: dict[tuple[str, str], _Bar] = {}
        """Those under way, by run and operation, the oldest first."""
        self._names: list[dict[str, Any]] = []
        """What is new, and to be named before it is told of."""
        self._tids = 0
        self._now = 0
        self._separator = b""

    def head(self) -> bytes:
        """The beginning of a JSON object."""
        return b'{"displayTimeUnit":"ms","traceEvents":[\n'

    def body(self, entries: Iterable[LogEntry]) -> bytes:
        """What they tell."""
        return b"".join(map(self._lines, map(self._events, entries)))

    def foot(self) -> bytes:
        """What has no end, and the end of the object."""
        return self._lines(map(self._end, list(self._bars))) + b"]}\n"

    def _lines(self, events: Iterable[dict[str, Any]]) -> bytes:
        made = list(events)
        lines = [_json(event) for event in (*self._names, *made)]
        self._names.clear()
        if not lines:
            return b""
        separator, self._separator = self._separator, b","
        return separator + b",".join(lines)

    def _events(self, entry: LogEntry) -> Iterator[dict[str, Any]]:
        self._now = max(self._now, micros(entry.created_at))
        process = self._process_of(entry)
        if entry.operation_id is None:
            bar = self._bars.get((entry.task_id, entry.parent_id or ""))
            track = self._first_track(process) if bar is None else bar.track
            yield _event("i", process, track, micros(entry.created_at), entry) | {"s": "t"}
            return
        key = (entry.task_id, entry.operation_id)
        if key in self._bars and begins_run(entry):  # again, without an end between
            yield _event("i", process, self._bars[key].track, self._now, entry) | {"s": "t"}
        elif key in self._bars:
            yield self._end(key, entry)
        elif ends(entry):
            ts = micros(began_at(entry))
            track = self._free_track(process, ts)
            track.free_from = self._now
            yield _complete(_Bar(entry, ts, process, track), self._now, entry)
        else:
            self._begin(key, process, entry)
            if len(self._bars) > _MOST_BARS:
                yield self._end(next(iter(self._bars)))

    def _begin(self, key: tuple[str, str], process: _Process, entry: LogEntry) -> None:
        ts = micros(entry.created_at)
        parent = self._bars.get((entry.task_id, entry.parent_id or ""))
        # Of two bars with one beginning a reader takes the one that is written first for the outer one.
        is_alone = parent is not None and parent.track.bars[-1] is parent and parent.ts < ts
        track = parent.track if parent is not None and is_alone else self._free_track(process, ts)
        bar = self._bars[key] = _Bar(entry, ts, process, track)
        track.bars.append(bar)

    def _end(self, key: tuple[str, str], end: LogEntry | None = None) -> dict[str, Any]:
        bar = self._bars.pop(key)
        track = bar.track
        place = track.bars.index(bar)
        outliving = track.bars[place + 1 :]
        del track.bars[place:]
        track.free_from = self._now
        if outliving:  # what ends later than what it is within
            other = self._free_track(bar.process, outliving[0].ts)
            other.bars = outliving
            for each in outliving:
                each.track = other
        return _complete(bar, self._now, end)

    def _process_of(self, entry: LogEntry) -> _Process:
        process = self._processes.get(entry.task_id)
        if process is None:
            process = self._processes[entry.task_id] = _Process(len(self._processes) + 1)
            self._names.append(_name("process_name", process.pid, 0, entry.task_id))
        return process

    def _free_track(self, process: _Process, ts: int) -> _Track:
        """One on which nothing is under way, nor was since then."""
        free = (track for track in process.tracks if not track.bars and track.free_from <= ts)
        return next(free, None) or self._new_track(process)

    def _first_track(self, process: _Process) -> _Track:
        return process.tracks[0] if process.tracks else self._new_track(process)

    def _new_track(self, process: _Process) -> _Track:
        self._tids += 1  # Perfetto knows a thread by its id alone
        track = _Track(self._tids)
        process.tracks.append(track)
        name = f"operations {len(process.tracks)}"
        self._names.append(_name("thread_name", process.pid, track.tid, name))
        return track


FORMATS: Mapping[str, Callable[[], Format]] = {"ndjson": Ndjson, "csv": Csv, "chrome-trace": ChromeTrace}


def _line(entry: LogEntry) -> bytes:
    return _json({field: getattr(entry, field) for field in FIELDS})


def _json(fields: dict[str, Any]) -> bytes:
    try:
        text = _encode(fields).decode()
    except UnicodeEncodeError:  # half a character in JSON that a host has stored itself
        text = json.dumps(msgspec.to_builtins(fields))
    return printable_json(text).encode() + b"\n"


def _complete(bar: _Bar, until: int, end: LogEntry | None) -> dict[str, Any]:
    event = _event("X", bar.process, bar.track, bar.ts, bar.begin)
    begin, ended = event["args"], {} if end is None else _args(end)
    details = begin.get("details", {}) | ended.get("details", {})
    args = begin | ended | ({"details": details} if details else {})
    state = RunState.NO_END if end is None else state_of(end)
    return event | {
        "dur": max(until - bar.ts, 0),
        "name": name_of(bar.begin),
        "args": args | {"state": state},
    }


def _event(phase: str, process: _Process, track: _Track, ts: int, entry: LogEntry) -> dict[str, Any]:
    return {
        "ph": phase, "pid": process.pid, "tid": track.tid, "ts": ts,
        "name": entry.message or "", "cat": entry.category or "", "args": _args(entry),
    }  # fmt: skip


def _args(entry: LogEntry) -> dict[str, Any]:
    """All of an entry that an event says nowhere else, and that it has."""
    names = (name for name in FIELDS if name not in ("task_id", "category", "created_at"))
    return {name: value for name in names if (value := getattr(entry, name)) is not None}


def _name(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": pid, "tid": tid, "ts": 0, "name": kind, "args": {"name": name or ""}}


def _rows(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> str | int | None:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    text = value if isinstance(value, str) else str(msgspec.to_builtins(value))
    return f"'{text}" if text.startswith(_FORMULA_BEGINS) else text
