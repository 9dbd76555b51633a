"""The terminal: what others have written does not steer it."""

import importlib.util
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from execution_logger.cli import terminal
from execution_logger.cli.terminal import OutputError, ago, output_errors, print_rows
from execution_logger.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("进展 50%", "进展 50%"),
        ("wide\u3000space, no\u00a0break", "wide\u3000space, no\u00a0break"),
        ("👩‍💻", "👩‍💻"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("txt\u202egpj", r"txt\u202egpj"),
        ("line\u2028break", r"line\u2028break"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("\ud800", r"\ud800"),
        ("\0", r"\x00"),
    ],
)
def test_what_steers_a_terminal_is_written_out(text: str, shown: str) -> None:
    """Everything else stays as it is."""
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s ago"), (-0.2, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7200, "2 h ago"),
        (200_000, "2 days ago"), (-28_800, "in 8 h"),
    ],
)  # fmt: skip
def test_an_age_is_easy_to_read(seconds: float, text: str) -> None:
    """In the largest unit of which there are two; a time zone that is wrong shows."""
    assert ago(seconds) == text


def test_a_full_disk_is_an_error_line() -> None:
    """A reader that has gone is left to click."""
    with pytest.raises(OutputError, match="the output cannot be written: No space left"), output_errors():
        raise OSError(28, "No space left on device")
    with pytest.raises(BrokenPipeError), output_errors():
        raise BrokenPipeError


def printed(width: int, columns: Sequence[str], *rows: Sequence[str | Text]) -> list[str]:
    """The lines that a terminal of this width shows."""
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        print_rows(console, columns, rows, right=("entries",), folded={"reason": 20})
    return [line.rstrip() for line in capture.get().splitlines()]


def test_rows_are_a_table_where_there_is_room() -> None:
    """Numbers stand to the right; a free text is broken before anything else is."""
    lines = printed(40, ("id", "entries", "reason"), ("order-42", "7", "a reason of 32 characters in all"))
    assert lines[0] == "id        entries  reason"
    assert lines[2:] == ["order-42        7  a reason of 32", "                   characters in all"]


def test_rows_are_paragraphs_where_there_is_none() -> None:
    """What is empty is left out, and what each value is stands before it."""
    row = ("order-42", "7", "-", "a reason of 32 characters in all")
    lines = printed(30, ("id", "entries", "late", "reason"), row)
    assert lines == ["order-42", "  entries: 7", "  a reason of 32 characters in", "  all"]


def test_a_text_is_broken_between_words_only() -> None:
    """Chinese has them between commas; a word that no column has room for makes paragraphs."""
    row = ("order-42", "7", "列「金额」没有这样的值。请检查表的结构。")
    lines = printed(44, ("id", "entries", "reason"), row)
    assert lines[2:] == ["order-42        7  列「金额」没有这样的值。", "                   请检查表的结构。"]
    url = "redis://a.host.of.the.cloud:6379/0"
    assert printed(36, ("id", "entries", "reason"), ("order-42", "7", f"{url} is away"))[2:] == [
        f"  {url}",
        "  is away",
    ]


def test_a_longer_value_shifts_the_rest_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A column of values is as wide as the most of them that have room; so is one of texts in a pipe."""
    rows = [("a", "1", "x"), ("b", "22", "y"), ("c", "3" * 200, "z")]
    flexible: list[dict[str, Any]] = [{"whole": {"value": 4}}, {"folded": {"value": 4}}]
    for columns in flexible:
        print_rows(terminal.open_console(), ("name", "value", "from"), rows, **columns)
        lines = capsys.readouterr().out.splitlines()
        assert lines[2:] == ["a     1      x", "b     22     y", f"c     {'3' * 200}  z"]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as a host without Rich has it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    spec = importlib.util.spec_from_file_location("plain_terminal", terminal.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_rich_a_table_is_the_same(plain: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """But for its colours: a host has not the worker's extra, and needs `config`, `doctor` and `recover`."""
    rows = [
        ("order-42", "7", "-", "a reason of 32 characters in all"),
        ("订单-7", "1,200", "1", "原因。" * 30),
    ]

    def shown(module: ModuleType, width: int | None) -> str:
        console = module.open_console()
        if width:
            console.is_terminal, console.width = True, width
        module.print_rows(console, ("id", "entries", "late", "reason"), rows, **columns)
        return capsys.readouterr().out

    columns: dict[str, Any] = {"title": "runs", "right": ("entries",), "folded": {"reason": 20}}
    narrow = shown(plain, 30)
    assert narrow.splitlines()[2:5] == ["order-42", "  entries: 7", "  a reason of 32 characters in"]
    assert "订单-7      1,200  1     原因。" in shown(plain, 60)
    assert shown(plain, None) == shown(terminal, None)


@given(st.text(min_size=1, max_size=60), st.integers(1, 150), st.text(max_size=80))
def test_an_identifier_stays_whole(identifier: str, width: int, reason: str) -> None:
    """At any width, whatever stands in it; and no text steers the terminal."""
    lines = printed(width, ("id", "entries", "reason"), (identifier, "7", Text(reason)))
    shown = printable(identifier).rstrip()
    assert any(shown in line for line in lines)
    assert all(line.isprintable() or printable(line) == line for line in lines)
