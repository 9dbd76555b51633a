"""The command `execution-logger`: its subcommands, and every error as one clear line."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

import click
from click.shell_completion import CompletionItem

import execution_logger
from execution_logger.errors import ExecutionLoggerError, SettingsError

COMMANDS = {
    "worker": "Write the batches of the queue to the database.",
    "beat": "Send the scheduled jobs to the queue when they are due.",
    "flower": "Show workers and queues on a web page.",
    "metrics": "Show Prometheus the queue, the workers, the tables and the journals of this machine.",
    "db": "Look after the tables.",
    "status": "Show where the entries are, and whether all parts answer.",
    "health": "Ask the worker of this machine whether it works.",
    "doctor": "Find out what is wrong, and say what to do.",
    "config": "Show every setting, and where it comes from.",
    "runs": "List the newest runs.",
    "ui": "Show the runs on a page, live.",
    "tail": "Print entries, oldest first; times are in UTC.",
    "export": "Write entries, oldest first, with every field.",
    "jobs": "Show the scheduled jobs: their last run, what it did, and when they are due next.",
    "purge": "Delete old entries, or those of one run, without getting in the way of others.",
    "audit": "Find entries that are missing, came late, or came more than once.",
    "dead": "Look after what was refused for good.",
    "recover": "Send entries that dead processes have left in their journals.",
    "demo": "Log a real pipeline over the text files of FOLDER, or of the library itself.",
}
"""Each is the module of that name, which is imported when it is asked for; the help needs none of them."""

_ELSEWHERE = {"health": "status", "purge": "db"}
"""Commands that are beside another one in its module."""

WITHOUT_EXTRA = ("worker", "beat", "flower", "doctor", "config", "recover")
"""These work where only the host's packages are installed."""

EXTRA = ("aiosqlite", "alembic", "asyncpg", "rich", "sqlalchemy")
"""What the extra `worker` installs."""

UI_EXTRA = ("sse_starlette", "starlette", "uvicorn")
"""What the extra `ui` installs besides."""

_NEEDS_EXTRA = 'Needs the extra "{}", which is not installed.'
_INTERRUPTED = 130


class Commands(click.Group):
    """The subcommands."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        """Return their names in the order of the help text."""
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write what each does, without importing it."""
        has_extra = all(map(find_spec, EXTRA))
        needs = {name: "worker" for name in COMMANDS if not has_extra and name not in WITHOUT_EXTRA}
        if not has_extra or not all(map(find_spec, UI_EXTRA)):
            needs["ui"] = "ui"
        rows = [
            (name, _NEEDS_EXTRA.format(needs[name]) if name in needs else said)
            for name, said in COMMANDS.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command, without importing it."""
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=COMMANDS[name]) for name in names), *options]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant; of one that is mistyped say what may have been."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            meant = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {meant[0]}?" if meant else ""
            raise click.UsageError(f"{error.format_message()}{hint}", ctx) from error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one."""
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"{__name__}.{_ELSEWHERE.get(cmd_name, cmd_name)}")
        except (ModuleNotFoundError, SettingsError) as error:
            return _not_installed(cmd_name, _missing(error))
        command: click.Command = getattr(module, cmd_name if cmd_name in _ELSEWHERE else "command")
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
        if any(name.startswith("FLOWER_") for name in os.environ):
            _forget_flowers_of_the_platform()
        with _errors_in_one_line():
            return super().main(*args, **kwargs)


def _forget_flowers_of_the_platform() -> None:
    from execution_logger.settings import platform_variables  # noqa: PLC0415 - the help does without

    for name in platform_variables(os.environ):
        if name.startswith("FLOWER_"):
            del os.environ[name]


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except ExecutionLoggerError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        _fail(_missing(error), ExecutionLoggerError.exit_code)


def _missing(error: ModuleNotFoundError | SettingsError) -> str:
    """What to install; any other module that is missing is a defect, and must not look like that."""
    if isinstance(error, SettingsError):  # the store's
        return str(error)
    package = (error.name or "").partition(".")[0]
    if package not in {*EXTRA, *UI_EXTRA}:
        raise error
    extra = "ui" if package in UI_EXTRA else "worker"
    return f'{package} is not installed: pip install "celery-execution-logger[{extra}]"'


def _not_installed(name: str, why: str) -> click.Command:
    """Stands in the help for a command that needs more than is installed."""

    def say_why(**_: object) -> None:
        raise ExecutionLoggerError(why)

    anything = click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)
    return click.Command(
        name,
        callback=say_why,
        params=[anything],
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )


def _fail(message: str, exit_code: int) -> None:
    from execution_logger.text import printable_lines  # noqa: PLC0415 - the help does without

    click.echo(printable_lines(f"execution-logger: {message}"), err=True)
    sys.exit(exit_code)


@click.command(cls=Commands)
@click.version_option(execution_logger.__version__, prog_name="execution-logger")
def main() -> None:
    """Run and watch the worker that writes execution logs to the database.

    Every command reads its settings from the environment, e.g. CELERY_BROKER_URL and DATABASE_URL.

    Exit codes: 0 all is well, 1 something was found, 2 the usage or a setting is wrong, 3 it could not
    look or act; 130 after Ctrl-C.
    """
