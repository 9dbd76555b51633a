"""The services: their commands, and how each shows that it works."""

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from filelock import FileLock

from execution_logger import Settings
from execution_logger.broker.depth import BrokerUnavailableError
from execution_logger.operate.services import service
from execution_logger.operate.services.directory import ServiceError
from execution_logger.operate.services.record import Record
from execution_logger.operate.services.service import find_service
from server import free_port

SETTINGS = Settings(broker_url="redis://user:secret@host:6379/1", queue="mine")


def record(about: str = "", pid: int | None = None) -> Record:
    """A record of this process's session."""
    return Record(pid=os.getsid(0) if pid is None else pid, about=about, started_at=datetime.now(UTC))


def test_the_commands_end_with_their_runner_and_show_no_password() -> None:
    """They are those of the foreground, in the installed package; folders and logs are apart."""
    for name in ("worker", "beat"):
        found = find_service(name, SETTINGS, {})
        assert found.command == (sys.executable, "-P", "-m", "execution_logger.cli", name, "--stop-at-eof")
        assert found.about == "redis://host:6379/1 mine"
        assert found.folder.name == name


@pytest.mark.parametrize(
    ("environ", "address", "port"),
    [
        ({}, "127.0.0.1", "5555"),
        ({"FLOWER_ADDRESS": "", "FLOWER_PORT": ""}, "127.0.0.1", "5555"),
        ({"FLOWER_ADDRESS": "10.0.0.1", "FLOWER_PORT": "80"}, "10.0.0.1", "80"),
    ],
)
def test_flower_listens_where_its_variables_say(environ: dict[str, str], address: str, port: str) -> None:
    """The same as those of Flower itself."""
    found = find_service("flower", SETTINGS, environ)
    assert found.command[4:] == ("flower", "--stop-at-eof", "--address", address, "--port", port)
    assert found.about == f"http://{address}:{port}"


def test_a_port_that_is_none_is_named() -> None:
    """As by the command in the foreground."""
    with pytest.raises(ServiceError, match=r"^FLOWER_PORT='x': must be a whole number$"):
        find_service("flower", SETTINGS, {"FLOWER_PORT": "x"})


def test_the_worker_works_when_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Itself, not one that somebody else has started; a broker that is away is the reason."""
    worker = find_service("worker", SETTINGS, {})
    monkeypatch.setattr(service, "worker_processes", lambda _: [2**22 + 1, os.getpid()])
    assert worker.why_not(record()) is None
    assert worker.why_not(record(pid=1)) == "it does not answer Celery's ping"
    monkeypatch.setattr(service, "worker_processes", lambda _: [])
    assert worker.why_not(record()) == "it does not answer Celery's ping"

    def fail(_: Settings) -> list[int]:
        raise BrokerUnavailableError("redis://host: Connection refused")

    monkeypatch.setattr(service, "worker_processes", fail)
    assert worker.why_not(record()) == "redis://host: Connection refused"


def test_beat_works_when_it_holds_the_lock() -> None:
    """The one that was started here, and not another."""
    beat = find_service("beat", SETTINGS, {})
    assert beat.why_not(record()) == "it has not begun"
    with FileLock(beat.folder / "beat.lock"):
        assert beat.why_not(record()) == "it has not begun"
        (beat.folder / "beat.pid").write_text(str(os.getpid()))
        assert beat.why_not(record()) is None
        assert beat.why_not(record(pid=1)) == "it has not begun"
    assert beat.why_not(record()) == "it has not begun"


class Page(BaseHTTPRequestHandler):
    """Answers as Flower does."""

    def do_GET(self) -> None:
        """401 is an answer, too."""
        self.send_response(200 if self.path == "/healthcheck" else 401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Nothing."""


@pytest.fixture
def page() -> Iterator[int]:
    """The port of a page."""
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_flower_works_when_its_page_answers(page: int, address: str) -> None:
    """Where it was started, whatever the variables say now."""
    flower = find_service("flower", SETTINGS, {"FLOWER_PORT": "1"})
    assert flower.why_not(record(f"http://{address}:{page}")) is None
    port = free_port()
    why = flower.why_not(record(f"http://{address}:{port}"))
    assert why is not None
    assert f"http://{address}:{port}" in why
    assert "refused" in why
