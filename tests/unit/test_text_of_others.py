"""Text of others on its way to a terminal or a log: it steers neither, and adds no line to either."""

import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_logger.cli import dead
from execution_logger.cli.export import _Shown
from execution_logger.diagnostics import logger
from execution_logger.text import printable, printable_json, printable_lines
from execution_logger.worker.poison import ID_PREFIX, DeadMessage
from execution_logger.worker.poison import logger as supervisor_logger
from stored_runs import StoredRuns

HOSTILE = "x\x1b[2J\x1b]0;t\x07\r\n\x7f\x9b31m\x85\u2028\u202e\u2066y"
"""Clears, names, breaks and turns round what a terminal shows."""
SHOWN = r"x\x1b[2J\x1b]0;t\x07\r\n\x7f\x9b31m\x85\u2028\u202e\u2066y"
OPERATION = "01a2020e-76f9-7733-a5d1-0d5f613dc3d1"
AS_JSON = r"x\u001b[2J\u001b]0;t\u0007\r\n\u007f\u009b31m\u0085\u2028\u202e\u2066y"


def steering(text: str) -> list[str]:
    """The lines that hold what a terminal obeys."""
    return [line for line in text.split("\n") if printable(line) != line]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredRuns:
    """A database with hostile texts in each column that takes any text."""
    folder = tmp_path_factory.mktemp("planted")
    stored = StoredRuns(folder / "logs.db")
    stored.environment |= {
        "CELERY_BROKER_URL": f"embedded://{folder / 'broker'}",
        "EXECUTION_LOGGER_JOURNAL_DIRECTORY": str(folder / HOSTILE),
        "HOME": str(folder),
    }
    details = {HOSTILE: [HOSTILE], "more": {HOSTILE: HOSTILE}}
    fields = {"step": HOSTILE, "agent_name": HOSTILE, "category": HOSTILE, "details": details}
    stored.store_run(HOSTILE, "info", "error", HOSTILE, age_seconds=7200, **fields)
    operation = {
        "details": {"error": HOSTILE, "run_state": HOSTILE},
        "operation_id": OPERATION,
        "duration_ms": 5,
    }
    stored.store_run(HOSTILE, "info", "error", age_seconds=7200, **fields | operation)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"
    past = {"outcome": "failed", "started_at": hour.isoformat(), "finished_at": hour.isoformat()}
    rows = {
        "execution_log_dead_letters": (HOSTILE, HOSTILE, json.dumps({"task_id": HOSTILE}), HOSTILE, now),
        "execution_log_batches": (HOSTILE, HOSTILE, 5, 3, 1, 2, now, now, now),
        "execution_log_statistics": (f"{hour:%Y-%m-%d %H:%M:%S.%f}", "step", HOSTILE, 3, 1, 1, 3, 1.0, 2.0),
    }
    with closing(sqlite3.connect(stored.path)) as connection, connection:
        for table, values in rows.items():
            connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(values))})", values)
        letter = ("bare", "b", HOSTILE, "r", now)
        connection.execute("INSERT INTO execution_log_dead_letters VALUES (?, ?, ?, ?, ?)", letter)
        connection.execute("UPDATE execution_logs SET message = ?", (HOSTILE,))
        summary = json.dumps({"reasons": [HOSTILE], HOSTILE: HOSTILE})
        past_runs = json.dumps([{**past, "summary": {}, "error": HOSTILE}])
        connection.execute(
            "UPDATE execution_log_job_runs SET outcome = 'failed', error = ?, started_at = ?, "
            "finished_at = ?, summary = ?, past_runs = ?",
            (HOSTILE, now, now, summary, past_runs),
        )
    return stored


@pytest.mark.parametrize(
    "command",
    [
        ("runs",), ("runs", "--json"), ("runs", "--errors"), ("tail", HOSTILE), ("tail", HOSTILE, "--json"),
        ("tail", HOSTILE, "--details"), ("tail", f"no {HOSTILE}"), ("export", HOSTILE),
        ("tail", HOSTILE, "--tree"), ("tail", HOSTILE, "--tree", "--details"),
        ("tail", "--operation", OPERATION),
        ("export", HOSTILE, "--format", "chrome-trace"), ("runs", "--contains", HOSTILE),
        ("export", f"no {HOSTILE}"), ("audit",), ("audit", "--json"), ("audit", "--process", HOSTILE),
        ("dead", "list"), ("dead", "list", "--json"), ("dead", "show", HOSTILE), ("dead", "show", "bare"),
        ("dead", "show", f"no {HOSTILE}"), ("dead", "retry", "bare"), ("jobs",), ("jobs", "--json"),
        ("jobs", "run", "health"), ("status",), ("status", "--json"),
        ("config",), ("config", "--json"), ("recover", "--dry-run"), ("recover", "--dry-run", "--json"),
        ("purge", "--task-id", HOSTILE, "--dry-run"), ("metrics", "--once"), ("doctor",), ("db", "upgrade"),
        ("health", "--name", HOSTILE),
    ],
    ids=lambda command: " ".join(command).encode("unicode_escape").decode().replace("\\", "/"),
)  # fmt: skip
def test_no_command_prints_what_steers_a_terminal(stored: StoredRuns, command: tuple[str, ...]) -> None:
    """Neither on the standard output nor in an error, whatever column or argument holds it."""
    result = stored.run(*command)
    assert result.output
    assert not isinstance(result.exception, Exception), result.exception
    assert result.exit_code != 2, result.output  # the command is as it is meant
    assert steering(result.output) == []


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("runs",), SHOWN), (("tail", HOSTILE), SHOWN), (("export", HOSTILE), AS_JSON),
        (("dead", "show", "bare"), AS_JSON), (("dead", "list"), SHOWN), (("jobs",), SHOWN),
        (("audit", "--process", HOSTILE), SHOWN), (("tail", HOSTILE, "--tree"), SHOWN),
        (("export", HOSTILE, "--format", "chrome-trace"), AS_JSON),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_it_is_written_out(stored: StoredRuns, command: tuple[str, ...], expected: str) -> None:
    """Nothing is left out: what was logged can be seen, and found by what is seen."""
    assert expected in stored.run(*command).output


