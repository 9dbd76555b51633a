"""What a document is about: its words, and what it defines."""

import re
from collections import Counter
from dataclasses import dataclass

from execution_logger.demo.documents import Document

_WORD = re.compile(r"[^\W\d_]{3,}")
_DEFINITION = re.compile(
    r"^\s*(?:export |pub |async )*(?:class|def|enum|fn|func|function|interface|struct)\s+([A-Za-z_]\w*)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Terms:
    """Words in lower case with their numbers, and the names that source code defines."""

    words: Counter[str]
    definitions: tuple[str, ...]


def extract(document: Document) -> Terms:
    """Count the words of a document and list its definitions."""
    words = Counter(word.lower() for word in _WORD.findall(document.text))
    return Terms(words, tuple(_DEFINITION.findall(document.text)))
