"""The documentation: both languages are in step, its links lead somewhere, its names exist."""

import re

import pytest

from documents import NAMES, ROOT, TRANSLATED, Document, figures, table_shape
from execution_logger.cli.group import COMMANDS
from execution_logger.settings import describe

CELERYS_OWN = {"CELERY_SETUP", "EXECUTION_LOGGER_BATCHSIZE"}
"""What looks like a variable and is none: a file, and a misspelt one that `config` is shown to find."""

pages = pytest.mark.parametrize("name", NAMES)
twins = pytest.mark.parametrize("name", TRANSLATED)


@twins
def test_each_language_links_to_the_other(name: str) -> None:
    """In its first lines."""
    english, chinese = Document(name), Document(TRANSLATED[name])
    assert chinese.path.name in english.links[:2]
    assert english.path.name in chinese.links[:2]


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


@pages
def test_links_lead_somewhere(name: str) -> None:
    """To files of the repository, and to headings that they have."""
    page = Document(name)
    assert page.links
    for link in page.links:
        file, _, anchor = link.partition("#")
        target = page.path.parent / file if file else page.path
        assert target.is_file(), link
        assert not anchor or anchor in Document(str(target.resolve().relative_to(ROOT))).anchors, link


@pages
def test_files_that_are_named_exist(name: str) -> None:
    """Scripts, benchmarks, examples and tests, in the text and in commands."""
    named = set(re.findall(r"\b(?:benchmarks|examples|scripts|tests)(?:/\w+)+\.\w+", Document(name).text))
    assert named
    assert [file for file in sorted(named) if not (ROOT / file).is_file()] == []


@pages
def test_variables_that_are_named_exist(name: str) -> None:
    """A misspelt variable would be ignored without a word."""
    known = {variable for variables, _, _ in describe() for variable in variables.split(" / ")}
    named = set(re.findall(r"\b(?:EXECUTION_LOGGER|CELERY|DATABASE)_[A-Z_]+\b", Document(name).text))
    assert named - known <= CELERYS_OWN


@pages
def test_subcommands_that_are_named_exist(name: str) -> None:
    """As `execution-logger` knows them."""
    named = re.findall(
        r"^\$ execution-logger (\w+)|`execution-logger (\w+)", Document(name).text, re.MULTILINE
    )
    assert named
    assert {first or second for first, second in named} <= set(COMMANDS)
