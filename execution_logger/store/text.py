"""Texts from outside, as every database takes them."""

_MAX_BATCH_ID_CHARS = 255


def storable(text: str) -> str:
    """The text as every database takes it: lone surrogates and NUL become their escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")


def batch_key(batch_id: str) -> str:
    """What a batch is known by in the tables; a forged id may be any text."""
    return storable(batch_id)[:_MAX_BATCH_ID_CHARS]
