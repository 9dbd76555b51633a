"""The login: a link that works once, a cookie that no script reads, and a token for programs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from execution_logger.web import Permission, create_app
from execution_logger.web.login import Login
from sqlite_site import SqliteSite

TOKEN = "the-token-of-programs"


class Terminal:
    """Where links are shown."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    @property
    def link(self) -> str:
        """The newest one."""
        return f"/login?code={self.codes[-1]}"


@pytest.fixture
def terminal() -> Terminal:
    """An empty one."""
    return Terminal()


@asynccontextmanager
async def browser(
    site: SqliteSite, terminal: Terminal, token: str | None = TOKEN
) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody on another machine."""
    login = Login(Permission.READ, token, terminal.codes.append)
    login.renew()
    application = create_app(site.settings, login.authorize)
    transport = httpx.ASGITransport(login.wrap(application), client=("10.0.0.9", 5000))
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://logs.example:8420") as client,
        application.router.lifespan_context(application),
    ):
        yield client


async def test_the_link_works_once(site: SqliteSite, terminal: Terminal) -> None:
    """It leads to the page, without the code in the URL, and the terminal shows the next one."""
    async with browser(site, terminal) as client:
        assert (await client.get("/api/about")).status_code == 403
        first = terminal.link
        answer = await client.get(first)
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert answer.headers["cache-control"] == "no-store"
        assert (await client.get("/api/about")).status_code == 200
        client.cookies.clear()
        assert (await client.get(first)).status_code == 403
        assert (await client.get("/api/about")).status_code == 403
        assert terminal.link != first
        assert (await client.get(terminal.link)).status_code == 303


@pytest.mark.parametrize("path", ["/login", "/login?code=", "/login?code=x", "/login?code=%00%ff"])
async def test_any_other_code_is_refused(site: SqliteSite, terminal: Terminal, path: str) -> None:
    """And the right one is not used up by that."""
    async with browser(site, terminal) as client:
        assert (await client.get(path)).status_code == 403
        assert (await client.get(terminal.link)).status_code == 303


async def test_another_site_cannot_have_the_link_opened_in_its_page(
    site: SqliteSite, terminal: Terminal
) -> None:
    """Somebody follows it, or nobody does."""
    async with browser(site, terminal) as client:
        answer = await client.get(terminal.link, headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 403


@pytest.mark.parametrize(
    "value", ["", "x", TOKEN, f"Bearer {TOKEN}x", f"bearer{TOKEN}", "Bearer ", "Bearer \xff"]
)
async def test_other_tokens_are_refused(site: SqliteSite, terminal: Terminal, value: str) -> None:
    """As is none, where none was given."""
    headers = {"authorization": value.encode("latin-1")}
    async with browser(site, terminal) as client:
        assert (await client.get("/api/about", headers=headers)).status_code == 403  # type: ignore[arg-type]
    async with browser(site, terminal, token=None) as client:
        assert (await client.get("/api/about", headers=headers)).status_code == 403  # type: ignore[arg-type]


async def test_programs_send_the_token(site: SqliteSite, terminal: Terminal) -> None:
    """They need no cookie."""
    async with browser(site, terminal) as client:
        answer = await client.get("/api/about", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.json()["permissions"] == ["read"]
