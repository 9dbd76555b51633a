"""`execution-logger flower`: what it starts. The page itself is in the integration tests."""

import importlib.util
import os
import socket

import pytest
from click.testing import CliRunner, Result

from execution_logger.cli import flower, main
from execution_logger.cli.flower import check_flower, is_local, warning_of
from execution_logger.errors import ExecutionLoggerError


class Site:
    """Flower in the place of Flower."""

    def __init__(self) -> None:
        self.checked: list[tuple[str, int]] = []
        self.started: list[list[str]] = []
        self.error: ExecutionLoggerError | None = None

    def check(self, address: str, port: int) -> None:
        """Note what is checked."""
        self.checked.append((address, port))
        if self.error:
            raise self.error

    def start(self, arguments: list[str]) -> None:
        """Note what is started."""
        self.started.append(arguments)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site without variables of Flower's."""
    for name in [name for name in os.environ if name.startswith("FLOWER_")]:
        monkeypatch.delenv(name)
    site = Site()
    monkeypatch.setattr(flower, "check_flower", site.check)
    monkeypatch.setattr(flower, "create_client", lambda: site)
    return site


def run(*arguments: str, **environment: str) -> Result:
    """The outcome of `execution-logger flower`."""
    return CliRunner().invoke(main, ["flower", *arguments], env=environment)


def test_it_listens_on_this_machine_only_and_leaves_events_off(site: Site) -> None:
    """Without a word about it."""
    result = run()
    assert (result.exit_code, result.output) == (0, "")
    assert site.checked == [("127.0.0.1", 5555)]
    assert site.started == [["flower", "--address=127.0.0.1", "--port=5555", "--enable_events=False"]]


def test_variables_of_the_platform_are_no_options(site: Site) -> None:
    """Kubernetes sets them in every pod when a Service is called flower; Flower itself would read them."""
    seen: list[str] = []
    site.start = lambda _: seen.extend(name for name in os.environ if name.startswith("FLOWER_"))  # type: ignore[assignment, method-assign]
    result = run(
        FLOWER_PORT="tcp://10.0.171.239:5555", FLOWER_SERVICE_HOST="10.0.171.239", FLOWER_SERVICE_PORT="5555",
        FLOWER_PORT_5555_TCP="tcp://10.0.171.239:5555", FLOWER_PORT_5555_TCP_ADDR="10.0.171.239",
        FLOWER_URL_PREFIX="kept",
    )  # fmt: skip
    assert (result.exit_code, result.output) == (0, "")
    assert site.checked == [("127.0.0.1", 5555)]
    assert seen == ["FLOWER_URL_PREFIX"]


def test_options_win_over_variables_and_the_rest_is_flowers(site: Site) -> None:
    """Those behind the two dashes come last."""
    run("--port", "80", "--", "--url_prefix=x", FLOWER_PORT="81", FLOWER_ADDRESS="::1")
    assert site.checked == [("::1", 80)]
    assert site.started[0][1:] == ["--address=::1", "--port=80", "--enable_events=False", "--url_prefix=x"]


def test_an_open_page_is_warned_of_and_started(site: Site) -> None:
    """In a container it listens on all addresses, and the container decides who reaches it."""
    result = run("--address", "0.0.0.0")
    assert result.exit_code == 0
    assert result.stderr.startswith("execution-logger: everybody who reaches 0.0.0.0")
    assert len(site.started) == 1
    assert run("--address", "0.0.0.0", FLOWER_BASIC_AUTH="a:b").stderr == ""


def test_what_cannot_start_is_one_line(site: Site) -> None:
    """Exit code 1."""
    site.error = ExecutionLoggerError("Flower is not installed here")
    result = run()
    assert (result.exit_code, result.stderr) == (3, "execution-logger: Flower is not installed here\n")
    assert not site.started


def test_without_flower_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a traceback."""
    monkeypatch.setattr(flower, "find_spec", lambda name: None if name == "flower" else importlib.util)
    with pytest.raises(ExecutionLoggerError, match=r'pip install "celery-execution-logger\[flower\]"'):
        check_flower("127.0.0.1", 5555)


def test_a_port_that_is_taken_is_named() -> None:
    """With how to name another one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            ExecutionLoggerError, match=rf"127\.0\.0\.1:{port}: Address already in use.*FLOWER_PORT"
        ):
            check_flower("127.0.0.1", port)
    check_flower("127.0.0.1", port)


def test_an_address_that_is_not_of_this_machine_is_named() -> None:
    """TEST-NET-1 is nobody's."""
    with pytest.raises(ExecutionLoggerError, match=r"cannot listen on 192\.0\.2\.1:5555"):
        check_flower("192.0.2.1", 5555)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_local_addresses(address: str) -> None:
    """Nobody else reaches them."""
    assert is_local(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "", "10.0.0.1", "::", "example.org"])
def test_other_addresses(address: str) -> None:
    """Names are looked up by nobody here."""
    assert not is_local(address)


@pytest.mark.parametrize(
    ("address", "options", "environ", "expected"),
    [
        ("127.0.0.1", (), {}, None),
        ("0.0.0.0", (), {}, "everybody who reaches 0.0.0.0"),
        ("", (), {}, "everybody who reaches this machine"),
        ("0.0.0.0", (), {"FLOWER_BASIC_AUTH": "a:b"}, None),
        ("0.0.0.0", (), {"FLOWER_BASIC_AUTH": ""}, "everybody"),
        ("0.0.0.0", ("--auth=.*@example.com",), {}, None),
        ("0.0.0.0", ("--auth-provider=x.Y",), {}, None),
        ("0.0.0.0", ("--basic_auth=a:b",), {}, "shows its password"),
        ("127.0.0.1", ("--basic-auth=a:b",), {}, "shows its password"),
        ("0.0.0.0", ("--authority=x",), {}, "everybody"),
    ],
)
def test_an_open_page_is_warned_of(
    address: str, options: tuple[str, ...], environ: dict[str, str], expected: str | None
) -> None:
    """As is a password that every user of the machine can read."""
    warning = warning_of(address, options, environ)
    assert warning is None if expected is None else expected in (warning or "")
