"""The command's root: its subcommands, and every error as one clear line."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

import execution_logger
from execution_logger.errors import ExecutionLoggerError, SettingsError
from execution_logger.settings import platform_variables
from execution_logger.text import printable_lines

COMMANDS = (
    "worker",
    "beat",
    "flower",
    "metrics",
    "manage",
    "db",
    "status",
    "health",
    "doctor",
    "config",
    "runs",
    "tail",
    "export",
    "jobs",
    "purge",
    "audit",
    "dead",
    "recover",
    "demo",
)
"""Each is the module of that name, which is imported when it is asked for."""

EXTRA = ("aiosqlite", "alembic", "asyncpg", "rich", "sqlalchemy")
"""What the extra `worker` installs."""

_INTERRUPTED = 130


class Commands(click.Group):
    """The subcommands."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return their names in the order of the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one."""
        if cmd_name not in COMMANDS:
            return None
        try:
            command: click.Command = importlib.import_module(f"execution_logger.cli.{cmd_name}").command
        except (ModuleNotFoundError, SettingsError) as error:
            return _not_installed(cmd_name, _missing(error))
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run one; a Ctrl-C is no error of the command's."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("execution-logger: interrupted", err=True)
            ctx.exit(_INTERRUPTED)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command that `sys.argv` names, and exit."""
        # Flower's own, which a Service or a container called `flower` has in every process of its network.
        for name in platform_variables(os.environ):
            if name.startswith("FLOWER_"):
                del os.environ[name]
        with _errors_in_one_line():
            return super().main(*args, **kwargs)


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except ExecutionLoggerError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        _fail(_missing(error))


def _missing(error: ModuleNotFoundError | SettingsError) -> str:
    """What to install; any other module that is missing is a defect, and must not look like that."""
    if isinstance(error, SettingsError):  # the store's
        return str(error)
    package = (error.name or "").partition(".")[0]
    if package not in EXTRA:
        raise error
    return f'{package} is not installed: pip install "celery-execution-logger[worker]"'


def _not_installed(name: str, why: str) -> click.Command:
    """Stands in the help for a command that needs more than is installed."""

    def say_why(**_: object) -> None:
        raise ExecutionLoggerError(why)

    anything = click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)
    return click.Command(
        name,
        callback=say_why,
        params=[anything],
        short_help='Needs the extra "worker", which is not installed.',
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )


def _fail(message: str) -> None:
    click.echo(printable_lines(f"execution-logger: {message}"), err=True)
    sys.exit(1)


@click.command(cls=Commands)
@click.version_option(execution_logger.__version__, prog_name="execution-logger")
def main() -> None:
    """Run and watch the worker that writes execution logs to the database.

    Every command reads its settings from the environment, e.g. CELERY_BROKER_URL and DATABASE_URL.
    """
