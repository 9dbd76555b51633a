"""`execution-logger metrics`: the exporter, which tells Prometheus what no single process knows."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import click

from execution_logger.broker.queue import check_broker_url
from execution_logger.cli.options import Integer
from execution_logger.diagnostics import logger
from execution_logger.errors import ExecutionLoggerError
from execution_logger.metrics import PROCESS_COLLECTOR, MetricsServer, exposition
from execution_logger.operate.system_metrics import SystemCollector
from execution_logger.settings import Settings, is_set
from execution_logger.text import printable

_LOG_FORMAT = "[%(asctime)s: %(levelname)s/Metrics] %(message)s"  # as Celery's lines look
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_WAKE_SECONDS = 1.0


@click.command(context_settings={"show_default": True})
@click.option("--port", type=Integer(1, 65_535), default=9541, help="The port to listen on.")
@click.option("--address", help="The address of that port. [default: EXECUTION_LOGGER_METRICS_ADDRESS]")
@click.option("--once", is_flag=True, help="Print the metrics and end: for people, and for text files.")
def command(port: int, address: str | None, once: bool) -> None:
    """Show Prometheus the queue, the workers, the tables and the journals of this machine.

    One such process is enough for all hosts and workers; where hosts keep journals, another one on
    their machine, as the same user, shows these. Workers and hosts have metrics of their own. It answers
    within two seconds whatever is away, and then says that it is. It runs until SIGTERM or Ctrl-C.

    The exit code is 0, 2 when a setting cannot be used, and 3 when the port cannot.
    """
    logging.basicConfig(format=_LOG_FORMAT, level="INFO")
    settings = Settings.from_environment()
    if is_set("database_url"):
        settings.require_database("metrics")
    if settings.celery_enabled:
        check_broker_url(settings)
    collector = SystemCollector(settings)
    if once:
        text = exposition([collector])
        click.echo("\n".join(map(printable, text.split("\n"))), nl=False)
    else:
        _serve(collector, address or settings.metrics_address, port)


def _serve(collector: SystemCollector, address: str, port: int) -> None:
    with _until_asked_to_end() as stopped:
        try:
            server = MetricsServer([collector, PROCESS_COLLECTOR], address, port)
        except OSError as error:
            raise ExecutionLoggerError(f"{address}:{port} cannot be used: {error}") from error
        logger.info("metrics are at http://%s:%d/metrics", address, port)
        with closing(server):
            # In slices, because on Windows no signal ends a wait.
            while not stopped.wait(_WAKE_SECONDS):
                pass


@contextmanager
def _until_asked_to_end() -> Iterator[threading.Event]:
    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in _SIGNALS}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
