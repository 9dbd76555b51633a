"""Flower, the web page about Celery's workers and queues: what it is started with."""

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from ipaddress import ip_address

from execution_logger.operate.services.directory import ServiceError

ADDRESS = "127.0.0.1"
PORT = 5555

_AUTHENTICATION = ("basic_auth", "auth", "auth_provider")


def flower_options(address: str, port: int, further: Sequence[str]) -> list[str]:
    """The options of Flower's command; the further ones come last, and win.

    Without `enable_events=False` Flower switches on the workers' events, which cost them 45 % of
    their throughput.
    """
    return [f"--address={address}", f"--port={port}", "--enable_events=False", *further]


def check_flower(address: str, port: int) -> None:
    """See whether Flower could start.

    Raises:
        ServiceError: it is not installed, or somebody listens there already.
    """
    if find_spec("flower") is None:
        raise ServiceError('Flower is not installed here: pip install "celery-execution-logger[flower]"')
    try:
        family, kind, *_, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            if os.name == "posix":  # connections of the last Flower that are still being closed are no reason
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise ServiceError(
            f"Flower cannot listen on {address}:{port}: {error.strerror}; another port is named with "
            "--port or FLOWER_PORT"
        ) from None


def warning_of(address: str, options: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """What to tell somebody who opens Flower to a network without a password, or shows the password."""
    words = {option.lstrip("-").partition("=")[0].replace("-", "_") for option in options}
    if "basic_auth" in words:
        return "--basic_auth shows its password to every user of this machine: set FLOWER_BASIC_AUTH instead"
    has_authentication = any(
        name in words or environ.get(f"FLOWER_{name.upper()}") for name in _AUTHENTICATION
    )
    if is_local(address) or has_authentication:
        return None
    return (
        f"everybody who reaches {address or 'this machine'} can see what Flower shows: set "
        "FLOWER_BASIC_AUTH=user:password, or let it listen on 127.0.0.1"
    )


def is_local(address: str) -> bool:
    """Whether only this machine reaches the address."""
    with suppress(ValueError):
        return ip_address(address).is_loopback
    return address == "localhost"
