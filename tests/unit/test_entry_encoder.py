"""Every call makes an entry and its JSON, the same way for plain data and for anything else."""

import json
import os
import sqlite3
import sys
import threading
import tracemalloc
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anything import Anything, laughs, nested, plain_details, plain_texts
from execution_logger.entry import encoder as encoder_module
from execution_logger.entry import masking as masking_module
from execution_logger.entry.changes import CHANGED
from execution_logger.entry.encoder import EntryEncoder, entry_clock
from execution_logger.entry.entry import MAX_DURATION_MS, NO_TREE, LogCategory, LogEntry, LogLevel, TreeIds
from execution_logger.entry.masking import MASK, WINDOW_CHARS, SensitiveKeys
from execution_logger.entry.sanitizer import Sanitizer
from execution_logger.settings import SENSITIVE_KEYS, Settings

SIZES = (1024, 1500, 20_000, 262_144)
ENCODERS = {size: EntryEncoder(Settings(max_entry_bytes=size)) for size in SIZES}
KEYS = SensitiveKeys(SENSITIVE_KEYS)


class Key(str):  # noqa: SLOT000 - as hosts have them
    """A key that is no plain text."""


def make(*fields: Any, max_bytes: int = 262_144, **more: Any) -> tuple[LogEntry, bytes]:
    """The entry and its JSON of a call, which are what every stage after it relies on."""
    entry, encoded = ENCODERS[max_bytes].make(*fields, **more)
    assert len(encoded) <= max_bytes
    decoded = json.loads(encoded, parse_constant=pytest.fail)
    assert msgspec.json.decode(encoded, type=LogEntry) == entry
    assert None not in decoded.values()
    for text in texts_in(decoded):
        assert "\0" not in text
        assert text.encode().decode() == text
    assert entry.duration_ms is None or 0 <= entry.duration_ms <= MAX_DURATION_MS
    return entry, encoded


def make_simple(**more: Any) -> LogEntry:
    """An entry with these fields."""
    return make("task", "info", "agent", "message", **more)[0]


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a decoded JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts_in(item)


