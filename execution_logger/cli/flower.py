"""`execution-logger flower`: Celery's web page."""

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from ipaddress import ip_address

import click

from execution_logger.cli.options import Integer, stop_at_end_of_input, stop_at_eof_option
from execution_logger.errors import ExecutionLoggerError
from execution_logger.text import printable
from execution_logger.worker import create_client

_AUTHENTICATION = ("basic_auth", "auth", "auth_provider")


@click.command(context_settings={"show_default": True})
@click.option("--address", default="127.0.0.1", envvar="FLOWER_ADDRESS", show_envvar=True)
@click.option("--port", type=Integer(1, 65535), default=5555, envvar="FLOWER_PORT", show_envvar=True)
@stop_at_eof_option
@click.argument("flower_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- FLOWER OPTIONS]")
def command(address: str, port: int, stop_at_eof: bool, flower_options: tuple[str, ...]) -> None:
    """Show workers and queues on a web page.

    Workers are not made to send events, which would cost them 45 % of their throughput; so the page
    lists no tasks. Whoever reaches the page sees it: set FLOWER_BASIC_AUTH=user:password when it
    listens on more than this machine.

    The exit code is 3 when Flower is not installed or cannot listen there.
    """
    check_flower(address, port)
    if warning := warning_of(address, flower_options, os.environ):
        click.echo(printable(f"execution-logger: {warning}"), err=True)
    app = create_client()
    if stop_at_eof:
        stop_at_end_of_input()
    # In this process, so that the broker's password is in no command line. Further options win.
    app.start(["flower", f"--address={address}", f"--port={port}", "--enable_events=False", *flower_options])


def check_flower(address: str, port: int) -> None:
    """See whether Flower could start.

    Raises:
        ExecutionLoggerError: it is not installed, or somebody listens there already.
    """
    if find_spec("flower") is None:
        raise ExecutionLoggerError(
            'Flower is not installed here: pip install "celery-execution-logger[flower]"'
        )
    try:
        family, kind, *_, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            if os.name == "posix":  # connections of the last Flower that are still being closed are no reason
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise ExecutionLoggerError(
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
