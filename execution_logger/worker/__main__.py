"""The worker's process, which a supervisor keeps running: `python -m execution_logger.worker -Q logs`.

Options are those of `celery worker`. It ends with its standard input.
"""

import sys
from typing import Any

import click
from celery.signals import worker_init

from execution_logger.errors import SettingsError
from execution_logger.text import printable
from execution_logger.worker.app import create_app
from execution_logger.worker.supervisor import WRONG_USAGE, stop_at_end_of_input


def main() -> int:
    """Run the worker to its end and return its exit code."""
    try:
        app = create_app()
    except SettingsError as error:
        # As for an unknown option: the supervisor does not try again.
        click.echo(printable(f"execution-logger: {error}"), err=True)
        return WRONG_USAGE
    stop_at_end_of_input()
    workers: list[Any] = []
    worker_init.connect(lambda sender, **_: workers.append(sender), weak=False)
    try:
        app.worker_main(["worker", *sys.argv[1:]])
    except click.ClickException as error:
        error.show()
        return error.exit_code
    # worker_main() forgets it: a worker that an error ended would look like one that was stopped.
    return workers[0].exitcode or 0 if workers else 0


if __name__ == "__main__":
    sys.exit(main())