@pytest.fixture
def no_thorough_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test whose data is not taken for plain."""

    def fail(*_: object) -> None:
        pytest.fail("this is plain data")

    monkeypatch.setattr(encoder_module, "Sanitizer", fail)


# The entry ----------------------------------------------------------------------------------------


def test_the_json_is_the_wire_format() -> None:
    """What is None is absent; the time is UTC, in microseconds."""
    now = datetime(2026, 11, 22, 2, 13, 53, 123456, UTC)
    made = EntryEncoder(Settings(), entry_clock(lambda: now)).make(
        "task", LogLevel.INFO, "agent", "hi", step="s"
    )
    assert json.loads(made[1]) == {
        "id": made[0].id, "created_at": "2026-11-22T02:13:53.123457Z", "task_id": "task", "level": "info",
        "category": "agent", "message": "hi", "step": "s",
    }  # fmt: skip


def test_the_fields_are_those_of_the_call() -> None:
    """In the order of the parameters of `log`."""
    fields = ("task", "info", "agent", "hi", "step", "name", "roadmap", "concept", {"a": 1}, 5)
    entry, _ = make(*fields)
    assert fields == (
        entry.task_id, entry.level, entry.category, entry.message, entry.step, entry.agent_name,
        entry.roadmap_id, entry.concept_id, entry.details, entry.duration_ms,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["a long text " * 1000, "\0" * 2000])
def test_a_large_entry_takes_no_more_memory_than_its_json(text: str) -> None:
    """The room in which it was made is given back, on both ways: thousands wait in an outage."""
    make("t", "info", "agent", text)
    tracemalloc.start()
    try:
        kept = [make("t", "info", "agent", text)[1] for _ in range(20)]
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < 1.1 * sum(map(len, kept))


def test_ids_are_uuids_in_the_order_of_the_calls() -> None:
    """Version 7: rows that are written together stand together in the index."""
    ids = [make_simple().id for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert {uuid.UUID(identity).version for identity in ids} == {7}


def test_times_are_in_the_order_of_the_calls() -> None:
    """Also when the wall clock stands still or is set back."""
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    seconds = iter([0, 0, 0, -3600, -3600, 5, 5])
    made = EntryEncoder(Settings(), entry_clock(lambda: noon + timedelta(seconds=next(seconds))))
    entries = [made.make("task", "info", "agent", "message")[0] for _ in range(6)]
    assert all(earlier.created_at < later.created_at for earlier, later in pairwise(entries))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_processes_that_were_forked_make_different_ids() -> None:
    """The same ids would be one row to the database."""
    ids = [make_simple().id for _ in range(100)]
    for _ in range(4):
        reader, writer = os.pipe()
        if not (child := os.fork()):
            os.write(writer, b"".join(make_simple().id.encode() for _ in range(1000)))
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            text = pipe.read()
        os.waitpid(child, 0)
        ids += [text[start : start + 36] for start in range(0, len(text), 36)]
    random_parts = [identity[19:] for identity in ids]
    assert len(ids) == 4100
    assert len(set(random_parts)) == len(ids)


# Both ways ----------------------------------------------------------------------------------------


@given(plain_details, plain_texts, plain_texts, st.integers(0, MAX_DURATION_MS) | st.none())
def test_both_ways_make_the_same_json_of_plain_data(
    details: dict[str, Any], text: str, message: str, duration_ms: int | None
) -> None:
    """The short way is faster, and nothing else."""
    entry, encoded = make(text, "info", text, message, text, None, text, None, details, duration_ms)
    passed = msgspec.structs.replace(entry, details=details)
    assert msgspec.json.encode(Sanitizer(KEYS, 262_144).made_safe(passed)) == encoded


@given(plain_details, plain_texts, plain_texts)
def test_a_form_is_filled_in_as_an_entry_is_made(details: dict[str, Any], text: str, message: str) -> None:
    """The third way is faster still, and may say that it is none."""
    encoder = EntryEncoder(Settings())
    assert encoder.fill_in("form", message) is None
    encoder.know("form", text, "info", text, details)
    if (filled := encoder.fill_in("form", message)) is not None:
        entry, _ = encoder.make(text, "info", text, message, details=details)
        read = msgspec.json.decode(filled, type=LogEntry)
        assert read.created_at < entry.created_at
        same = msgspec.structs.replace(entry, id=read.id, created_at=read.created_at)
        assert msgspec.json.encode(same) == filled


def test_usual_lines_are_filled_in() -> None:
    """One that may hold a secret is looked at closely; so is one that does not fit."""
    encoder = EntryEncoder(Settings())
    encoder.know("form", "app", "info", "app", {"logger": "host.web", "source": "web:12"})
    assert encoder.fill_in("form", "intent analysis: finished after 1500 ms") is not None
    for message in ("password: kTi7w2", "GET /?token=kTi7w2", "x" * 1000, "half \ud800", "a\nb"):
        assert encoder.fill_in("form", message) is None


def test_the_memory_of_forms_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes up names of loggers makes no end of them."""
    monkeypatch.setattr(encoder_module, "_MOST_FORMS", 10)
    encoder = EntryEncoder(Settings())
    for number in range(100):
        encoder.know(number, "app", "info", "app", {})
    assert len(encoder._forms) <= 10


@pytest.mark.usefixtures("no_thorough_way")
@given(plain_details, plain_texts)
def test_plain_data_takes_the_short_way(details: dict[str, Any], text: str) -> None:
    """All of what JSON has, apart from whole numbers of more than 64 bits and very deep nesting."""
    details = {key: value for key, value in details.items() if "\\u0000" not in json.dumps(value)}
    if not any("token" in key.lower() or "\\u0000" in key for key in texts_in(details)):
        make(text.replace("\\u0000", ""), LogLevel.INFO, LogCategory.AGENT, "message", details=details)


