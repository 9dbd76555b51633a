"""Which documents say the same: by the hash of their content, and by similarity.

RapidFuzz compares the texts themselves. datasketch's MinHash would find candidates among millions, but only
estimates, and brings NumPy and SciPy; RapidFuzz is a single wheel of 3 MB. Both are well kept.
"""

from collections.abc import Iterable

from rapidfuzz import fuzz, process, utils

SIMILAR_PERCENT = 90.0


def find_duplicates(ordered: Iterable[tuple[int, str, str]]) -> dict[int, tuple[int, float]]:
    """Of which earlier document each is a duplicate, and how similar in percent: 100 for the same content.

    Args:
        ordered: the id of each, the hash of its content, and its text.
    """
    by_hash: dict[str, int] = {}
    originals: dict[int, str] = {}
    found: dict[int, tuple[int, float]] = {}
    for own, content_hash, text in ordered:
        if (same := by_hash.setdefault(content_hash, own)) != own:
            found[own] = found.get(same, (same, 100.0))
            continue
        words = utils.default_process(text)  # case and punctuation do not count
        if best := process.extractOne(words, originals, scorer=fuzz.ratio, score_cutoff=SIMILAR_PERCENT):
            found[own] = best[2], round(best[1], 1)
        else:
            originals[own] = words
    return found
