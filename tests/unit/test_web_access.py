"""Who may see the page: nobody by default, nobody by way of another site, and with which headers."""

from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from execution_logger.errors import SettingsError
from execution_logger.settings import Settings
from execution_logger.web import Authorize, Permission, create_app, local_only
from sqlite_site import SqliteSite

HERE = "http://127.0.0.1:8420"
Scope = MutableMapping[str, Any]


@asynccontextmanager
async def client(
    site: SqliteSite, authorize: Authorize | None, peer: str = "127.0.0.1", url: str = HERE
) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody at this address who asks."""
    application = create_app(site.settings, authorize)
    transport = httpx.ASGITransport(application, client=(peer, 5000))
    async with (
        httpx.AsyncClient(transport=transport, base_url=url) as client,
        application.router.lifespan_context(application),
    ):
        yield client


async def status(
    site: SqliteSite, authorize: Authorize | None, path: str = "/api/about", **options: Any
) -> int:
    """What they are answered."""
    async with client(site, authorize, **options) as asking:
        return (await asking.get(path)).status_code


def test_without_a_database_there_is_no_application() -> None:
    """It says so when the host starts, and not when somebody looks."""
    with pytest.raises(SettingsError, match="DATABASE_URL is not set: the page needs it"):
        create_app(Settings(), local_only)


@pytest.mark.parametrize("path", ["/", "/page.js", "/api/about", "/api/openapi.json", "/nothing"])
async def test_by_default_nobody_may(site: SqliteSite, path: str) -> None:
    """Not even from this machine; it says what to write."""
    async with client(site, None) as asking:
        answer = await asking.get(path)
    assert answer.status_code == 403
    assert "authorize=" in answer.json()["error"]["message"]


async def later(granted: Any) -> Any:
    """What takes a while to be known."""
    return granted


@pytest.mark.parametrize(
    ("granted", "permissions"),
    [
        (True, ["read"]),
        (Permission.READ, ["read"]),
        (Permission.CHANGE, ["read", "change"]),
        ("change", ["read", "change"]),
        (False, None),
        (None, None),
    ],
)
@pytest.mark.parametrize("wrap", [lambda granted: granted, later], ids=["at once", "awaited"])
async def test_the_host_says_who_may(
    site: SqliteSite, granted: Any, permissions: list[str] | None, wrap: Callable[[Any], Any]
) -> None:
    """By a function of the request, of either kind."""
    asked: list[Scope] = []

    def authorize(scope: Scope) -> Any:
        asked.append(scope)
        return wrap(granted)

    async with client(site, authorize) as asking:
        answer = await asking.get("/api/about", headers={"x-user": "u"})
    if permissions is None:
        assert answer.status_code == 403
    else:
        assert answer.json()["permissions"] == permissions
    assert (b"x-user", b"u") in asked[0]["headers"]


@pytest.mark.parametrize(
    ("peer", "url", "expected"),
    [
        ("127.0.0.1", HERE, 200),
        ("127.8.9.1", "http://localhost:1", 200),
        ("::1", "http://[::1]:8420", 200),
        ("127.0.0.1", "http://ui.localhost:8420", 200),
        ("10.0.0.7", HERE, 403),
        ("127.0.0.1", "http://evil.example:8420", 403),
        ("127.0.0.1", "http://127.0.0.1.evil.example", 403),
        ("127.0.0.1", "http://10.0.0.7:8420", 403),
    ],
)
async def test_whoever_sits_at_this_machine(site: SqliteSite, peer: str, url: str, expected: int) -> None:
    """The peer and the name that was asked for are this machine's: another site can rebind its own."""
    assert await status(site, local_only, peer=peer, url=url) == expected


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Host"])
async def test_whoever_comes_by_way_of_a_proxy_does_not(site: SqliteSite, name: str) -> None:
    """The proxy sits at this machine, and they do not."""
    async with client(site, local_only) as asking:
        assert (await asking.get("/api/about", headers={name: "127.0.0.1"})).status_code == 403


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("GET", {}, 200),
        ("GET", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("GET", {"Sec-Fetch-Site": "none"}, 200),
        ("GET", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ("POST", {}, 400),
        ("POST", {"Sec-Fetch-Site": "same-origin"}, 400),
        ("POST", {"Origin": HERE}, 400),
        ("POST", {"Origin": "http://evil.example"}, 403),
        ("POST", {"Origin": "null"}, 403),
        ("POST", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ("POST", {"Sec-Fetch-Site": "same-site", "Origin": HERE}, 403),
    ],
)
async def test_other_sites_may_not_ask(
    site: SqliteSite, method: str, headers: dict[str, str], expected: int
) -> None:
    """A link may be followed; what a page of another site has the browser fetch or post is refused."""
    path = "/api/about" if method == "GET" else "/api/dead-letters/retry"
    async with client(site, lambda _: Permission.CHANGE) as asking:
        content = None if method == "GET" else "{}"
        headers = {"content-type": "application/json", **headers}
        answer = await asking.request(method, path, headers=headers, content=content)
    assert answer.status_code == expected, answer.text


async def test_changing_needs_the_permission(site: SqliteSite) -> None:
    """Reading is not enough."""
    async with client(site, local_only) as asking:
        answer = await asking.post("/api/dead-letters/retry", json={"ids": ["x"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_authorized")


@pytest.mark.parametrize(
    "path", ["/", "/api/about", "/nothing", "/api/run?task_id=nope", "/api/runs?limit=x"]
)
async def test_every_answer_keeps_a_browser_safe(site: SqliteSite, path: str) -> None:
    """Errors, too: nothing inline, nothing of other hosts, in no frame, kept nowhere."""
    async with client(site, local_only) as asking:
        headers = (await asking.get(path)).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] in {"no-store", "no-cache"}


async def test_what_is_too_large_is_refused(site: SqliteSite) -> None:
    """Before anybody reads it."""
    async with client(site, lambda _: Permission.CHANGE) as asking:
        assert (await asking.get(f"/api/about?x={'a' * 40_000}")).status_code == 414
        assert (await asking.get("/api/about", headers={"x": "a" * 70_000})).status_code == 431
        headers = {"content-type": "application/json"}
        answer = await asking.post("/api/dead-letters/retry", content="x" * 70_000, headers=headers)
        assert answer.status_code == 413
        answer = await asking.post("/api/dead-letters/retry", content='{"ids": ["x"]}')
        assert answer.status_code == 415


async def test_there_is_no_websocket(site: SqliteSite) -> None:
    """Whoever asks for one is refused, and no server waits for an answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/", "headers": [], "client": ("127.0.0.1", 1)}
    await create_app(site.settings, lambda _: True)(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]
