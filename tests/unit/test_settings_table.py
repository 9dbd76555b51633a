"""The settings that the documentation shows are those that there are."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from execution_logger.settings import describe

ROOT = Path(__file__).resolve().parents[2]


def documented(name: str) -> list[tuple[str, str, str]]:
    """The rows of a page's table: variables, default and meaning, without their code marks."""
    text = (ROOT / name).read_text(encoding="utf-8")
    tables = re.findall(r"<!-- settings -->\n(.*?)<!-- /settings -->", text, re.DOTALL)
    assert len(tables) == 1, f"{name} has no table between <!-- settings --> and <!-- /settings -->"
    rows = [line.strip("| \n").split("|") for line in tables[0].strip().splitlines()[2:]]
    return [(cells[0].strip(" ").replace("`", ""), cells[1].strip(" `"), cells[2].strip()) for cells in rows]


def test_the_page_shows_every_setting() -> None:
    """With its names, default and meaning; `python scripts/settings_table.py` prints the table."""
    assert documented("docs/SETTINGS.md") == describe()


def test_the_chinese_page_shows_every_setting() -> None:
    """With its names and default; the meaning is translated."""
    rows = documented("docs/SETTINGS.zh-CN.md")
    assert [row[:2] for row in rows] == [row[:2] for row in describe()]
    assert all(row[2] for row in rows)


def test_the_script_prints_the_table() -> None:
    """As the page has it."""
    command = [sys.executable, str(ROOT / "scripts" / "settings_table.py")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    assert printed.count("\n") == len(describe()) + 2
    for variables, default, meaning in describe():
        assert f"| {default and f'`{default}`'} | {meaning} |" in printed
        assert all(f"`{variable}`" in printed for variable in variables.split(" / "))


@pytest.mark.parametrize("row", describe(), ids=lambda row: row[0])
def test_every_setting_fits_into_the_table(row: tuple[str, str, str]) -> None:
    """A sentence, and nothing that ends a cell."""
    assert "|" not in "".join(row)
    assert row[2].endswith(".")
