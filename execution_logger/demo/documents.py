"""Text files as documents: what the pipeline finds, reads and parses."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from execution_logger.errors import ExecutionLoggerError

SUFFIXES = frozenset((
    ".cfg", ".css", ".go", ".html", ".ini", ".js", ".json", ".md", ".py", ".rs", ".rst", ".sh", ".sql",
    ".toml", ".ts", ".txt", ".yaml", ".yml",
))  # fmt: skip
LEGACY_ENCODINGS = ("windows-1252", "latin-1")
MAX_FILES = 2_000
MAX_BYTES = 1_048_576

_SKIPPED_FOLDERS = frozenset(("__pycache__", "build", "dist", "node_modules", "site-packages", "venv"))
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(<?([^)>\s]+)>?\)")
_CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed text; headings and links are those of Markdown."""

    path: Path
    text: str
    title: str
    headings: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


def find_documents(folder: Path) -> list[Path]:
    """The text files below a folder, Markdown first; hidden, generated and huge ones are left out.

    Raises:
        ExecutionLoggerError: there are none.
    """
    found = sorted(_walk(folder), key=lambda path: (path.suffix != ".md", path))[:MAX_FILES]
    if not found:
        kinds = " ".join(sorted(SUFFIXES))
        raise ExecutionLoggerError(f"{folder}: there are no text files in this folder ({kinds})")
    return found


def decode(data: bytes) -> str:
    """The text of a file, which has to be UTF-8.

    Raises:
        UnicodeDecodeError: it is not.
    """
    return data.decode("utf-8-sig")


def decode_legacy(data: bytes) -> tuple[str, str]:
    """The text of a file that is not UTF-8, and the older encoding that fits it."""
    for encoding in LEGACY_ENCODINGS:
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 fits everything")


def parse(path: Path, text: str) -> Document:
    """Find out the title of a text, and the headings and links of Markdown."""
    lines = (line.strip("#\"' ") for line in text.splitlines() if not line.startswith("#!"))
    title = next(filter(None, lines), "")
    if path.suffix != ".md":
        return Document(path, text, title)
    prose = _CODE.sub("", text)
    return Document(path, text, title, tuple(_HEADING.findall(prose)), tuple(_LINK.findall(prose)))


def broken_links(document: Document) -> list[str]:
    """The links to files that are not there; links to other machines are not followed."""
    return [link for link in document.links if _is_broken(document.path.parent, link)]


def _is_broken(folder: Path, link: str) -> bool:
    parts = urlsplit(link)
    is_local = not parts.scheme and not parts.netloc and parts.path and not parts.path.startswith("/")
    return bool(is_local) and not (folder / unquote(parts.path)).exists()


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_dir():
            if path.name not in _SKIPPED_FOLDERS:
                yield from _walk(path)
        elif path.suffix in SUFFIXES and path.stat().st_size <= MAX_BYTES:
            yield path
