"""`execution-logger tail`."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len
from rich.console import Console

from batches import encoded
from execution_logger.cli import main
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("t", "--agent", "nobody"), "0 of 4 entries match"),
        (("t", "--agent", "nobody", "--all", "--json"), "0 of 4 entries match"),
        (("t", "--agent", "nobody", "-n", "0"), ""),
        (("t", "-n", "0"), ""),
        (("--agent", "nobody"), "no entry matches"),
        (("t", "--agent", "planner"), ""),
    ],
)
def test_filters_that_match_nothing_are_said(stored: StoredRuns, options: tuple[str, ...], said: str) -> None:
    """Nothing at all would leave open whether the run is there; the exit code is that of any other answer."""
    result = stored.run("tail", *options)
    assert (result.exit_code, result.stderr) == (0, f"execution-logger: {said}\n" if said else "")
    assert not said or result.stdout == ""


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


A, B, C, D = (f"01a2020e-76f9-7733-a5d1-0d5f613dc3d{digit}" for digit in "abcd")


HOSTS_TABLE = """
    CREATE TABLE execution_logs (
        id CHAR(32) NOT NULL PRIMARY KEY, task_id VARCHAR(36), level VARCHAR(20), category VARCHAR(50),
        message TEXT, details TEXT, created_at DATETIME
    )
"""


@pytest.fixture(params=["own", "host's"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> StoredRuns:
    """A run `t` with two operations in one, one of which fails and one that is open; and another run.

    In the library's own table, and in one without columns for most of it.
    """
    stored = StoredRuns(tmp_path / "logs.db")
    if request.param == "host's":
        stored.execute(f"DROP TABLE execution_logs; {HOSTS_TABLE}")
    stored.store(
        entry(0, message="plain", details={"k": 1}),
        entry(1, message="report started", operation_id=A),
        entry(2, message="search started", operation_id=B, parent_id=A),
        entry(3, message="asking", level="debug", parent_id=B, agent_name="scout", step="look"),
        entry(4, message="write started", operation_id=C, parent_id=A, step="write"),
        entry(
            5, message="search failed: no", level="error", operation_id=B, parent_id=A, duration_ms=3000,
            agent_name="scout", details={"error": "no answer"},
        ),
        entry(6, message="half", parent_id=C, level="warning", duration_ms=1500),
        entry(7, message="lost", parent_id=D),
        entry(8, message="report completed", operation_id=A, duration_ms=7000, details={"run_state": "done"}),
    )  # fmt: skip
    stored.store_run("other", "info")
    return stored


TREE = """\
2026-11-22 UTC
02:13:00.000 plain  {"k": 1}
02:13:01.000 report  7,000 ms  1 error within
02:13:02.000 ├─ ✗ search  failed  3,000 ms  scout  no answer
02:13:03.000 │  └─ DEBUG asking  look/scout
02:13:04.000 └─ write  no end recorded
02:13:06.000    └─ WARNING half  1,500 ms
02:13:07.000 lost
"""


def test_a_run_is_shown_as_a_tree(tree: StoredRuns) -> None:
    """Each operation is a line, with how it went; what belongs to none that is stored is there, too."""
    assert tree.run("tail", "t", "--tree").stdout == TREE


def test_a_tree_needs_no_more_than_ascii(tree: StoredRuns) -> None:
    """Where the output has no other characters."""
    result = CliRunner(charset="ascii").invoke(main, ["tail", "t", "--tree"], env=tree.environment)
    assert result.stdout.splitlines()[3:7] == [
        "02:13:02.000 |- x search  failed  3,000 ms  scout  no answer",
        "02:13:03.000 |  `- DEBUG asking  look/scout",
        "02:13:04.000 `- write  no end recorded",
        "02:13:06.000    `- WARNING half  1,500 ms",
    ]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("write to be retried: Retry in 2s", "to be retried: Retry in 2s"),
        ("write cancelled", "cancelled"),
        ("something else", "cancelled"),
    ],
)
def test_an_operation_that_was_called_off_says_how(stored: StoredRuns, message: str, shown: str) -> None:
    """A task that Celery tries again is not simply cancelled."""
    stored.store(encoded(operation_id=A, message="write started"))
    stored.store(encoded(operation_id=A, message=message, level="warning", duration_ms=5))
    assert f"write  {shown}  5 ms\n" in stored.run("tail", "t", "--tree").stdout


def test_an_operation_may_be_running(tree: StoredRuns) -> None:
    """As long as its run tells of something."""
    now = (datetime.now(UTC) - timedelta(seconds=5)).isoformat()
    tree.store(encoded(task_id="t", created_at=now, message="alive", parent_id=C))
    assert "write  running\n" in tree.run("tail", "t", "--tree").stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--level", "error"), [2, 3]),
        (("--level", "warning"), [2, 3, 5, 6]),
        (("--agent", "scout"), [2, 3, 4]),
        (("--step", "look"), [2, 3, 4]),
        (("--contains", "lost"), [7]),
        (("--agent", "nobody"), []),
        (("--operation", A), [2, 3, 4, 5, 6]),
        (("--operation", B, "--level", "error"), [3]),
        (("--operation", C, "--operation", B.upper()), [3, 4, 5, 6]),
        (("--until", "2026-11-22T02:13:01"), [1]),
    ],
    ids=str,
)
def test_a_part_of_a_tree_keeps_what_leads_to_it(
    tree: StoredRuns, options: tuple[str, ...], expected: list[int]
) -> None:
    """But for an operation's: that is a tree of its own."""
    result = tree.run("tail", "t", "--tree", *options)
    said = "" if expected else "execution-logger: 0 of 9 entries match\n"
    assert (result.exit_code, result.stderr) == (0, said)
    whole = [line.lstrip("│├└─ ✗") for line in TREE.replace("  1 error within", "").splitlines()]
    shown = [line.replace("  1 error within", "") for line in result.stdout.splitlines()]
    times = [line.split()[0] for line in shown[1:]]
    assert times == [whole[number].split()[0] for number in expected]


