"""Who may see the page and ask the API: every request is looked at here before anything else is.

Nobody may, until `authorize` says so: logs hold what nobody else is to read, and pages that were open by
default have told it to whole networks (CVE-2022-30034 is Flower's). Other sites cannot make a browser ask for
them, by the rules of Datasette and of Go 1.25's CrossOriginProtection: `Sec-Fetch-Site`, else `Origin`.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from enum import StrEnum
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from execution_logger.web.refusal import Refusal, refuse

PERMISSION = "execution_logger.permission"
"""The key of the permission in the scope."""

_MAX_QUERY_BYTES = 32 * 1024
_MAX_HEADER_BYTES = 64 * 1024
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Permission(StrEnum):
    """What somebody may do."""

    READ = "read"
    CHANGE = "change"
    """Read, and have dead letters tried again."""


Granted = Permission | bool | None
Authorize = Callable[[MutableMapping[str, Any]], Granted | Awaitable[Granted]]
"""Gets the ASGI scope of a request. True means `Permission.READ`; for False and None nobody is served."""


def local_only(scope: MutableMapping[str, Any]) -> bool:
    """Allow reading to whoever sits at this machine, and to nobody who comes by way of a proxy.

    The peer must be this machine, and so must be the name that the browser asked for: a page of another
    site can give its own name the address 127.0.0.1 (DNS rebinding). For development; a proxy on this machine
    that changes the Host header and tells nothing of whom it serves would open the page to all of these.
    """
    headers = Headers(scope=scope)
    client = scope.get("client")
    if client is None or any(name in headers for name in _FORWARDED):
        return False
    return is_local(client[0]) and is_local(urlsplit(f"//{headers.get('host', '')}").hostname or "")


def is_local(host: str) -> bool:
    """Whether an address or a name is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Guard:
    """Lets through what is allowed, and gives every answer the headers that keep a browser safe.

    Args:
        app: gets the requests that are allowed, with the permission in their scope.
        authorize: tells what is.
    """

    def __init__(self, app: ASGIApp, authorize: Authorize | None) -> None:
        self._app = app
        self._authorize = authorize

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # there is none here
            return
        sender = _with_headers(send)
        try:
            check_request(scope)
            scope[PERMISSION] = await self._permission(scope)
        except Refusal as refusal:
            await refuse(refusal)(scope, receive, sender)
        else:
            await self._app(scope, receive, sender)

    async def _permission(self, scope: Scope) -> Permission:
        if self._authorize is None:
            raise Refusal(
                403,
                "not_authorized",
                "Nobody may see this: create_app() was called without authorize=. Give it a function that "
                "says who may, or local_only while you develop.",
            )
        granted = self._authorize(scope)
        if inspect.isawaitable(granted):
            granted = await granted
        if granted is True:
            return Permission.READ
        if not granted:
            raise Refusal(403, "not_authorized", "You may not see this.")
        return Permission(granted)


def check_request(scope: Scope) -> None:
    """Raise Refusal for a request that is too large, or that another site has a browser make."""
    if len(scope.get("query_string", b"")) > _MAX_QUERY_BYTES:
        raise Refusal(414, "too_large", f"The query is longer than {_MAX_QUERY_BYTES} bytes.")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > _MAX_HEADER_BYTES:
        raise Refusal(431, "too_large", f"The headers are longer than {_MAX_HEADER_BYTES} bytes.")
    headers = Headers(scope=scope)
    site = headers.get("sec-fetch-site")
    is_safe = scope["method"] in _SAFE_METHODS
    is_followed_link = is_safe and headers.get("sec-fetch-mode") == "navigate"
    if site in {"cross-site", "same-site"} and not is_followed_link:
        raise Refusal(403, "cross_site", "Another site has made this request.")
    if site is None and not is_safe and not _is_own(headers):
        raise Refusal(403, "cross_site", "The Origin of this request is another site.")


def _is_own(headers: Headers) -> bool:
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
            del headers["connection"]  # the server's own: WSGI servers refuse it from an application
        await send(message)

    return sending


def allows_change(scope: MutableMapping[str, Any]) -> bool:
    """Whether whoever makes this request may change something."""
    return scope.get(PERMISSION) is Permission.CHANGE


def permissions(scope: MutableMapping[str, Any]) -> Iterable[Permission]:
    """All that whoever makes this request may do."""
    return tuple(Permission) if allows_change(scope) else (Permission.READ,)
