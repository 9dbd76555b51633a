"""The frame of the benchmarks: what is printed, saved and written into the documents."""

import re
import sys
from pathlib import Path

import pytest

from figures import Figures, Plot, Table, Target, load, main, number, percentile, spread
from report import DOCUMENTS, FOLDER, PROGRAMS, draw, fill

FIGURES = Figures(
    [Table("First", ("name", "µs"), [("ours", "1.00")], "A note."), Table("Second", ("name",), [("x",)])],
    [Plot("Costs", "", "µs", {"small": [("ours", 1.0), ("`theirs`", 2.5)]})],
    [Target("a call", 0.2, 0.25), Target("rows", 80, 90, "%", is_least=True)],
    "2 cores",
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (0.123, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1,234")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    """More would say what nobody has measured."""
    assert number(value) == text


def test_a_table_is_aligned() -> None:
    """The names on the left, the figures on the right."""
    table = Table("T", ("name", "µs"), [("a", "1"), ("longer", "1,000")])
    assert str(table).splitlines() == ["T", "name       µs", "a           1", "longer  1,000"]


def test_targets_say_whether_they_are_met() -> None:
    """A limit is the most or the least."""
    assert [target.cells for target in FIGURES.targets] == [
        ("a call", "≤ 0.250", "0.200", "yes"),
        ("rows", "≥ 90.0 %", "80.0 %", "no"),
    ]


def test_percentiles_are_values_that_were_measured() -> None:
    """Nothing is interpolated: the worst call was one."""
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, p) for p in (50, 99, 99.9)] == [51, 100, 100]
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == "3.00 (1.50-4.50)"


def test_what_is_saved_can_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report is made of it, at any later time."""
    file = tmp_path / "results" / "call.json"
    monkeypatch.setattr(sys, "argv", ["call.py", "--quick", "--save", str(file)])
    main("What it measures.", lambda options: Figures(FIGURES.tables) if options.quick else Figures())
    assert [table.title for table in load(file).tables] == ["First", "Second"]
    assert str(FIGURES.tables[0]) in capsys.readouterr().out


def test_marks_are_filled_and_what_was_not_measured_stays() -> None:
    """Again and again, with the same result."""
    text = (
        "# Title\n<!-- figures: call 1 -->\nold\n<!-- /figures -->\n"
        "<!-- figures: loop -->\nold\n<!-- /figures -->\n"
        "<!-- targets -->\n<!-- /targets -->\n<!-- figures: call -->\n<!-- /figures -->\n"
    )
    filled = fill(text, {"call": FIGURES})
    assert (
        "<!-- figures: call 1 -->\n| name | µs |\n| --- | ---: |\n| ours | 1.00 |\n\nA note.\n<!--" in filled
    )
    assert "<!-- figures: loop -->\nold\n" in filled
    assert "| a call | ≤ 0.250 | 0.200 | yes |" in filled
    assert "**Second**" in filled
    assert "![Costs](plots/call-1.svg)" in filled
    assert fill(filled, {"call": FIGURES}) == filled


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Matplotlib opens its fonts at the first plot, and keeps them."""
    draw(FIGURES.plots[0], tmp_path_factory.mktemp("first") / "plot.svg")


@pytest.mark.usefixtures("fonts")
def test_a_plot_is_the_same_file_for_the_same_figures(tmp_path: Path) -> None:
    """A report that changes nothing is no commit. Texts stay texts."""
    files = [tmp_path / folder / "call-1.svg" for folder in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        draw(FIGURES.plots[0], file)
    first, second = (file.read_text() for file in files)
    assert first == second
    assert "Costs" in first
    assert "theirs" in first


@pytest.mark.usefixtures("fonts")
@pytest.mark.parametrize("page", ["#ffffff", "#1e2129", "#0d1117"])
def test_a_plot_is_seen_on_white_and_on_dark_pages(tmp_path: Path, page: str) -> None:
    """It has no background of its own, and each colour stands out as WCAG asks of what is drawn: 3 to 1."""
    many = {f"series {number}": [(str(number), 1.0)] for number in range(8)}
    draw(Plot("Many", "x", "y", many), tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text()
    colours = set(re.findall(r"#[0-9a-f]{6}", drawn))
    assert len(colours) == 9
    assert {colour for colour in colours if contrast(colour, page) < 3} == set()
    assert not re.search(r"(?:fill|stroke): (?:black|white)", drawn)


def contrast(first: str, second: str) -> float:
    """Of two colours, as WCAG 2 defines it."""
    darker, lighter = sorted(map(luminance, (first, second)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Of a colour `#rrggbb`, from 0 to 1."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_documents_ask_for_programs_that_there_are() -> None:
    """Every mark, and every program is asked for somewhere."""
    named = [
        name for document in DOCUMENTS for name in re.findall(r"<!-- figures: (\w+)", document.read_text())
    ]
    assert set(named) == set(PROGRAMS)
    assert all((FOLDER / f"{name}.py").exists() for name in PROGRAMS)
