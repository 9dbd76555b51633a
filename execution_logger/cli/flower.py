"""`execution-logger flower`: Celery's web page."""

import os

import click

from execution_logger.operate.services.flower import ADDRESS, PORT, check_flower, flower_options, warning_of
from execution_logger.text import printable
from execution_logger.worker import create_client
from execution_logger.worker.supervisor import stop_at_end_of_input


@click.command(context_settings={"show_default": True})
@click.option("--address", default=ADDRESS, envvar="FLOWER_ADDRESS", show_envvar=True)
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, envvar="FLOWER_PORT", show_envvar=True)
@click.option("--stop-at-eof", is_flag=True, help="Also end when the standard input ends.")
@click.argument("flower_arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- FLOWER OPTIONS]")
def command(address: str, port: int, stop_at_eof: bool, flower_arguments: tuple[str, ...]) -> None:  # noqa: FBT001 - click passes it by name
    """Show workers and queues on a web page.

    Workers are not made to send events, which would cost them 45 % of their throughput; so the page
    lists no tasks. Whoever reaches the page sees it: set FLOWER_BASIC_AUTH=user:password when it
    listens on more than this machine.

    The exit code is 1 when Flower is not installed or cannot listen there.
    """
    check_flower(address, port)
    if warning := warning_of(address, flower_arguments, os.environ):
        click.echo(printable(f"execution-logger: {warning}"), err=True)
    app = create_client()
    if stop_at_eof:
        stop_at_end_of_input()
    # In this process, so that the broker's password is in no command line.
    app.start(["flower", *flower_options(address, port, flower_arguments)])
