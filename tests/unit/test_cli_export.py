"""`execution-logger export`."""

import csv
import io
import json
import stat
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batches import encoded
from execution_logger.read.timeline import Only, Timeline
from stored_runs import StoredRuns


@pytest.fixture
def stored(tmp_path: Path) -> StoredRuns:
    """A run of three entries, and another one."""
    stored = StoredRuns(tmp_path / "logs.db")
    stored.store_run("t", "info", "warning", "error", details={"k": ["é", None]})
    stored.store_run("other", "info")
    return stored


def files(folder: Path) -> set[str]:
    """What is in a folder, besides the database."""
    return {path.name for path in folder.iterdir() if not path.name.startswith("logs.db")}


def test_ndjson_is_the_run_in_its_order(stored: StoredRuns) -> None:
    """And nothing else is on the standard output."""
    result = stored.run("export", "t")
    assert (result.exit_code, result.stderr) == (0, "")
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    assert [entry["message"] for entry in entries] == ["0", "1", "2"]
    assert entries[0]["details"] == {"k": ["é", None]}


def test_csv_is_the_run_in_its_order(stored: StoredRuns) -> None:
    """With a line of names, once."""
    text = stored.run("export", "t", "--format", "csv").stdout_bytes.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["level"] for row in rows] == ["info", "warning", "error"]
    assert json.loads(rows[0]["details"]) == {"k": ["é", None]}


def test_a_trace_is_one_json_object(stored: StoredRuns, tmp_path: Path) -> None:
    """Of ten thousand entries on many pages, in a file or on the standard output."""
    ids = [f"01a2020e-76f9-7733-a5d1-{number:012}" for number in range(1000)]
    start = datetime(2026, 11, 22, tzinfo=UTC)
    stored.store(
        *(
            encoded(
                task_id="long",
                message=f"{number}",
                created_at=(start + timedelta(milliseconds=number)).isoformat(),
                **({"operation_id": ids[number // 10]} if number % 10 in (0, 9) else {}),
                **({"duration_ms": 9} if number % 10 == 9 else {}),
                parent_id=ids[number // 10] if 0 < number % 10 < 9 else None,
            )
            for number in range(10_000)
        )
    )
    path = tmp_path / "trace.json"
    result = stored.run("export", "long", "--format", "chrome-trace", "-o", str(path))
    assert result.stderr.startswith("10,000 entries of the run 'long', ")
    assert path.read_text() == stored.run("export", "long", "--format", "chrome-trace").stdout
    events = json.loads(path.read_text())["traceEvents"]
    found = [each for each in events if each["ph"] == "X"]
    assert [(each["name"], each["dur"]) for each in found] == [(f"{n * 10}", 9000) for n in range(1000)]
    assert sum(each["ph"] == "i" for each in events) == 8000
    assert {each["tid"] for each in found} == {1}
    assert len(json.loads(stored.run("export", "--format", "chrome-trace").stdout)["traceEvents"]) > 9000
    nothing = stored.run("export", "nope", "--format", "chrome-trace")
    assert (nothing.exit_code, nothing.stdout) == (1, "")


def test_an_operation_with_what_is_within_it(stored: StoredRuns) -> None:
    """Of its run, also where that is not named."""
    a, b = (f"01a2020e-76f9-7733-a5d1-0d5f613dc3d{digit}" for digit in "ab")
    stored.store_run("u", "info", operation_id=a)
    stored.store_run("u", "error", operation_id=b, parent_id=a)
    stored.store_run("u", "debug", parent_id=b)
    stored.store_run("u", "warning")
    for run in (("u",), ()):
        found = stored.run("export", *run, "--operation", a).stdout.splitlines()
        assert sorted(json.loads(line)["level"] for line in found) == ["debug", "error", "info"]
    assert stored.run("export", "t", "--operation", a).exit_code == 1


def test_a_file_takes_the_place_of_another_one(stored: StoredRuns, tmp_path: Path) -> None:
    """When it is whole; what was written is said where it does not get into the way."""
    path = tmp_path / "run.ndjson"
    path.write_text("before")
    result = stored.run("export", "t", "--output", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith(f"3 entries of the run 't', {path.stat().st_size:,} bytes: ")
    assert len(path.read_text().splitlines()) == 3
    assert files(tmp_path) == {"run.ndjson"}
    assert stat.S_IMODE(path.stat().st_mode) & 0o400


@pytest.mark.parametrize("output", ["run.csv", None])
def test_a_run_that_is_not_there_is_said(stored: StoredRuns, tmp_path: Path, output: str | None) -> None:
    """No file is made of it, and no line of names."""
    options = ["--output", str(tmp_path / output)] if output else []
    result = stored.run("export", "nope", "--format", "csv", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no entry of the run 'nope' is stored" in result.stderr
    assert files(tmp_path) == set()


def test_a_part_of_all_runs(stored: StoredRuns, tmp_path: Path) -> None:
    """Without a name it is all of them; what is not there is no file."""
    result = stored.run("export")
    found = [json.loads(line)["task_id"] for line in result.stdout.splitlines()]
    assert sorted(found) == ["other", "t", "t", "t"]
    found = stored.run("export", "--level", "warning", "--contains", "1").stdout.splitlines()
    assert [json.loads(line)["level"] for line in found] == ["warning"]
    result = stored.run("export", "-o", str(tmp_path / "x"), "--agent", "nobody")
    assert (result.exit_code, result.stderr) == (1, "execution-logger: no such entry is stored\n")
    result = stored.run("export", "-o", str(tmp_path / "x"), "--level", "warning")
    assert result.stderr.startswith("2 entries, ")
    assert files(tmp_path) == {"x"}


def test_what_fails_on_the_way_changes_nothing(
    stored: StoredRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of before stays, and no half of a new one."""
    pages = Timeline.pages

    async def half_of(self: Timeline, only: Only) -> Any:
        async with aclosing(pages(self, only)) as real:
            async for page in real:
                yield page
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(Timeline, "pages", half_of)
    path = tmp_path / "run.ndjson"
    path.write_text("before")
    result = stored.run("export", "t", "--output", str(path))
    assert result.exit_code == 3
    assert result.stderr == f"execution-logger: {path} cannot be written: No space left on device\n"
    assert path.read_text() == "before"
    assert files(tmp_path) == {"run.ndjson"}


def test_a_place_that_takes_no_file_is_one_line(stored: StoredRuns, tmp_path: Path) -> None:
    """It names the place."""
    result = stored.run("export", "t", "-o", str(tmp_path / "nowhere" / "x"))
    assert result.exit_code == 3
    assert result.stderr == (
        f"execution-logger: {tmp_path / 'nowhere' / 'x'} cannot be written: No such file or directory\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_device_is_written_to(stored: StoredRuns) -> None:
    """And not replaced by a file; a full one is an error line."""
    assert stored.run("export", "t", "-o", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()
    result = stored.run("export", "t", "-o", "/dev/full")
    assert result.exit_code == 3
    assert result.stderr == "execution-logger: /dev/full cannot be written: No space left on device\n"


def test_a_link_stays_a_link(stored: StoredRuns, tmp_path: Path) -> None:
    """What it points to is replaced."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert stored.run("export", "t", "-o", str(tmp_path / "link")).exit_code == 0
    assert (tmp_path / "link").is_symlink()
    assert len((tmp_path / "target").read_text().splitlines()) == 3
