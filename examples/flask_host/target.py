"""What is tested: this host itself, on loopback, whatever a script or an answer says."""

import logging
import re

import httpx

from flask_host.settings import API_TOKEN, PORT, REQUEST_SECONDS

ADDRESS = f"http://127.0.0.1:{PORT}"
# `//example.com/` would be another host, written without its scheme.
_LOCAL = re.compile(rf"(?:http://(?:127\.0\.0\.1|localhost|\[::1\]):{PORT})?(/(?!/)[!-~]*)")

logging.getLogger("httpx").setLevel(logging.WARNING)  # a load test would be a line for each request


def local_path(target: str) -> str:
    """The path of a target that is this host, else ValueError."""
    found = _LOCAL.fullmatch(target)
    if found is None:
        raise ValueError(f"must be a path of this host, as '/health' or '{ADDRESS}/health', not {target!r}")
    return found[1]


def make_client() -> httpx.Client:
    """A client of the host; no redirect and no proxy of the environment leads it elsewhere."""
    return httpx.Client(
        base_url=ADDRESS,
        headers={"Authorization": f"Bearer {API_TOKEN}"} if API_TOKEN else {},
        timeout=REQUEST_SECONDS,
        limits=httpx.Limits(max_connections=None),
        trust_env=False,
        verify=False,  # noqa: S501 - there is no TLS here, whose certificates take 0.3 s to load
    )
