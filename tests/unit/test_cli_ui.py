"""`execution-logger ui`: where it listens, what it prints, and whom it lets in."""

import asyncio
import socket
import webbrowser
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from starlette.types import ASGIApp

from execution_logger.cli import main, ui
from execution_logger.settings import Settings
from execution_logger.web import Permission
from server import free_port
from sqlite_site import SqliteSite


def run(site: SqliteSite, *options: str) -> Result:
    """The outcome of the command."""
    environment = {"DATABASE_URL": site.settings.database_url, "CELERY_ENABLED": "false"}
    return CliRunner().invoke(main, ["ui", *options], env=environment)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ASGIApp]:
    """What would be served; the command ends at once."""
    applications: list[ASGIApp] = []

    def serve(app: ASGIApp, listener: socket.socket, when_up: object) -> None:
        assert listener.getsockname()[1]
        if callable(when_up):
            when_up()
        applications.append(app)

    monkeypatch.setattr(ui, "_serve", serve)
    return applications


def status(app: ASGIApp, peer: str, **headers: str) -> int:
    """What somebody at this address is answered."""

    async def ask() -> int:
        transport = httpx.ASGITransport(app, client=(peer, 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8420") as client:
            return (await client.get("/api/openapi.json", headers=headers)).status_code

    return asyncio.run(ask())


def test_on_this_machine_it_serves_whoever_sits_there(site: SqliteSite, served: list[ASGIApp]) -> None:
    """And prints where."""
    port = free_port()
    result = run(site, "--port", str(port))
    assert result.stdout == f"execution-logger: the runs are at http://127.0.0.1:{port}/\n"
    assert status(served[0], "127.0.0.1") == 200
    assert status(served[0], "10.0.0.1") == 403


def test_on_another_address_it_asks_for_a_link(site: SqliteSite, served: list[ASGIApp]) -> None:
    """Of those at this machine as well."""
    result = run(site, "--address", "0.0.0.0", "--port", "0")
    assert "open the page with this link, which works once: http://" in result.stdout
    assert "/login?code=" in result.stdout
    assert status(served[0], "127.0.0.1") == 403


def test_programs_have_a_token(site: SqliteSite, served: list[ASGIApp], tmp_path: Path) -> None:
    """From a file, so that it is in no list of processes."""
    file = tmp_path / "token"
    file.write_text("a-token-that-is-long-enough\n")
    assert run(site, "--port", "0", "--token-file", str(file)).exit_code == 0
    assert status(served[0], "127.0.0.1") == 403
    assert status(served[0], "10.0.0.1", authorization="Bearer a-token-that-is-long-enough") == 200


@pytest.mark.parametrize(
    "content", ["", "short", "秘密秘密秘密秘密秘密秘密秘密秘密", "a token with\nlines in it"]
)
def test_a_token_that_is_easily_guessed_is_refused(site: SqliteSite, tmp_path: Path, content: str) -> None:
    """With the name of the file, and without what is in it."""
    file = tmp_path / "token"
    file.write_text(content, encoding="utf-8")
    result = run(site, "--port", "0", "--token-file", str(file))
    assert result.exit_code == 2
    assert "must hold a token of at least 16 ASCII characters" in result.stderr
    assert not content or content not in result.stderr


def test_a_port_that_is_taken_is_named(site: SqliteSite) -> None:
    """With the option that names another one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(site, "--port", str(port))
    assert result.exit_code == 3
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "--port names another port" in result.stderr


def test_without_a_database_it_says_so() -> None:
    """It needs nothing else."""
    result = CliRunner().invoke(main, ["ui", "--port", "0"], env={"DATABASE_URL": ""})
    assert result.exit_code == 2
    assert "DATABASE_URL is not set" in result.stderr


def test_it_opens_the_browser(
    site: SqliteSite, served: list[ASGIApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the link that lets it in."""
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    run(site, "--port", "0", "--open")
    run(site, "--port", "0", "--open", "--address", "0.0.0.0")
    assert opened[0].startswith("http://127.0.0.1:")
    assert "/login?code=" in opened[1]
    assert len(served) == 2


def test_what_may_be_changed_is_an_option(site: SqliteSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading is the default."""
    asked: list[Permission] = []

    def guarded(_settings: Settings, permission: Permission, *_: object, **__: object) -> object:
        asked.append(permission)
        return lambda: None, lambda: ""

    monkeypatch.setattr(ui, "_guarded", guarded)
    monkeypatch.setattr(ui, "_serve", lambda *_: None)
    run(site, "--port", "0")
    run(site, "--port", "0", "--allow-changes")
    assert asked == [Permission.READ, Permission.CHANGE]


@pytest.mark.parametrize("url", ["https://logs.example/runs", "https://logs.example/runs/"])
def test_the_link_names_what_people_open(site: SqliteSite, served: list[ASGIApp], url: str) -> None:
    """A container knows neither its host's name nor the port there."""
    result = run(site, "--address", "0.0.0.0", "--port", "0", "--url", url)
    assert "works once: https://logs.example/runs/login?code=" in result.stdout


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
async def test_health_checks_have_no_login(site: SqliteSite, served: list[ASGIApp], address: str) -> None:
    """They learn that the process answers, and nothing else."""
    await asyncio.to_thread(run, site, "--address", address, "--port", "0")
    transport = httpx.ASGITransport(served[0], client=("10.0.0.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://logs.example") as client:
        assert (await client.get("/alive")).text == "ok"
        assert (await client.get("/")).status_code == 403
