"""The inverted index: for each word the documents that have it."""

import json
from collections import defaultdict
from pathlib import Path

from execution_logger.demo.terms import Terms


class InvertedIndex:
    """Maps words to the documents that contain them, with the numbers of times."""

    def __init__(self) -> None:
        self._postings: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def add(self, name: str, terms: Terms) -> None:
        """Index a document under its name."""
        for word, count in terms.words.items():
            self._postings[word][name] = count

    def __len__(self) -> int:
        return len(self._postings)

    def find(self, word: str) -> list[str]:
        """The names of the documents that have the word, those with the most of it first."""
        postings = self._postings.get(word.lower(), {})
        return sorted(postings, key=lambda name: (-postings[name], name))

    def write(self, path: Path) -> int:
        """Write the index as JSON; return the size of the file in bytes."""
        return path.write_text(json.dumps(self._postings, ensure_ascii=False, sort_keys=True), "utf-8")
