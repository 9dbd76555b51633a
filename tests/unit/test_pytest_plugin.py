"""What a host's pytest finds where the package is installed."""

from importlib.metadata import entry_points
from pathlib import Path

from children import run_script
from documents import Document
from execution_logger import LogEntry, execution_logger


def test_the_fixture_has_what_is_logged(captured_entries: list[LogEntry]) -> None:
    """It is there without an import, and nothing of it is delivered."""
    assert execution_logger.sync.info("t", "agent", "hello") is captured_entries[0]


def test_in_a_project_of_the_hosts(tmp_path: Path) -> None:
    """A test file that says no more than the documentation does."""
    examples = {block.example: block.code for block in Document("docs/USING.md").blocks}
    test = tmp_path / "test_report.py"
    test.write_text(examples["expectations"], encoding="utf-8")
    # Of the plugins that other packages have brought, some take seconds.
    others = ("cacheprovider", "asyncio", "langsmith_plugin", "schemathesis")
    arguments = (f"-pno:{name}" for name in others)
    said = run_script("import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))", test, *arguments)
    assert "1 passed" in said


def test_it_costs_nothing_where_it_is_not_used() -> None:
    """It is loaded in every run of every project: neither our packages nor those of others come with it."""
    (plugin,) = (point for point in entry_points(group="pytest11") if point.name == "execution_logger")
    said = run_script(f"""
        import sys
        import pytest
        before = set(sys.modules)
        import {plugin.value}
        print(*set(sys.modules) - before)
    """)
    assert set(said.split()) == {"execution_logger", "execution_logger.integrations", plugin.value}
