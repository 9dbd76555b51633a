"""The page in hosts of FastAPI, Flask and Django, as their servers run them, behind their own login."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import pytest

from batches import encoded
from postgresql_site import PostgresqlSite
from processes import LocalProcess
from rows import fetch
from server import free_port
from ui_process import ANSWER_SECONDS, StreamReader, reading
from waiting import wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PASSWORD = "of-the-staff"
THREADS = 3
CONNECTIONS = """
    SELECT count(*) AS number FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'execution_logger'
"""

QUICKLY = """
import runpy, sys
from execution_logger.web import live, site

live._PING_SECONDS, live._WSGI_SEND_SECONDS, live._WSGI_SECONDS = 0.2, 0.5, float(sys.argv.pop(1))
site._IDLE_SECONDS = 0.5
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
"""Runs a server whose page notices soon what takes it half a minute otherwise."""

ACCOUNTS = """
from examples import mount_django
from django.contrib.auth.models import User
from django.core.management import call_command

call_command("migrate", verbosity=0)
User.objects.create_user("ann", password="of-the-staff", is_staff=True)
User.objects.create_user("bob", password="of-the-staff")
"""

UVICORN = ("uvicorn", "--port", "{port}")
GUNICORN = (
    *("gunicorn", "--bind", "127.0.0.1:{port}", "--graceful-timeout", "60"),
    *("--worker-class", "gthread", "--threads", str(THREADS)),
)


Form = Mapping[str, Mapping[str, str]]
"""What a login takes, as httpx sends it."""


@dataclass(frozen=True)
class Kind:
    """A framework under a server.

    Attributes:
        command: starts it.
        login: what the host's login takes.
        others: what it takes of somebody who is not of the staff, where there is such a one.
        root: what a proxy in front of it strips from paths.
    """

    command: tuple[str, ...]
    login: Form
    others: Form | None = None
    root: str = ""


BY_PASSWORD: Form = {"json": {"password": PASSWORD}}
ANN, BOB = ({"data": {"username": name, "password": PASSWORD}} for name in ("ann", "bob"))
KINDS = {
    "FastAPI": Kind((*UVICORN, "examples.mount_fastapi:app"), BY_PASSWORD),
    "FastAPI behind a proxy": Kind(
        (*UVICORN, "--root-path", "/tools", "examples.mount_fastapi:app"), BY_PASSWORD, root="/tools"
    ),
    "Flask": Kind((*GUNICORN, "examples.mount_flask:app"), BY_PASSWORD),
    "Django, ASGI": Kind((*UVICORN, "examples.mount_django:asgi"), ANN, BOB),
    "Django, WSGI": Kind((*GUNICORN, "examples.mount_django:wsgi"), ANN, BOB),
}
pytestmark = pytest.mark.slow
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


class Host:
    """A host that runs."""

    def __init__(self, kind: Kind, database_url: str, folder: Path, wsgi_seconds: float = 1000) -> None:
        self.kind = kind
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        self.url = f"{self.address}/execution-logs/"
        environment = {
            **os.environ,
            "CELERY_ENABLED": "false",
            "DATABASE_URL": database_url,
            "DJANGO_DATABASE": str(folder / "host.sqlite3"),
            "SECRET_KEY": "of-the-host",
            "STAFF_PASSWORD": PASSWORD,
        }
        (folder / "examples").symlink_to(EXAMPLES)
        if "django" in kind.command[-1]:
            subprocess.run([sys.executable, "-c", ACCOUNTS], cwd=folder, env=environment, check=True)
        command = [word.format(port=port) for word in kind.command]
        self.process = LocalProcess(
            [sys.executable, "-c", QUICKLY, str(wsgi_seconds), *command],
            output=folder / "host.txt",
            environment=environment,
            folder=folder,
        )

    def __enter__(self) -> Self:
        wait_until(self._answers, 30, message=lambda: self.process.output)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        print(self.process.output)

    def log_in(self, form: Form) -> httpx.Cookies:
        """The session of somebody whom the host knows."""
        answer = httpx.post(f"{self.address}/login", timeout=ANSWER_SECONDS, **form)  # type: ignore[arg-type]
        assert answer.status_code == httpx.codes.NO_CONTENT, answer.text
        return answer.cookies

    def get(self, path: str, session: httpx.Cookies | None = None) -> httpx.Response:
        """What is answered below its prefix."""
        return httpx.get(f"{self.url}{path}", cookies=session, timeout=ANSWER_SECONDS)

    def _answers(self) -> bool:
        assert self.process.is_running(), self.process.output
        try:
            httpx.get(self.address, timeout=5)
        except httpx.TransportError:
            return False
        return True


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[PostgresqlSite]:
    """A database with the library's tables, and an entry."""
    async with PostgresqlSite(database_url) as site:
        await site.write(encoded(task_id="report", message="first"))
        yield site


