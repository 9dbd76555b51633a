"""The demonstration's pipeline does its work, and logs it as hosts do."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from execution_logger import ExecutionLogger
from execution_logger.demo.documents import Document, broken_links, decode_legacy, find_documents, parse
from execution_logger.demo.index import InvertedIndex
from execution_logger.demo.pipeline import DocumentPipeline
from execution_logger.demo.terms import extract
from execution_logger.demo.workspace import Workspace
from execution_logger.errors import ExecutionLoggerError
from execution_logger.testing import MemoryDelivery

README = """# The project

See [the guide](guide.md#start), [the plan](plan.md) and [the site](https://example.org/x).

```
# no heading, and [no link](nowhere.md)
```

## Use of it
"""
MODULE = '''#!/usr/bin/env python3
"""A module."""

class Engine:
    async def start(self): ...
'''


class Site:
    """A folder of documents, and a pipeline over it whose entries come into a list."""

    def __init__(self, folder: Path, make_logger: Callable[..., ExecutionLogger]) -> None:
        self.folder = folder / "documents"
        self.output = folder / "output"
        for each in (self.folder, self.output):
            each.mkdir()
        self._delivery = MemoryDelivery()
        self.logger = make_logger(self._delivery, language="en")
        self.pipeline = DocumentPipeline(self.logger, self.folder, self.output)

    async def run(self, *paths: Path) -> list[dict[str, Any]]:
        """The entries of a run over files."""
        await self.pipeline.run("run", paths)
        await self.logger.flush()
        return self._delivery.entries

    def write(self, name: str, text: str) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.write_text(text, "utf-8")
        return path


@pytest.fixture
def site(tmp_path: Path, make_logger: Callable[..., ExecutionLogger]) -> Site:
    """One without documents yet."""
    return Site(tmp_path, make_logger)


def messages(entries: list[dict[str, Any]], **fields: str) -> list[str]:
    """The messages of those entries that have these fields."""
    return [entry["message"] for entry in entries if fields.items() <= entry.items()]


async def test_every_step_is_logged(site: Site) -> None:
    """From the start of the run to its end, with each agent and each tool call between."""
    entries = await site.run(site.write("README.md", README), site.write("engine.py", MODULE))
    assert {entry["task_id"] for entry in entries} == {"run"}
    assert (entries[0]["message"], entries[-1]["message"]) == ("Processing 2 files", "Indexed 2 files")
    assert entries[0]["details"] == {"files": ["README.md", "engine.py"]}
    agents = ["reader", "parser", "extractor", "validator", "indexer"]
    in_order = dict.fromkeys(entry["agent_name"] for entry in entries if "agent_name" in entry)
    assert list(in_order) == agents
    assert Counter(entry["level"] for entry in entries if entry["category"] == "tool") == {"debug": 5}
    assert messages(entries, agent_name="parser", level="info")[-1] == "Parsing texts: 2 headings, 3 links"
    assert messages(entries, step="Index file") == ["Index file started", "Index file completed"]
    assert entries[-1]["duration_ms"] >= 0
    assert site.pipeline.runs_completed == 1


async def test_the_index_is_a_file(site: Site) -> None:
    """What the run has found out can be used."""
    readme, module = site.write("README.md", README), site.write("engine.py", MODULE)
    index = await site.pipeline.run("run", [readme, module])
    assert index.find("Project") == ["README.md"]
    written = json.loads((site.output / "run.json").read_text("utf-8"))
    assert written["module"] == {"engine.py": 1}
    assert len(written) == len(index)


async def test_a_file_in_an_older_encoding_is_an_error_and_a_retry(site: Site) -> None:
    """The demonstration plants such a file; nothing about the failure is acted."""
    planted = Workspace(site.folder).plant_legacy_file()
    entries = await site.run(planted)
    (error,) = (entry for entry in entries if entry["level"] == "error")
    assert error["message"] == "legacy-notes.txt is not UTF-8"
    assert "can't decode byte" in error["details"]["error"]
    assert messages(entries, category="retry") == [
        "Trying older encodings for legacy-notes.txt",
        "legacy-notes.txt is read as windows-1252",
    ]
    assert "café" in json.loads((site.output / "run.json").read_text("utf-8"))


async def test_a_file_that_cannot_be_read_is_an_error_and_is_left_out(site: Site) -> None:
    """The others are processed."""
    entries = await site.run(site.folder / "gone.md", site.write("a.txt", "some words"))
    assert messages(entries, level="error") == ["gone.md cannot be read"]
    assert entries[-1]["message"] == "Indexed 1 file"


async def test_what_is_wrong_in_a_document_is_a_warning(site: Site) -> None:
    """A link to nowhere, and a text without words."""
    entries = await site.run(
        site.write("README.md", "[x](gone.md) and more words"), site.write("a.txt", "1 2")
    )
    assert messages(entries, level="warning", agent_name="validator") == [
        "README.md: broken link gone.md",
        "a.txt: no words",
    ]


def test_a_markdown_text_has_headings_and_links() -> None:
    """Those in code are not meant."""
    document = parse(Path("README.md"), README)
    assert document.title == "The project"
    assert document.headings == ("The project", "Use of it")
    assert document.links == ("guide.md#start", "plan.md", "https://example.org/x")


def test_source_code_has_a_title_and_definitions() -> None:
    """The first line that says something is the title."""
    document = parse(Path("engine.py"), MODULE)
    assert (document.title, document.headings) == ("A module.", ())
    assert extract(document).definitions == ("Engine", "start")


def test_words_are_counted_without_case() -> None:
    """In any script; numbers and short words are no words."""
    words = extract(Document(Path("x"), "Über über 42 an straße", "x")).words
    assert words == {"über": 2, "straße": 1}


def test_links_are_checked_in_the_folder_of_the_document(tmp_path: Path) -> None:
    """Fragments and escapes are understood, and other machines are not asked."""
    (tmp_path / "a b.md").touch()
    links = ("a%20b.md#part", "gone.md", "#here", "https://example.org", "/root.md", "mailto:a@b")
    assert broken_links(Document(tmp_path / "x.md", "", "", links=links)) == ["gone.md"]


def test_any_bytes_are_a_text_in_some_encoding() -> None:
    """The last one knows every byte."""
    assert decode_legacy(b"caf\xe9") == ("café", "windows-1252")
    assert decode_legacy(b"\x81") == ("\x81", "latin-1")


def test_documents_are_found_below_a_folder(tmp_path: Path) -> None:
    """Markdown first; hidden, generated and other files are left out."""
    for name in (
        "b.py",
        "a.txt",
        "z.md",
        "sub/c.sql",
        ".git/x.md",
        "node_modules/x.js",
        "x.png",
        ".hidden.md",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (tmp_path / "huge.txt").write_text("x" * 1_048_577)
    names = [path.relative_to(tmp_path).as_posix() for path in find_documents(tmp_path)]
    assert names == ["z.md", "a.txt", "b.py", "sub/c.sql"]


def test_a_folder_without_documents_is_an_error(tmp_path: Path) -> None:
    """That says which files are looked for."""
    with pytest.raises(ExecutionLoggerError, match=r"no text files in this folder .*\.md"):
        find_documents(tmp_path)


def test_the_index_finds_the_document_that_speaks_most_of_it_first() -> None:
    """Words that nobody used have no documents."""
    index = InvertedIndex()
    index.add("a", extract(Document(Path("a"), "fish", "")))
    index.add("b", extract(Document(Path("b"), "fish fish bird", "")))
    assert index.find("FISH") == ["b", "a"]
    assert index.find("cat") == []
    assert len(index) == 2
