"""Flower: what it is started with, and when it is not."""

import importlib.util
import socket

import pytest

from execution_logger.operate.services import flower
from execution_logger.operate.services.directory import ServiceError
from execution_logger.operate.services.flower import check_flower, flower_options, is_local, warning_of


def test_events_stay_off_unless_somebody_insists() -> None:
    """Flower's own default would cost the workers nearly half of their speed; the last option wins."""
    options = flower_options("127.0.0.1", 5555, ("--url_prefix=flower", "--enable_events=True"))
    assert options == [
        "--address=127.0.0.1",
        "--port=5555",
        "--enable_events=False",
        "--url_prefix=flower",
        "--enable_events=True",
    ]


def test_without_flower_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a traceback."""
    monkeypatch.setattr(flower, "find_spec", lambda name: None if name == "flower" else importlib.util)
    with pytest.raises(ServiceError, match=r'pip install "celery-execution-logger\[flower\]"'):
        check_flower("127.0.0.1", 5555)


def test_a_port_that_is_taken_is_named() -> None:
    """With how to name another one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"127\.0\.0\.1:{port}: Address already in use.*FLOWER_PORT"):
            check_flower("127.0.0.1", port)
    check_flower("127.0.0.1", port)


def test_an_address_that_is_not_of_this_machine_is_named() -> None:
    """TEST-NET-1 is nobody's."""
    with pytest.raises(ServiceError, match=r"cannot listen on 192\.0\.2\.1:5555"):
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