@pytest.mark.usefixtures("no_thorough_way")
@pytest.mark.parametrize(
    "details",
    [
        {"model": "gpt-4o", "prompt_tokens": 1200, "cost": 0.0125, "tags": ["a"], "password": object()},
        {"messages": [{"role": "user", "content": "x" * 2000} for _ in range(20)]},
        {"rows": [{"id": number, "name": "text", "score": 1.5} for number in range(500)]},
        {"text": "x" * 200_000},
        {"中文": ["😀"] * 1000},
        nested(10, lambda inner: {"a": inner}),
    ],
)
def test_usual_details_take_the_short_way(details: dict[str, Any]) -> None:
    """What agents and workflows log, and a masked value of any type."""
    make_simple(details=details)


def test_details_are_a_snapshot() -> None:
    """Callers go on working with their dicts."""
    details: dict[str, Any] = {"list": [1, {"a": 1}], "dict": {"b": [2]}}
    for more in ({}, {"set": {1}}):
        entry, encoded = make("task", "info", "agent", "message", details=details | more)
        before = json.loads(encoded)["details"]
        details["list"][1]["a"] = details["dict"]["b"][0] = 99
        assert entry.details == before
        details["list"][1]["a"], details["dict"]["b"][0] = 1, 2


def test_the_callers_data_is_not_touched() -> None:
    """Masking and cutting happen in the copy."""
    details = {"password": "hunter2", "text": "\0" * 1000, "list": [float("nan")]}
    make_simple(details=details, max_bytes=1024)
    assert details["password"] == "hunter2"
    assert details["text"] == "\0" * 1000
    assert CHANGED not in details


def test_secrets_are_masked_on_both_ways() -> None:
    """None has nothing to hide; counts of tokens stay."""
    details = {"password": "hunter2", "a": [{"api_key": ["hunter2"]}], "token": None, "max_tokens": 5}
    masked = {"password": MASK, "a": [{"api_key": MASK}], "token": None, "max_tokens": 5}
    assert make_simple(details=details).details == masked
    assert make_simple(details={**details, "x": (1,)}).details == {**masked, "x": [1]}
    assert make_simple(details={"max_tokens": "hunter2"}).details == {"max_tokens": MASK}


def test_levels_and_categories_may_be_members_or_texts() -> None:
    """They compare equal, before and after."""
    entry, encoded = make("task", LogLevel.ERROR, LogCategory.TOOL, "message")
    assert (entry.level, entry.category) == ("error", "tool")
    assert json.loads(encoded)["level"] == "error"
    assert make("task", "fatal", "own category", "message")[0].category == "own category"


@pytest.mark.parametrize("position", [0, 1, 2, 4, 5, 6, 7])
def test_long_identifiers_are_cut_on_both_ways(position: int) -> None:
    """Those of an entry that is plain otherwise, too; what fits an index stays."""
    fields: list[Any] = ["task", "info", "agent", "message", *[None] * 6]
    for text, kept in (("x" * 512, "x" * 512), ("x" * 513, "x" * 512)):
        fields[position] = text
        entry, encoded = make(*fields)
        assert kept in json.loads(encoded).values()
        assert (entry.details is None) == (text == kept)


# Anything -----------------------------------------------------------------------------------------


TREES = (NO_TREE, (None, "p" * 36, None, None), ("o" * 36, "p" * 36, "t" * 32, "s" * 16))


@given(st.integers(0, 2**32), st.sampled_from(SIZES), st.sampled_from(TREES))
def test_anything_is_recorded(seed: int, max_bytes: int, tree: TreeIds) -> None:
    """In every field, also in the smallest entries that can be set; nothing raises."""
    anything = Anything(seed)
    fields = [anything.value() for _ in range(8)]
    make(*fields, anything.details(), anything.value(), tree, max_bytes=max_bytes)
    details = anything.details()
    entry, _ = make("task", "info", "agent", "message", details=details, tree=tree, max_bytes=max_bytes)
    assert (entry.task_id, entry.message) == ("task", "message")
    assert (entry.operation_id, entry.parent_id, entry.trace_id, entry.span_id) == tree


