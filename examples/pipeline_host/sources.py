"""The sources: what they list, what a document of theirs holds, and which URLs are nobody's."""

import httpx

from pipeline_host import settings


class DocumentError(Exception):
    """A document that cannot be had, however often one asks."""


class RefusedUrlError(DocumentError):
    """A URL that is at no configured source."""


class SourceAwayError(Exception):
    """A source that does not answer now."""


def source_of(url: str) -> str:
    """The name of the source that serves a URL: whoever sends tasks must not reach the rest of our network.

    What fetches it parses it: parsers differ in what they take for the host of a strange URL.

    Raises:
        RefusedUrlError: it has another scheme, host or port than every source.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise RefusedUrlError(f"{url!r} is no URL: {error}") from None
    bases = {name: httpx.URL(index).join(".") for name, index in settings.SOURCES.items()}
    there = [name for name, base in bases.items() if base.join("/") == parsed.join("/")]
    if not there:
        raise RefusedUrlError(f"{parsed.scheme}://{parsed.host} is no configured source")
    return next((name for name in there if parsed.path.startswith(bases[name].path)), there[0])


def fetch(url: str) -> bytes:
    """The content at a URL. A redirect is not followed: it leads wherever the other side likes.

    Raises:
        SourceAwayError: it may be had later.
        DocumentError: it will not be had: it is refused, or the answer is another one than 200.
    """
    source_of(url)
    try:
        answer = httpx.get(url, timeout=10, follow_redirects=False, trust_env=False)
    except httpx.TransportError as error:
        raise SourceAwayError(f"{url}: {error or type(error).__name__}") from error
    if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise SourceAwayError(f"{url} answers {answer.status_code}")
    if answer.status_code != httpx.codes.OK:
        raise DocumentError(f"{url} answers {answer.status_code}")
    return answer.content


def documents_of(source: str) -> list[str]:
    """The URLs that a source lists, one a line, relative to its own; each is checked when it is fetched."""
    index = settings.SOURCES[source]
    return [str(httpx.URL(index).join(line)) for line in fetch(index).decode().split()]
