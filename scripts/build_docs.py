"""Build the site of the documentation into build/docs/site, from README, docs/ and the public docstrings.

Needs the dependency group `docs`. The pages stay as GitHub shows them: they are copied to build/docs, with
the configuration of docs/site, and their links rewritten. A page without a Chinese twin stands in the Chinese
site in English. A file that is no page, but linked to, gets one.
"""  # noqa: INP001 - run by file

import re
import shutil
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "docs" / "site"
IMAGES = ROOT / "docs" / "images"
STAGE = ROOT / "build" / "docs"
SITE = STAGE / "site"

CHINESE = ".zh-CN.md"
PAGES = {
    "index.md": ROOT / "README.md",
    "API.md": SOURCE / "API.md",
    **{path.name: path for path in (ROOT / "docs").glob("*.md") if not path.name.endswith(CHINESE)},
    **{
        f"integrations/{path.name.replace('README', 'index')}": path
        for path in (ROOT / "docs" / "integrations").glob("*.md")
        if not path.name.endswith(CHINESE)
    },
    **{
        f"{path.parent.relative_to(ROOT)}/index.md": path
        for path in (ROOT / "examples/README.md", *(ROOT / "examples").glob("*/README.md"))
    },
    **{name: ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")},
}
"""The pages by their names on the site: the English files."""

NAMES = {path: name for name, path in PAGES.items()}
LEXERS = {".py": "python", ".yml": "yaml", ".service": "ini"}

_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\[\]]*)\]\(([^)\s]+)\)")
_IMAGE = re.compile(r'(src|srcset)="docs/(images/[^"]+)"')
_FILE_NAME = re.compile(r"(?:docs/)?[A-Z_]+(?:\.zh-CN)?\.md")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LEFT_OUT = re.compile(r"^(?:<!-- .* -->|.*\*\*(?:English|简体中文)\*\*.*)\n", re.MULTILINE)
"""Marks of tests, and the links between the languages: every page of the site has one at its top."""


class Stage:
    """The pages of one language, as the generator takes them."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.folder = STAGE / language
        self.files: set[Path] = set()

    def write(self) -> None:
        """All pages, and the files that they lead to: these for both languages beside the English ones."""
        for folder in ("images", "plots"):
            shutil.copytree(ROOT / "docs" / folder, self.folder / folder)
        for name, english in PAGES.items():
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self._page(english), "utf-8")
        for file in self.files if self.language == "en" else ():
            target = self.folder / _file_page(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_shown(file), "utf-8")

    def _page(self, english: Path) -> str:
        path = self._twin(english)
        parts = _FENCED.split(_LEFT_OUT.sub("", path.read_text("utf-8")))
        parts[::2] = [_LINK.sub(lambda link: self._link(path, *link.groups()), part) for part in parts[::2]]
        text = _IMAGE.sub(r'\1="\2"', "".join(parts))
        if self.language == "zh" and path == english:
            text = text.replace("\n", "\n\n*本页只有英文。*\n", 1)
        return text

    def _twin(self, english: Path) -> Path:
        chinese = english.with_suffix(CHINESE)
        return chinese if self.language == "zh" and chinese.exists() else english

    def _link(self, page: Path, text: str, target: str) -> str:
        """A link of the page, as it is on the site; the name of a page's file becomes its title."""
        file, mark, anchor = target.partition("#")
        path, up = (page.parent / file).resolve(), "../" * NAMES[_english(page)].count("/")
        english = _english(path)
        if file and english in NAMES:
            twin = self._twin(english)
            text = _headings(twin)[0] if _FILE_NAME.fullmatch(text) else text
            if anchor and twin != path:
                anchor = _anchors(twin)[_anchors(path).index(anchor)]
            target = up + NAMES[english] + mark + anchor
        elif file and path.is_relative_to(IMAGES):
            target = f"{up}images/{path.relative_to(IMAGES)}"
        elif file and path.exists() and path.suffix != ".svg":
            self.files.add(path)
            name = _file_page(path)
            target = up + (name if self.language == "en" else f"../{name[:-3]}.html")
        return f"[{text}]({target})"


def _english(page: Path) -> Path:
    return page.with_name(page.name.replace(CHINESE, ".md"))


@cache
def _headings(page: Path) -> list[str]:
    return _HEADING.findall(_FENCED.sub("", page.read_text("utf-8")))


def _anchors(page: Path) -> list[str]:
    """Of the page's headings, as GitHub makes them; twins have the same headings in the same order."""
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _headings(page)]


def _file_page(file: Path) -> str:
    return f"files/{file.relative_to(ROOT)}.md"


def _shown(file: Path) -> str:
    """A page with what is in a file, or with the names in a folder."""
    if file.is_dir():
        names = sorted(each.name for each in file.iterdir() if not each.name.startswith("__"))
        content = "\n".join(f"- `{name}`" for name in names)
    else:
        content = f"~~~~ {{.{LEXERS.get(file.suffix, 'text')}}}\n{file.read_text('utf-8')}\n~~~~"
    return f"---\nis_file: true\nsearch:\n  exclude: true\n---\n\n# {file.relative_to(ROOT)}\n\n{content}\n"


class Page(HTMLParser):
    """What a built page refers to, and what it may be referred to by."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.anchors = {""}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep `id`, `href`, `src` and `srcset`."""
        values = dict(attrs)
        self.anchors.add(values.get("id") or "")
        links = [value for value in map(values.get, ("href", "src", "srcset")) if value]
        self.links += links
        self.loaded += [] if tag == "a" else links

    def target(self, link: str) -> Path:
        """The file that a link within the site leads to."""
        path = unquote(urlsplit(link).path)
        return (self.file.parent / path).resolve() if path else self.file


def problems() -> list[str]:
    """Links of the built site that lead nowhere, and what it would load from elsewhere."""
    pages = {file: Page(file) for file in SITE.rglob("*.html") if file.name != "404.html"}
    found = []
    for page in pages.values():
        found += [f"{page.file} loads {link}" for link in page.loaded if urlsplit(link).netloc]
        for link in (link for link in page.links if not urlsplit(link).scheme):
            target = page.target(link)
            anchor = unquote(urlsplit(link).fragment)
            if not target.exists() or (target in pages and anchor not in pages[target].anchors):
                found.append(f"{page.file}: {link} leads nowhere")
    return found


def unlisted() -> list[str]:
    """Pages that the navigation has forgotten."""
    listed = [(file, file.read_text("utf-8")) for file in (SOURCE / "en.yml", SOURCE / "zh.yml")]
    return [f"{file}: no {name}" for file, text in listed for name in PAGES if f": {name}\n" not in text]


def build() -> list[str]:
    """Both languages anew; what is wrong."""
    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(SOURCE, STAGE)
    for language in ("en", "zh"):
        (STAGE / language).mkdir()
        Stage(language).write()
        generator = [sys.executable, "-m", "zensical", "build", "--strict", "-f", f"{language}.yml"]
        if subprocess.run(generator, check=False, cwd=STAGE).returncode:  # noqa: S603 - our own words
            return [f"docs/site/{language}.yml cannot be built, for the reason above"]
    return unlisted() + problems()


if __name__ == "__main__":
    if found := build():
        sys.exit("\n".join(found))