@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=3))
def test_anything_that_is_recorded_can_be_stored(seeds: list[int]) -> None:
    """A batch of it is JSON that SQLite takes apart again."""
    sources = [Anything(seed) for seed in seeds]
    entries = [make(*(anything.value() for _ in range(9)), max_bytes=1500) for anything in sources]
    batch = b"[" + b",".join(encoded for _, encoded in entries) + b"]"
    columns = ", ".join(f"json_extract(value, '$.{name}')" for name in ("id", "message", "details"))
    statement = f"SELECT {columns} FROM json_each(?)"
    with closing(sqlite3.connect(":memory:")) as connection:
        rows = connection.execute(statement, [batch.decode()]).fetchall()
    assert [(entry.id, entry.message) for entry, _ in entries] == [row[:2] for row in rows]
    for (entry, _), row in zip(entries, rows, strict=True):
        assert (entry.details is None) == (row[2] is None)


@pytest.mark.parametrize("position", range(10))
@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 1000, "\x01" * 1000, "😀" * 600, "\\u0000", ""])
def test_every_text_is_storable(position: int, text: str) -> None:
    """Whichever field it is passed in, details and duration included."""
    fields: list[Any] = ["task", "info", "agent", "message", *[None] * 6]
    fields[position] = text
    make(*fields, max_bytes=1024)
    fields[position] = {text: [text]}
    make(*fields, max_bytes=1024)


def test_what_is_not_changed_is_not_marked() -> None:
    r"""A text that looks like an escaped NUL is none."""
    entry = make_simple(
        details={"a": "\\u0000", "b": "\x01\x7f\u2028\ufffe", "c": "\N{REPLACEMENT CHARACTER}"}
    )
    assert entry.details == {"a": "\\u0000", "b": "\x01\x7f\u2028\ufffe", "c": "\N{REPLACEMENT CHARACTER}"}


@pytest.mark.parametrize("max_bytes", SIZES)
@pytest.mark.parametrize("character", ["x", " ", "\x01", "😀", "\\", "\0", "\ud800"])
def test_a_message_of_50_mb_is_cut_and_marked(character: str, max_bytes: int) -> None:
    """Its beginning is kept, and how long it was."""
    entry, encoded = make("task", "info", "agent", character * 12_500_000, max_bytes=max_bytes)
    assert len(encoded) > max_bytes * 0.7
    assert entry.details is not None
    assert f"cut from 12500000 characters to {len(entry.message)}" in entry.details[CHANGED]["message"]


def test_a_long_message_is_kept_as_long_as_the_entry_allows() -> None:
    """Whatever else is in it that needs care."""
    entry = make("task", "info", "agent", "x" * 200_000, details={"set": {1}})[0]
    assert entry.message == "x" * 200_000
    assert entry.details == {"set": [1]}


def encoded_once(monkeypatch: pytest.MonkeyPatch, message: str, details: Any) -> LogEntry:
    """The entry of a call, of which nothing was encoded but what is kept."""
    made = EntryEncoder(Settings())
    encode, sizes = made._encode, []

    def counted(entry: LogEntry) -> bytes:
        encoded = encode(entry)
        sizes.append(len(encoded))
        return encoded

    monkeypatch.setattr(made, "_encode", counted)
    entry, encoded = made.make("task", "info", "agent", message, details=details)
    assert sizes == [len(encoded)]
    assert len(encoded) <= 262_144
    return entry


