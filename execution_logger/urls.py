"""URLs for people to read: without users, passwords and parameters, however these were written."""

import re

HIDDEN = "(hidden)"
"""What stands for a URL whose password cannot be told from the rest of it."""

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
# A password may hold a `;` as well: only one before a scheme stands between two URLs.
_BETWEEN = re.compile(r";(?=[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
_HOST = r"(?:[\w.%-]*|\[[\w:.%]*\]?)(?::\d*)?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")
_AUTHORITY = re.compile(r"[^/?#]*")
_QUERY = re.compile(r"[?#][\w.%-]+=.*", re.DOTALL)
_PATH = re.compile(r"[^?#]*")


def each_url(urls: str) -> list[str]:
    """The URLs of a text that may hold several with `;` between them."""
    return _BETWEEN.split(urls)


def public_url(urls: str, user: str = "") -> str:
    """The URL, or several with `;` between them, for people to read.

    Args:
        urls: may be anything; passwords in it may hold characters that should have been escaped.
        user: what stands for a user and a password, with the `@`.
    """
    return ";".join(_public(url, user) for url in each_url(urls)) if urls else ""


def _public(url: str, user: str) -> str:
    match = _URL.fullmatch(url)
    place = _place(match[2], user) if match else None
    return HIDDEN if match is None or place is None else f"{match[1]}://{place}"


def _place(rest: str, user: str) -> str | None:
    """Host and path; None when a part of them may be one of a password."""
    authority = _AUTHORITY.match(rest)[0]  # type: ignore[index]  # it matches any text
    login, at, host = authority.rpartition("@")
    behind = rest[len(authority) :]
    path = _PATH.match(behind)[0]  # type: ignore[index]  # as above
    if _HOSTS.fullmatch(host):
        # A path may hold an `@` as well, but so may a password that begins before it.
        is_clear = "@" not in behind or _QUERY.match(behind[len(path) :])
        if (is_clear and "@" not in path) or not authority:
            return f"{user if at else ''}{host}{path}"
        return None
    # A password with `/`, `?` or `#` in it: the host is behind the one `@`.
    login, at, place = rest.rpartition("@")
    return f"{user}{_PATH.match(place)[0]}" if at and "@" not in login else None  # type: ignore[index]
