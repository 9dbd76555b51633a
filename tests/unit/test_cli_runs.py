"""`execution-logger runs`."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from execution_logger.cli import runs as cli_runs
from execution_logger.read import summary
from execution_logger.read.runs import RecentRuns
from stored_runs import StoredRuns


@pytest.fixture
def stored(tmp_path: Path) -> StoredRuns:
    """Three runs: one that went well, one with an error in it, and one that ended in one."""
    stored = StoredRuns(tmp_path / "logs.db")
    stored.store_run("well", "info", "info", age_seconds=7500)
    stored.store_run("troubled", "error", "warning", "info", age_seconds=40_000, step="s", agent_name="a")
    stored.store_run("failed", "info", "error", age_seconds=15_000)
    return stored


def rows(output: str) -> list[list[str]]:
    """The words of each line of the table."""
    return [line.split() for line in output.splitlines()[2:] if line.strip()]


def test_people_get_a_table(stored: StoredRuns) -> None:
    """The newest first, with what is needed to pick one."""
    result = stored.run("runs")
    assert result.exit_code == 0, result.output
    found = rows(result.stdout)
    assert [row[0] for row in found] == ["well", "failed", "troubled"]
    assert found[0][3:] == ["2", "h", "1.0", "s", "2", "0", "0", "-"]
    assert found[1][-4:] == ["1", "0", "error", "-"]
    assert found[2][3:] == ["11", "h", "2.0", "s", "3", "1", "1", "s", "/", "a"]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ["a-name-as-long-as-a-uuid-is-36-chars", "order/" + 24 * "4711-"])
def test_names_stay_whole(stored: StoredRuns, monkeypatch: pytest.MonkeyPatch, width: int, name: str) -> None:
    """`tail` wants them; and how the run went is there, too."""
    shown = Console(width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(cli_runs, "open_console", lambda: shown)
    stored.store_run(name, "info", "error", step="s" * 90)
    lines = stored.run("runs").stdout.splitlines()
    assert any(name in line for line in lines)
    assert "error" in "".join(lines)
    assert all(len(line) <= max(width, len(name)) for line in lines)


def test_programs_read_json(stored: StoredRuns) -> None:
    """Everything that was found."""
    found = json.loads(stored.run("runs", "--json", "--limit", "2").stdout)
    assert found["is_complete"] is True
    well, failed = found["runs"]
    assert well["task_id"] == "well"
    assert (failed["entries"], failed["errors"], failed["ended_in_error"]) == (2, 1, True)
    assert failed["first_at"].endswith("+00:00")


def test_a_part_may_be_asked_for(stored: StoredRuns) -> None:
    """By age, and by errors."""
    assert [row[0] for row in rows(stored.run("runs", "--errors").stdout)] == ["failed", "troubled"]
    assert [row[0] for row in rows(stored.run("runs", "--since", "3h").stdout)] == ["well"]
    assert stored.run("runs", "--since", "1h").stdout.startswith("No run is stored since 20")
    assert "No run with errors is stored since" in stored.run("runs", "--since", "3h", "--errors").stdout


def test_runs_that_have_an_entry_may_be_asked_for(stored: StoredRuns) -> None:
    """By the same options as for `tail` and `export`."""
    id_ = "01a2020e-76f9-7733-a5d1-0d5f613dc3d1"
    stored.store_run("mine", "info", "error", step="plan", agent_name="p", operation_id=id_)
    for options, names in (
        (("--step", "plan"), ["mine"]),
        (("--agent", "p", "--agent", "a"), ["mine", "troubled"]),
        (("--agent", "a", "--contains", "2", "--errors"), []),
        (("--level", "error"), ["mine", "failed", "troubled"]),
        (("--level", "ERR"), ["mine", "failed", "troubled"]),
        (("--operation", id_), ["mine"]),
        (("--until", "3h"), ["failed", "troubled"]),
        (("--since", "5h", "--until", "3h"), ["failed"]),
    ):
        found = json.loads(stored.run("runs", "--json", *options).stdout)["runs"]
        assert [run["task_id"] for run in found] == names, options
    assert stored.run("runs", "--step", "x").stdout == "No run with such an entry is stored.\n"
    shown = stored.run("runs", "--agent", "x", "--errors", "--since", "2026-11-22").stdout
    assert shown == "No run with such an error is stored since 2026-11-22 00:00:00 UTC.\n"
    assert stored.run("runs", "--since", "1h", "--until", "2h").exit_code == 2


def test_what_others_have_written_is_shown_safely(stored: StoredRuns) -> None:
    """Neither as markup nor as an escape sequence."""
    stored.store_run("[red]\x1b[2J进展", "info", step="[bold]\n")
    output = stored.run("runs").stdout
    assert r"[red]\x1b[2J进展" in output
    assert r"[bold]\n" in output
    assert "\x1b" not in output


def test_a_long_run_is_counted_in_part(stored: StoredRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so."""
    monkeypatch.setattr(summary, "MOST_COUNTED", 2)
    monkeypatch.setattr(summary, "_MANY", 2)
    output = stored.run("runs", "--since", "7d").stdout  # without it all are read, and counted, in any case
    assert output.split().count("2+") == 1
    assert "+: of a long run the newest entries are counted" in output


@pytest.mark.parametrize(
    ("missing", "advice"), [([], "--since or a smaller"), (["created_at"], "no index on (created_at)")]
)
def test_a_search_that_is_not_complete_says_so(
    stored: StoredRuns, monkeypatch: pytest.MonkeyPatch, missing: list[str], advice: str
) -> None:
    """And what would help."""

    async def not_all(*_: object, **__: object) -> RecentRuns:
        return RecentRuns([], False, datetime(2026, 11, 22, tzinfo=UTC), missing)

    monkeypatch.setattr(cli_runs, "recent_runs", not_all)
    output = " ".join(stored.run("runs").stdout.split())
    assert "There may be more: the search was ended after 10 s" in output
    assert "reached back to 2026-11-22 00:00:00 UTC" in output
    assert advice in output


def test_without_a_table_there_is_one_line(tmp_path: Path) -> None:
    """It says what to do."""
    stored = StoredRuns(tmp_path / "logs.db")
    result = stored.run("runs", DATABASE_URL=f"sqlite:///{tmp_path / 'empty.db'}")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "execution-logger db upgrade" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("options", [("--limit", "0"), ("--since", "yesterday")])
def test_wrong_usage_has_its_own_exit_code(stored: StoredRuns, options: tuple[str, ...]) -> None:
    """As for all commands."""
    assert stored.run("runs", *options).exit_code == 2
