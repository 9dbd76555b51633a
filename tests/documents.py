"""The user documentation as tests read it: headings, fenced blocks, figures, links."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

TRANSLATED = {
    "README.md": "README.zh-CN.md",
    "docs/USING.md": "docs/USING.zh-CN.md",
    "docs/PAGE.md": "docs/PAGE.zh-CN.md",
    "docs/SETTINGS.md": "docs/SETTINGS.zh-CN.md",
    "docs/TABLES.md": "docs/TABLES.zh-CN.md",
    "docs/CELERY_SETUP.md": "docs/CELERY_SETUP.zh-CN.md",
    "docs/OPERATING.md": "docs/OPERATING.zh-CN.md",
    "docs/TROUBLESHOOTING.md": "docs/TROUBLESHOOTING.zh-CN.md",
    "docs/RELIABILITY.md": "docs/RELIABILITY.zh-CN.md",
    **{
        str(path.relative_to(ROOT)): str(path.relative_to(ROOT).with_suffix(".zh-CN.md"))
        for pages in ("docs/integrations/*.md", "examples/README.md", "examples/*/README.md")
        for path in sorted(ROOT.glob(pages))
        if not path.name.endswith(".zh-CN.md")
    },
}
"""Each English page and its Chinese twin."""

PAGES = sorted(
    str(path.relative_to(ROOT))
    for folder in (".", "docs", "docs/integrations", "examples", "examples/*")
    for path in ROOT.glob(f"{folder}/*.md")
)
"""Every page of the repository, by its name."""

_BLOCK = re.compile(
    r"^(?:<!-- example: (?P<example>[\w-]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Block:
    """A fenced block; Python examples have a name, in a comment on the line before."""

    language: str
    code: str
    example: str | None


class Document:
    """A page of the documentation, by its name from the root of the repository."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = ROOT / name
        self.text = self.path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> list[Block]:
        """All fenced blocks, in their order."""
        return [
            Block(match["language"], match["code"], match["example"]) for match in _BLOCK.finditer(self.text)
        ]

    @cached_property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _BLOCK.sub("", self.text)

    @property
    def headings(self) -> list[tuple[int, str]]:
        """Level and text of each heading."""
        return [(len(marks), title) for marks, title in _HEADING.findall(self.prose)]

    @property
    def sections(self) -> list[str]:
        """The prose under each heading, that before the first one included."""
        return re.split(r"^#+ .+$", self.prose, flags=re.MULTILINE)

    @property
    def links(self) -> list[str]:
        """Where its links within the repository lead."""
        return [link for link in _LINK.findall(self.prose) if "://" not in link]

    @property
    def anchors(self) -> set[str]:
        """What `#...` at the end of a link may name, as GitHub makes it from the headings."""
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for _, title in self.headings}

    def run_example(self, name: str) -> dict[str, Any]:
        """Execute the Python example of this name; the names that it defines."""
        (code,) = [block.code for block in self.blocks if block.example == name]
        defined: dict[str, Any] = {"__name__": name}
        exec(compile(code, f"{self.name}:{name}", "exec"), defined)
        return defined


def figures(section: str) -> Counter[str]:
    """The numbers of a section, those inside links' targets left out."""
    return Counter(_FIGURE.findall(re.sub(r"\]\([^)]*\)", "]", section)))


def table_shape(section: str) -> list[int]:
    """How many cells each line of the section's tables has."""
    return [line.count("|") for line in section.splitlines() if line.strip().startswith("|")]