@pytest.fixture
def host(kind: Kind, database_url: str, tmp_path: Path) -> Iterator[Host]:
    """A host on that database."""
    with Host(kind, database_url, tmp_path) as host:
        yield host


def looking(host: Host, session: httpx.Cookies) -> AbstractAsyncContextManager[StreamReader]:
    """Look at the run."""
    return reading(f"{host.url}api/run/live", session, task_id="report")


def connections(database_url: str) -> int:
    """How many the library has."""
    return int(fetch(database_url, CONNECTIONS)[0]["number"])


@every_kind
def test_a_host_shows_its_runs_to_those_whom_it_knows(site: PostgresqlSite, host: Host) -> None:
    """Below its prefix, and to nobody else; who types it without the slash at its end gets there as well."""
    others = [None] if host.kind.others is None else [None, host.log_in(host.kind.others)]
    for other in others:
        for path in ("", "page.js", "api/runs", "api/runs/live"):
            assert host.get(path, other).status_code == 403
    session = host.log_in(host.kind.login)
    assert "<execution-logger>" in host.get("", session).text
    assert host.get("page.js", session).headers["content-type"].startswith("text/javascript")
    (run,) = host.get("api/runs", session).json()["runs"]
    assert run["task_id"] == "report"
    assert host.get("nothing", session).status_code == 404
    typed = httpx.get(f"{host.url.rstrip('/')}?run=report", cookies=session, timeout=ANSWER_SECONDS)
    assert typed.status_code == httpx.codes.TEMPORARY_REDIRECT
    place = httpx.URL(typed.headers["location"])
    assert (place.path, place.query) == (f"{host.kind.root}/execution-logs/", b"run=report")


@every_kind
async def test_a_stream_leaves_nothing_behind(site: PostgresqlSite, host: Host) -> None:
    """More people than there are threads look, one group after the other: each gives its thread back."""
    session = await asyncio.to_thread(host.log_in, host.kind.login)
    for number in range(3):
        async with AsyncExitStack() as stack:
            readers = [await stack.enter_async_context(looking(host, session)) for _ in range(THREADS - 1)]
            for reader in readers:
                await reader.wait_for("begin")
            await site.write(encoded(task_id="report"), batch_id=str(number))
            for reader in readers:
                await reader.wait_for_entries(1)
                assert reader.connections == 1
    await site.engine.dispose()
    await asyncio.to_thread(wait_until, lambda: connections(site.url) == 0, 20)
    assert "Traceback" not in host.process.output


@every_kind
async def test_a_host_stops_while_somebody_looks(
    site: PostgresqlSite, kind: Kind, database_url: str, tmp_path: Path
) -> None:
    """In order, within its grace; nothing is left in the database."""
    with Host(kind, database_url, tmp_path, wsgi_seconds=2) as host:
        session = await asyncio.to_thread(host.log_in, host.kind.login)
        async with looking(host, session) as reader:
            await reader.wait_for("begin")
            await asyncio.to_thread(host.process.stop, signal.SIGTERM)
            await reader.wait_for("end")
    assert "SIGKILL" not in host.process.output
    assert "Traceback" not in host.process.output
    await site.engine.dispose()
    await asyncio.to_thread(wait_until, lambda: connections(site.url) == 0)
