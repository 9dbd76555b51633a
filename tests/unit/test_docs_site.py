"""The site of the documentation: what `scripts/build_docs.py` makes of the pages, and what it refuses."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from documents import ROOT, Document

API = (ROOT / "docs" / "site" / "API.md").read_text("utf-8")


@pytest.fixture
def build_docs() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "scripts" / "build_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["execution_logger", "execution_logger.testing", "execution_logger.worker"])
def test_the_api_reference_has_every_public_name(name: str) -> None:
    """Of the modules that hosts import."""
    assert [each for each in importlib.import_module(name).__all__ if f"::: {name}.{each}\n" not in API] == []


def test_the_navigation_has_every_page(build_docs: ModuleType) -> None:
    """In both languages."""
    assert build_docs.unlisted() == []


def test_links_lead_to_pages_and_files_of_the_site(build_docs: ModuleType) -> None:
    """Pages lie side by side there, and each file that is linked to gets a page."""
    link = build_docs.Stage("en")._link
    page = ROOT / "README.md"
    assert link(page, "more", "docs/USING.md#in-fastapi") == "[more](USING.md#in-fastapi)"
    assert (
        link(page, "docs/USING.md", "docs/USING.md")
        == f"[{Document('docs/USING.md').headings[0][1]}](USING.md)"
    )
    assert link(page, "a host", "examples/fastapi_app.py") == "[a host](files/examples/fastapi_app.py.md)"
    assert link(page, "here", "#install") == "[here](#install)"


def test_english_pages_in_the_chinese_site_lead_to_chinese_ones(build_docs: ModuleType) -> None:
    """To the heading that is the twin of theirs."""
    link = build_docs.Stage("zh")._link(ROOT / "docs" / "SCALING.md", "retention", "OPERATING.md#retention")
    assert link == "[retention](OPERATING.md#数据保留)"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="other.html">', "other.html leads nowhere"),
        ('<a href="#there">', "#there leads nowhere"),
        ('<script src="https://elsewhere.example/a.js">', "loads https://elsewhere.example/a.js"),
        ('<a href="https://elsewhere.example/">', None),
        ('<p id="there"><a href="page.html#there">', None),
    ],
)
def test_what_the_build_refuses(
    build_docs: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    body: str,
    problem: str | None,
) -> None:
    """Links that lead nowhere, and what a page would load from another host."""
    monkeypatch.setattr(build_docs, "SITE", tmp_path)
    (tmp_path / "page.html").write_text(body, "utf-8")
    found = build_docs.problems()
    assert [each.endswith(problem) for each in found] == [True] if problem else found == []
