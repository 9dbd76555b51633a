"""`execution-logger health`: whether a worker works, for the health checks of containers."""

import click

from execution_logger.broker.depth import BrokerUnavailableError
from execution_logger.errors import StoreUnavailableError
from execution_logger.operate.health import UnhealthyError, check_worker, worker_name
from execution_logger.settings import BROKER, DATABASE, Settings
from execution_logger.text import printable


@click.command()
@click.option("--name", metavar="NAME", help="The worker's. Default: celery@ and the name of this machine.")
def command(name: str | None) -> None:
    """Ask the worker of this machine whether it works.

    It does if it answers, takes from the queue, and the database has the table. For the health checks
    of containers: one line and an exit code. What is wrong otherwise, `execution-logger doctor` finds.

    The exit code is 0 when it works, 1 when it does not, and 2 when a setting cannot be used.
    """
    name = name or worker_name()
    try:
        check_worker(Settings.from_environment(uses=BROKER | DATABASE), name)
    except (BrokerUnavailableError, StoreUnavailableError) as error:
        raise UnhealthyError(str(error)) from error
    click.echo(printable(f"{name} works"))
