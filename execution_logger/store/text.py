"""Texts from outside, as every database takes them."""

import json
import re

_MAX_BATCH_ID_CHARS = 255


def storable(text: str) -> str:
    """The text as every database takes it: lone surrogates and NUL become their escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")


def escape(text: str) -> str:
    """The text in ASCII, for a database of any encoding; JSON stays the same JSON."""
    return re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)


def batch_key(batch_id: str) -> str:
    """What a batch is known by in the tables; a forged id may be any text."""
    return escape(storable(batch_id))[:_MAX_BATCH_ID_CHARS]
