"""`execution-logger tail`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from batches import encoded
from execution_logger.cli import tail as cli_tail
from stored_runs import StoredRuns


@pytest.fixture
def stored(tmp_path: Path) -> StoredRuns:
    """A run of four entries, and another one."""
    stored = StoredRuns(tmp_path / "logs.db")
    stored.store(
        entry(0, message="begins", category="workflow", step="plan"),
        entry(1.5, message="calls", level="debug", category="tool", step="plan", agent_name="planner"),
        entry(2, message="strange", level="warning", category="agent", details={"n": 1, "text": "x" * 200}),
        entry(4, message="失败", level="error", category="workflow", step="写作", duration_ms=12_345),
    )
    stored.store_run("other", "info")
    return stored


def entry(second: float, day: int = 22, **changed: object) -> str:
    """One of that second."""
    return encoded(task_id="t", created_at=f"2026-11-{day}T02:13:{second:09.6f}Z", **changed)


def lines(result: Result) -> list[str]:
    """What is printed for people."""
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def messages(result: Result) -> list[str]:
    """What is printed for programs: the messages."""
    return [json.loads(line)["message"] for line in result.stdout.splitlines()]


def test_people_read_a_timeline(stored: StoredRuns) -> None:
    """A line for each entry, under its date; wide characters take two cells."""
    assert lines(stored.run("tail", "t")) == [
        "2026-11-22 UTC",
        "02:13:00.000 INFO     plan                     begins",
        "02:13:01.500 DEBUG    plan/planner             calls",
        '02:13:02.000 WARNING  agent                    strange  {"n": 1, "text": "' + "x" * 61 + "…",
        "02:13:04.000 ERROR    写作                     失败  12,345 ms",
    ]


def test_what_is_left_out_is_said(stored: StoredRuns) -> None:
    """Nobody takes the end of a run for all of it."""
    assert lines(stored.run("tail", "t", "-n", "3"))[0] == "… earlier entries are left out; --all shows them"
    assert lines(stored.run("tail", "t", "-n", "4"))[0] == "2026-11-22 UTC"


def test_a_new_day_has_its_date(stored: StoredRuns) -> None:
    """The times alone would mislead."""
    stored.store(entry(0, day=23, message="next"))
    assert lines(stored.run("tail", "t"))[-2:] == [
        "2026-11-23 UTC",
        "02:13:00.000 INFO     agent                    next",
    ]


def test_details_may_be_shown_whole(stored: StoredRuns) -> None:
    """Indented, on lines of their own."""
    shown = lines(stored.run("tail", "t", "--details", "--level", "warning"))
    assert shown[2:6] == [
        " " * 13 + "{",
        " " * 13 + '  "n": 1,',
        " " * 13 + f'  "text": "{"x" * 200}"',
        " " * 13 + "}",
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["begins", "calls", "strange", "失败"]),
        (("--lines", "2"), ["strange", "失败"]),
        (("-n", "0"), []),
        (("--all",), ["begins", "calls", "strange", "失败"]),
        (("--level", "warning"), ["strange", "失败"]),
        (("--level", "ERROR", "--all"), ["失败"]),
        (("--category", "tool", "--category", "agent"), ["calls", "strange"]),
        (("--level", "info", "--category", "workflow", "-n", "1"), ["失败"]),
        (("--category", "api"), []),
        (("--agent", "planner"), ["calls"]),
        (("--step", "写作", "--step", "plan"), ["begins", "calls", "失败"]),
        (("--contains", "s", "--until", "2026-11-22T02:13:02"), ["begins", "calls"]),
        (("--since", "2026-11-22T02:13:02"), ["strange", "失败"]),
    ],
)
def test_a_part_may_be_asked_for(stored: StoredRuns, options: tuple[str, ...], expected: list[str]) -> None:
    """The newest so many, of a level or graver, of some categories."""
    result = stored.run("tail", "t", "--json", *options)
    assert (result.exit_code, messages(result)) == (0, expected)


def test_without_a_run_all_are_shown(stored: StoredRuns) -> None:
    """In the order of their times, each with its run."""
    stored.store(entry(3, message="elsewhere", level="error").replace('"t"', '"another-run"'))
    assert lines(stored.run("tail", "--until", "2026-11-23", "--level", "error")) == [
        "2026-11-22 UTC",
        "02:13:03.000 ERROR    another-run          agent                    elsewhere",
        "02:13:04.000 ERROR    t                    写作                     失败  12,345 ms",
    ]


def test_a_span_that_ends_before_it_begins_is_wrong_usage(stored: StoredRuns) -> None:
    """It would find nothing, which says nothing."""
    for name in ("tail", "export"):
        result = stored.run(name, "--since", "1h", "--until", "2h")
        assert (result.exit_code, "is not before --until" in result.stderr) == (2, True)


def test_a_run_that_is_not_there_is_said(stored: StoredRuns) -> None:
    """The exit code is for scripts; the name is shown safely."""
    result = stored.run("tail", "no\x1bpe")
    assert (result.exit_code, result.stdout) == (1, "")
    assert r"no entry of the run 'no\x1bpe' is stored" in result.stderr


def test_what_others_have_written_is_shown_safely(stored: StoredRuns) -> None:
    """Neither as markup nor as an escape sequence; an entry stays on one line."""
    hostile = "[red]a\x1b[2J\nb"
    stored.store(entry(9, message=hostile, step=hostile, level=hostile, details={hostile: hostile}))
    shown = lines(stored.run("tail", "t", "-n", "1"))
    assert len(shown) == 3
    assert shown[2].count(r"[red]a\x1b[2J\nb") >= 1
    assert "\x1b" not in stored.run("tail", "t", "--details").stdout


class Polls:
    """Stands in for the pauses of `--follow`: each is a chance to do something, the last one a Ctrl-C."""

    def __init__(self, *actions: Callable[[], None]) -> None:
        self._actions = iter(actions)

    async def sleep(self, _: float) -> None:
        """Do what comes next."""
        action = next(self._actions, None)
        if action is None:
            raise KeyboardInterrupt
        action()


def follow(
    stored: StoredRuns, monkeypatch: pytest.MonkeyPatch, options: str, *actions: Callable[[], None]
) -> Result:
    """Follow the run `t` while these happen, one after each poll."""
    monkeypatch.setattr(cli_tail, "_POLLS_FOR_LATE", 2)
    monkeypatch.setattr(cli_tail, "_sleep", Polls(*actions).sleep)
    return stored.run("tail", "t", "--follow", *options.split())


def nothing() -> None:
    """Let a poll pass."""


def test_following_shows_what_comes(stored: StoredRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and what came late as well; Ctrl-C ends it in order."""
    result = follow(
        stored,
        monkeypatch,
        "--lines 1",
        lambda: stored.store(entry(10, message="new"), entry(11, message="newer")),
        lambda: stored.store(entry(3, message="late"), entry(12, message="newest")),
        nothing,
        nothing,
    )
    assert result.exit_code == 130
    shown = [line.split(maxsplit=3)[-1] for line in result.stdout.splitlines()[2:]]
    assert shown == ["失败  12,345 ms", "new", "newer", "newest", "late  (stored late)"]
    assert result.stderr == "execution-logger: interrupted\n"