@pytest.mark.parametrize(
    "details",
    [
        {"a": list(range(1_000_000))},
        {"a": ["x" * 1_000_000] * 1000},
        {"a": [{"b": "x" * 1_000_000}] * 1000},
        dict.fromkeys(map(str, range(1_000_000))),
        {"a": [{"k" * 100_000: 1}] * 1000},
        {"a": laughs(30)},
        {"a": nested(5000)},
        nested(5000, lambda inner: {"a": inner}),
    ],
    ids=[
        "items",
        "long texts",
        "long texts in dicts",
        "keys",
        "long keys",
        "laughs",
        "lists in lists",
        "dicts in dicts",
    ],
)
def test_huge_details_are_cut_before_they_are_copied(
    details: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short way gives up before it has made anything much larger than an entry may be."""
    entry = encoded_once(monkeypatch, "message", details)
    assert entry.details is not None
    assert entry.details[CHANGED]


def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the texts in which secrets are looked for, and of the keys that are judged."""
    lengths: list[int] = []
    search, fold = SensitiveKeys.without_credentials, masking_module._folded

    def searching(keys: SensitiveKeys, text: str) -> str:
        lengths.append(len(text))
        return search(keys, text)

    def folding(key: str) -> str:
        lengths.append(len(key))
        return fold(key)

    monkeypatch.setattr(SensitiveKeys, "without_credentials", searching)
    monkeypatch.setattr(masking_module, "_folded", folding)
    return lengths


@pytest.mark.parametrize("position", [0, 1, 2, 4, 5, 6, 7])
@pytest.mark.parametrize("size", [1_000, 40_000, 1_000_000])
def test_of_a_long_identifier_no_more_is_read_than_may_be_kept(
    position: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither encoded nor searched for secrets, however long it is."""
    fields: list[Any] = ["task", "info", "agent", "message", *[None] * 6]
    fields[position] = "://a:b" * size
    lengths = searched(monkeypatch)
    made = EntryEncoder(Settings())
    encode, sizes = made._encode, []

    def counted(entry: LogEntry) -> bytes:
        sizes.append(len(encode(entry)))
        return encode(entry)

    monkeypatch.setattr(made, "_encode", counted)
    _, encoded = made.make(*fields)
    assert sizes == [len(encoded)]
    assert max(lengths) <= 512 + WINDOW_CHARS + 1


@pytest.mark.parametrize("key", ["x" * 12_000_000, "value" * 2_000_000, Key("x" * 12_000_000)])
@pytest.mark.parametrize("before", [{}, {"value": 1, "name": 2, "set": {3}}])
def test_of_a_long_key_no_more_is_judged_than_a_name_may_have(
    key: str, before: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is a text as a whole is cut as any other text is."""
    lengths = searched(monkeypatch)
    entry = make_simple(details={**before, key: "y", "list": [(key, 1)]})
    assert entry.details is not None
    assert entry.details[CHANGED]
    assert max(lengths) <= 262_144


def test_a_long_key_is_judged_by_its_ends() -> None:
    """Where it begins, and where a name would end."""
    for key in (f"{'x.' * 5000}password", f"password{'.x' * 5000}"):
        assert make_simple(details={key: "hunter2"}).details == {key: MASK}


def test_a_huge_line_is_not_read_to_be_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an entry has no room for is left to the thorough way."""
    encoder = EntryEncoder(Settings())
    encoder.know("form", "app", "info", "app", {})
    lengths = searched(monkeypatch)
    monkeypatch.setattr(encoder, "_encode", pytest.fail)
    assert encoder.fill_in("form", "://a:b" * 40_000) is None
    assert lengths == []


def test_a_huge_message_is_cut_before_it_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the details are."""
    assert len(encoded_once(monkeypatch, "x" * 50_000_000, None).message) > 250_000


def test_a_dict_that_another_thread_changes_is_recorded() -> None:
    """As it is at some moment."""
    details: dict[str, Any] = {"always": {str(number): number for number in range(50)}}
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            for number in range(100):
                details[f"key {number}"] = details["always"][f"key {number}"] = {number}
            for number in range(100):
                del details[f"key {number}"], details["always"][f"key {number}"]

    thread = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        entries = [make_simple(details=details) for _ in range(300)]
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
    for entry in entries:
        assert entry.details is not None
        assert entry.details["always"]["49"] == 49


def test_settings_decide_what_is_sensitive() -> None:
    """Other words instead of the usual ones."""
    made = EntryEncoder(Settings(sensitive_keys=("kennwort",)))
    entry, _ = made.make("task", "info", "agent", "message", details={"Kennwort": "x", "password": "y"})
    assert entry.details == {"Kennwort": MASK, "password": "y"}
