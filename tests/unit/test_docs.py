"""The documentation: both languages are in step, its links lead somewhere, its names exist."""

import ast
import re
from pathlib import Path

import pytest

from documents import PAGES, ROOT, TRANSLATED, Document, figures, table_shape
from execution_logger.cli import COMMANDS
from execution_logger.settings import describe

CELERYS_OWN = {"CELERY_SETUP", "EXECUTION_LOGGER_BATCHSIZE"}
"""What looks like a variable and is none: a file, and a misspelt one that `config` is shown to find."""

FOLDERS = ("benchmarks", "deploy", "examples", "execution_logger", "scripts", "tests")
SOURCES = [
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".conf", ".ini", ".py", ".service", ".sh", ".sql", ".yaml", ".yml"}
]
_PAGE = re.compile(r"\bdocs/[A-Z]\w+\.md(?:#[\w-]+)?")

LONGEST = {
    "README.md": 250,
    "docs/CELERY_SETUP.md": 500,
    **{name: 60 for name in PAGES if name.startswith("docs/integrations/")},
    **{name: 130 for name in PAGES if name.startswith("examples/")},
}
"""Most lines of a page, where it has grown too long before."""

twins = pytest.mark.parametrize("name", TRANSLATED)


def all_named(pattern: str) -> list[str]:
    """What the pattern finds in all pages."""
    return sorted({each for name in PAGES for each in re.findall(pattern, Document(name).text, re.MULTILINE)})


@twins
def test_each_language_links_to_the_other(name: str) -> None:
    """In its first lines."""
    english, chinese = Document(name), Document(TRANSLATED[name])
    assert chinese.path.name in english.links[:2]
    assert english.path.name in chinese.links[:2]


def test_every_translation_is_compared() -> None:
    """With the page that it translates."""
    assert {name for name in PAGES if name.endswith(".zh-CN.md")} == set(TRANSLATED.values())


@twins
def test_both_languages_have_the_same_sections(name: str) -> None:
    """As many headings, of the same levels; what is written in code is the same in both."""
    english, chinese = (Document(page).headings for page in (name, TRANSLATED[name]))
    assert [level for level, _ in chinese] == [level for level, _ in english]
    code = re.compile(r"`[^`]+`")
    assert [code.findall(title) for _, title in chinese] == [code.findall(title) for _, title in english]


@twins
def test_both_languages_show_the_same_code(name: str) -> None:
    """Block by block; only pictures (`text`) are translated."""
    english, chinese = (Document(page).blocks for page in (name, TRANSLATED[name]))
    assert [block.language for block in chinese] == [block.language for block in english]
    for ours, theirs in zip(english, chinese, strict=True):
        assert ours.language == "text" or theirs == ours


@twins
def test_both_languages_give_the_same_figures(name: str) -> None:
    """Section by section the same numbers, so that a new measurement reaches both."""
    english, chinese = Document(name), Document(TRANSLATED[name])
    titles = ["(top)", *(title for _, title in english.headings)]
    for title, ours, theirs in zip(titles, english.sections, chinese.sections, strict=True):
        assert figures(theirs) == figures(ours), title
        assert table_shape(theirs) == table_shape(ours), title


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    """To files of the repository, and to headings that they have."""
    page = Document(name)
    for link in page.links:
        file, _, anchor = link.partition("#")
        target = page.path.parent / file if file else page.path
        assert target.exists(), link
        assert not anchor or anchor in Document(str(target.resolve().relative_to(ROOT))).anchors, link


def test_pages_that_code_names_exist() -> None:
    """Error messages, alert rules, units and comments send readers to a page, or to a heading of it."""
    named = {link for file in SOURCES for link in _PAGE.findall(file.read_text(encoding="utf-8"))}
    assert len(named) > 5
    for link in sorted(named):
        page, _, anchor = link.partition("#")
        assert (ROOT / page).is_file(), link
        assert not anchor or anchor in Document(page).anchors, link


def test_no_page_is_out_of_sight() -> None:
    """From the README every page can be reached."""
    seen: set[str] = set()
    ahead = ["README.md"]
    while ahead:
        name = ahead.pop()
        seen.add(name)
        targets = {(ROOT / name).parent / link.partition("#")[0] for link in Document(name).links}
        pages = {str(target.resolve().relative_to(ROOT)) for target in targets if target.suffix == ".md"}
        ahead += pages - seen
    assert seen == set(PAGES)


@pytest.mark.parametrize("name", LONGEST)
def test_a_page_answers_one_question(name: str) -> None:
    """Longer ones are not read."""
    assert len(Document(name).text.splitlines()) <= LONGEST[name]


def test_files_that_are_named_exist() -> None:
    """Scripts, benchmarks, examples and tests, in the text and in commands."""
    named = all_named(r"\b(?:benchmarks|examples|scripts|tests)(?:/\w+)+(?:\.[a-zA-Z-]+)+\b")
    assert len(named) > 10
    assert [file for file in named if not (ROOT / file).is_file()] == []


def test_functions_on_the_way_of_an_entry_exist() -> None:
    """In the files beside which they stand."""
    rows = re.findall(r"\]\(\.\./([\w/]+\.py)\) \| `([\w.]+)` \|", Document("docs/ARCHITECTURE.md").text)
    assert len(rows) > 20
    assert [(file, name) for file, name in rows if name not in defined_in(ROOT / file)] == []


def defined_in(file: Path) -> set[str]:
    """Functions and classes, and the methods of these."""
    tree = ast.parse(file.read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = [each for each in tree.body if isinstance(each, kinds)]
    methods = {
        f"{each.name}.{inner.name}" for each in found for inner in each.body if isinstance(inner, kinds)
    }
    return {each.name for each in found} | methods


def test_the_picture_of_the_house_is_complete() -> None:
    """Each package and module at the top of the package stands in it."""
    (picture,) = (block.code for block in Document("docs/ARCHITECTURE.md").blocks)
    top = {
        path.stem
        for path in (ROOT / "execution_logger").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
    }
    assert top <= set(re.findall(r"\w+", picture))


def test_variables_that_are_named_exist() -> None:
    """A misspelt variable would be ignored without a word."""
    known = {variable for variables, _, _ in describe() for variable in variables.split(" / ")}
    named = set(all_named(r"\b(?:EXECUTION_LOGGER|CELERY|DATABASE)_[A-Z_]+\b"))
    assert named - known <= CELERYS_OWN


def test_subcommands_that_are_named_exist() -> None:
    """As `execution-logger` knows them."""
    named = all_named(r"(?:^\$ |`)execution-logger (\w+)")
    assert set(named) == set(COMMANDS)