def test_following_keeps_to_what_is_wanted(stored: StoredRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what comes, too; programs read JSON."""
    result = follow(
        stored,
        monkeypatch,
        "--json --all --level error",
        lambda: stored.store(entry(10, message="new"), entry(11, level="error", message="bad")),
        lambda: stored.store(entry(3, message="late"), entry(3, level="error", message="late and bad")),
        nothing,
    )
    assert messages(result) == ["失败", "bad", "late and bad"]


def test_a_run_that_is_not_there_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One may begin to follow before it starts."""
    stored = StoredRuns(tmp_path / "logs.db")
    result = follow(
        stored, monkeypatch, "", nothing, lambda: stored.store(entry(1, message="begins")), nothing
    )
    assert result.exit_code == 130
    assert [line.split()[-1] for line in result.stdout.splitlines()] == ["UTC", "begins"]
    assert "no entry of the run 't' is stored yet; waiting for one." in result.stderr


def test_an_outage_is_said_once(stored: StoredRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its end; nothing that came meanwhile is missed."""

    def come_back() -> None:
        stored.execute("ALTER TABLE away RENAME TO execution_logs")
        stored.store(entry(3, message="late"), entry(10, message="new"))

    result = follow(
        stored,
        monkeypatch,
        "-n 0 --json",
        lambda: stored.execute("ALTER TABLE execution_logs RENAME TO away"),
        nothing,
        nothing,
        come_back,
        nothing,
    )
    assert sorted(messages(result)) == ["late", "new"]
    first, second, _ = result.stderr.splitlines()
    assert first.endswith("It goes on when the database answers.")
    assert second == "execution-logger: the database answers again."


def test_without_a_table_there_is_one_line(stored: StoredRuns, tmp_path: Path) -> None:
    """Also with `--follow`: what is wrong from the beginning is no outage."""
    for options in ((), ("--follow",)):
        result = stored.run("tail", "t", *options, DATABASE_URL=f"sqlite:///{tmp_path / 'empty.db'}")
        assert result.exit_code == 3
        assert "execution-logger db upgrade" in result.stderr
        assert len(result.stderr.splitlines()) == 1