def test_an_operation_needs_no_run(tree: StoredRuns) -> None:
    """It is looked for; without a tree its entries and those beneath it are shown in their order."""
    assert tree.run("tail", "--tree", "--operation", A).stdout.count("\n") == 6
    result = tree.run("tail", "--operation", A, "--json")
    assert [json.loads(line)["created_at"][17:19] for line in result.stdout.splitlines()] == [
        "01", "02", "03", "04", "05", "06", "08",
    ]  # fmt: skip
    missing = tree.run("tail", "--operation", B.replace("0", "9"))
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert missing.stderr == "execution-logger: no entry of that operation is stored\n"
    tree.store(encoded(task_id="elsewhere", parent_id=A))
    several = tree.run("tail", "--operation", A)
    assert several.exit_code == 2
    assert "several runs have that, 'elsewhere' and 't': name one" in " ".join(several.stderr.split())


@pytest.mark.parametrize("width", [80, 120])
def test_a_deep_tree_fits_a_terminal(tree: StoredRuns, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """A thousand levels: of what leads there the nearest is shown, and how much is not."""
    ids = [f"01a2020e-76f9-7733-a5d1-{number:012}" for number in range(1000)]
    parents = [None, *ids]
    tree.store(
        *(
            encoded(
                task_id="deep",
                operation_id=id_,
                parent_id=parent,
                message=f"{number} started 进展 {'x' * 99}",
            )
            for number, (id_, parent) in enumerate(zip(ids, parents, strict=False))
        )
    )
    console = Console(width=width, file=StringIO(), force_terminal=True, color_system=None)
    monkeypatch.setattr(cli_tail, "open_console", lambda **_: console)
    assert tree.run("tail", "deep", "--tree").exit_code == 0
    shown = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(shown) == 1001
    assert all(cell_len(line) <= width for line in shown)
    assert f"└─ {7} started 进" in shown[8]
    assert "└─ 999 started 进" in shown[1000]
    left_out = int(shown[1000].partition("(+")[2].partition(")")[0])
    bars = (shown[1000].index("└─") - shown[1000].index("(+")) // 3 - 3
    assert left_out + bars + 1 == 999


def test_a_tree_of_a_long_run_says_what_is_left_out(tree: StoredRuns) -> None:
    """Operations whose beginning is cut off are there all the same."""
    shown = lines(tree.run("tail", "t", "--tree", "-n", "4"))
    assert shown[0] == "… earlier entries are left out; --all shows them"
    assert shown[2:] == [
        "02:13:01.000 report  7,000 ms  1 error within",
        "02:13:02.000 └─ ✗ search  failed  3,000 ms  scout  no answer",
        "02:13:06.000 WARNING half  1,500 ms",
        "02:13:07.000 lost",
    ]
    assert tree.run("tail", "t", "--tree", "--all").stdout == TREE


def test_a_tree_says_what_the_limits_of_a_run_have_left_out(tree: StoredRuns) -> None:
    """At the run, whose last entry knows it."""
    run_id = A.replace("c3da", "c3de")
    tree.store(
        entry(9, message="run started", operation_id=run_id),
        entry(10, message="run completed", operation_id=run_id, details={"left_out": 1_200}),
    )
    assert lines(tree.run("tail", "t", "--tree"))[-1] == "02:13:09.000 run  1,000 ms  1,200 left out"


def test_a_tree_may_have_whole_details(tree: StoredRuns) -> None:
    """Below what has them."""
    shown = lines(tree.run("tail", "t", "--tree", "--details"))
    assert shown[1:5] == ["02:13:00.000 plain", " " * 13 + "{", " " * 13 + '  "k": 1', " " * 13 + "}"]
    at = shown.index("02:13:02.000 ├─ ✗ search  failed  3,000 ms  scout  no answer")
    assert " " * 13 + '│    "error": "no answer"' in [line.rstrip(",") for line in shown[at + 1 :]]


@pytest.mark.parametrize("options", [("--tree",), ("t", "--tree", "--follow"), ("t", "--tree", "--json")])
def test_a_tree_is_of_what_is_there(tree: StoredRuns, options: tuple[str, ...]) -> None:
    """Of one run, for people; anything else is wrong usage, and so is an operation that is no UUID."""
    assert tree.run("tail", *options).exit_code == 2
    assert tree.run("tail", "t", "--operation", "search").exit_code == 2
    missing = tree.run("tail", "nope", "--tree")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "no entry of the run 'nope' is stored" in missing.stderr


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


def test_following_an_operation_follows_what_begins_within_it(
    tree: StoredRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an entry comes before the operation that it is within; what is elsewhere is not shown."""
    new, newer, outside = (A.replace("0", digit) for digit in "123")
    result = follow(
        tree,
        monkeypatch,
        f"--json -n 1 --operation {C}",
        lambda: tree.store(
            entry(10, message="in", parent_id=C),
            entry(11, message="out", parent_id=A),
            entry(12, message="early", parent_id=newer),
            entry(13, message="not", parent_id=outside),
        ),
        lambda: tree.store(entry(14, message="newer", operation_id=newer, parent_id=new)),
        lambda: tree.store(entry(15, message="new", operation_id=new, parent_id=C)),
        lambda: tree.store(entry(16, message="deep", parent_id=newer), entry(5, message="late", parent_id=C)),
        nothing,
        nothing,
    )
    assert messages(result) == ["half", "in", "new", "newer", "early", "deep", "late"]


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
