"""Fail unless a page answers and holds a text: `python check_page.py URL TEXT`, for health checks.

FLOWER_BASIC_AUTH=user:password is used, if it is set.
"""  # noqa: INP001 - run by file

import base64
import os
import sys
import urllib.request

_TIMEOUT_SECONDS = 4.0


def main(url: str, text: str) -> str | None:
    """What is wrong, or nothing."""
    request = urllib.request.Request(url)  # noqa: S310 - the image's own health check names it
    if credentials := os.environ.get("FLOWER_BASIC_AUTH"):
        encoded = base64.b64encode(credentials.encode()).decode()
        request.add_header("Authorization", f"Basic {encoded}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as page:  # noqa: S310 - as above
            return None if text in page.read().decode() else f"{url} does not show {text!r}"
    except OSError as error:
        return f"{url}: {error}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