def test_json_stays_the_same_json(stored: StoredRuns) -> None:
    """A program reads the text that was logged."""
    entry = json.loads(stored.run("export", HOSTILE).stdout.splitlines()[0])
    assert (entry["task_id"], entry["details"]["more"]) == (HOSTILE, {HOSTILE: HOSTILE})
    assert json.loads(stored.run("dead", "show", HOSTILE).stdout)["reason"] == HOSTILE
    assert HOSTILE in [job["error"] for job in json.loads(stored.run("jobs", "--json").stdout)]


def test_a_message_that_was_moved_aside_is_shown_safely(
    stored: StoredRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come from anybody who reaches the broker, and need not even be text."""
    message = DeadMessage(f"{ID_PREFIX}1", HOSTILE.encode() + b"\xff")
    monkeypatch.setattr(dead, "find_message", lambda *_: message)
    monkeypatch.setattr(dead, "dead_messages", lambda *_: [message])
    result = stored.run("dead", "show", message.id)
    assert steering(result.output + stored.run("dead", "list").output) == []
    assert json.loads(result.stdout)["message"] == HOSTILE + "\\xff"


def test_a_file_gets_every_character(stored: StoredRuns, tmp_path: Path) -> None:
    """CSV has no escapes; only a terminal is spared."""
    path = tmp_path / "run.csv"
    assert stored.run("export", HOSTILE, "--format", "csv", "--output", str(path)).exit_code == 0
    assert HOSTILE in path.read_bytes().decode("utf-8-sig")


def test_a_terminal_gets_no_csv_that_steers_it(capsys: pytest.CaptureFixture[str]) -> None:
    """It is shown line by line, without the byte order mark."""
    shown = _Shown()
    shown.write("\ufeffid,message\r\n".encode())
    shown.write("1,a\x1b[2Jb\r\n2,进\u202e展\r\n".encode())
    assert capsys.readouterr().out == "id,message\n1,a\\x1b[2Jb\n2,进\\u202e展\n"


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3))
def test_any_text_is_shown_safely(text: str, texts: dict[str, str]) -> None:
    """On one line, on lines of its own, and as JSON, which says the same."""
    assert "\n" not in printable(text)
    assert printable(printable(text)) == printable(text)
    first, *others = printable_lines(text).split("\n")
    assert not steering("\n".join([first, *others]))
    assert all(line.startswith("  ") for line in others)
    for indent, is_ascii in ((None, True), (2, False)):
        shown = printable_json(json.dumps(texts, indent=indent, ensure_ascii=is_ascii))
        assert (json.loads(shown), steering(shown)) == (texts, [])


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What a host's handler writes, with a format of the host's."""
    written: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(self.format(record))

    handler = Handler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    with caplog.at_level(logging.INFO, "execution_logger"):
        logger.addHandler(handler)
        yield written
        logger.removeHandler(handler)


@pytest.mark.parametrize("name", ["library", "supervisor"])
def test_a_log_record_is_one_line(lines: list[str], name: str) -> None:
    """Whether the text comes as it is, as an error, or in the message itself."""
    said = logger if name == "library" else supervisor_logger
    said.error("batch %s: %s", HOSTILE, ValueError(HOSTILE))
    said.warning(HOSTILE)
    said.info("%(task)s", {"task": HOSTILE})
    assert lines == [f"ERROR batch {SHOWN}: {SHOWN}", f"WARNING {SHOWN}", f"INFO {SHOWN}"]


def test_a_traceback_does_not_steer_a_terminal(lines: list[str]) -> None:
    """It keeps its lines; none but the first looks like the beginning of another message."""
    error = ValueError(HOSTILE)
    error.add_note(f"{HOSTILE}\nERROR forged")
    logger.error("batch", exc_info=error)
    logger.error("batch", exc_info=ExceptionGroup(HOSTILE, [error]))
    for text in lines:
        assert steering(text) == []
        assert r"x\x1b[2J" in text
        assert all(line.startswith("  ") for line in text.splitlines()[2:])


def test_an_ordinary_record_is_untouched(caplog: pytest.LogCaptureFixture) -> None:
    """Hosts group records by their message before its arguments; tracebacks have lines of their own."""
    logger.error("batch %s", "b1", exc_info=ValueError("why"))
    (record,) = caplog.records
    assert (record.msg, record.args) == ("batch %s", ("b1",))
    assert caplog.text.endswith("batch b1\nValueError: why\n")


def test_an_argument_that_raises_is_left_to_the_handlers() -> None:
    """As any other logger leaves it: the record is made, and what is under way goes on."""

    class Unreadable:
        def __str__(self) -> str:
            raise RuntimeError

    record = logger.makeRecord("n", logging.ERROR, "f", 1, "%s", (Unreadable(),), None)
    assert record.msg == "%s"
    with pytest.raises(RuntimeError):
        record.getMessage()
