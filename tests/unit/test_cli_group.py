"""The root of the command: help, and errors as one line."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result

from children import run_script
from execution_logger import cli
from execution_logger.cli import COMMANDS, main
from execution_logger.cli.status import UnhealthyError
from execution_logger.errors import ExecutionLoggerError, SettingsError, StoreUnavailableError


def run(*arguments: str, **environment: str) -> Result:
    """The outcome of `execution-logger arguments...`."""
    return CliRunner().invoke(main, arguments, prog_name="execution-logger", env=environment)


def fail_on_import(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let the import of any command's module raise `error`."""

    def import_module(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(importlib, "import_module", import_module)


def test_the_help_names_every_command() -> None:
    """Each with its own first sentence."""
    result = run("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_says_what_the_command_says_of_itself(name: str) -> None:
    """The sentence is kept twice, so that the help imports no command."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.get_short_help_str(limit=200) == COMMANDS[name]


HELP = """
    import sys
    from execution_logger.cli import main

    try:
        main(["--help"], prog_name="execution-logger")
    except SystemExit as done:
        assert not done.code
    heavy = {"celery", "kombu", "redis", "sqlalchemy", "asyncpg", "alembic", "rich", "asyncio", "msgspec"}
    assert not heavy & set(sys.modules), heavy & set(sys.modules)
    ours = {name for name in sys.modules if name.startswith("execution_logger.")}
    assert ours == {"execution_logger." + name for name in ("errors", "cli")}, ours
"""


def test_the_help_imports_no_command() -> None:
    """It costs a fraction of what any of them does."""
    run_script(HELP)


def test_a_mistyped_command_is_understood() -> None:
    """Or not, when it is like none."""
    assert run("stauts").stderr.endswith("No such command 'stauts'. Did you mean status?\n")
    assert run("--help-me").exit_code == 2
    assert "Did you mean" not in run("nope").stderr


@pytest.mark.parametrize(
    ("words", "completed"), [("ta", "tail"), ("tail --lev", "--level"), ("dead ret", "retry")]
)
def test_a_shell_completes_commands_and_options(words: str, completed: str) -> None:
    """As docs/OPERATING.md says how to switch on."""
    result = run(
        _EXECUTION_LOGGER_COMPLETE="bash_complete",
        COMP_WORDS=f"execution-logger {words}",
        COMP_CWORD=str(len(words.split())),
    )
    assert result.output.strip() == f"plain,{completed}"


CODES = {SettingsError: 2, ExecutionLoggerError: 3, StoreUnavailableError: 3, UnhealthyError: 1}


@pytest.mark.parametrize(("error", "code"), CODES.items())
def test_an_error_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: type[ExecutionLoggerError], code: int
) -> None:
    """1 something was found, 2 usage or settings, 3 it could not look: the same in every command."""

    def fail() -> None:
        raise error("why")

    module = SimpleNamespace(command=click.Command("status", callback=fail))
    monkeypatch.setattr(importlib, "import_module", lambda _: module)
    result = run("status")
    assert (result.exit_code, result.stderr) == (code, "execution-logger: why\n")


def test_an_unknown_command_is_wrong_usage() -> None:
    """Exit code 2, as for all commands."""
    result = run("nope")
    assert result.exit_code == 2
    assert "No such command 'nope'" in result.stderr


@pytest.mark.parametrize("module", ["rich", "rich.console", "sqlalchemy.ext.asyncio"])
def test_a_missing_extra_is_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """Who installed without the extra is not shown a traceback."""
    fail_on_import(monkeypatch, ModuleNotFoundError(name=module))
    result = run("status")
    assert result.exit_code == 3
    package = module.partition(".")[0]
    assert result.stderr == (
        f'execution-logger: {package} is not installed: pip install "celery-execution-logger[worker]"\n'
    )


@pytest.mark.parametrize("module", ["uvicorn", "sse_starlette", "starlette.types"])
def test_a_missing_extra_of_the_page_is_one_line_as_well(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """Hosts have some of these packages, and not all."""
    for name in (module, "execution_logger.cli.ui", "execution_logger.web"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    result = run("ui")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"execution-logger: {module.partition('.')[0]} is not installed: ")
    assert result.stderr.endswith('pip install "celery-execution-logger[ui]"\n')


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("uvicorn", {"ui": "ui", "tail": None, "worker": None}),
        ("sqlalchemy", {"ui": "ui", "tail": "worker", "worker": None}),
    ],
)
def test_the_help_says_which_extra_a_command_needs(
    monkeypatch: pytest.MonkeyPatch, missing: str, told: dict[str, str | None]
) -> None:
    """Of each that is not installed."""
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == missing else object())
    lines = run("--help").output.splitlines()
    for name, extra in told.items():
        (line,) = (line for line in lines if line.startswith(f"  {name} "))
        said = f'Needs the extra "{extra}", which is not installed.' if extra else COMMANDS[name]
        assert line.split(maxsplit=1)[1] == said


def test_another_missing_module_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect must not look like an incomplete installation."""
    error = ModuleNotFoundError(name="execution_logger.nope")
    fail_on_import(monkeypatch, error)
    assert run("status").exception is error


def test_an_error_of_ours_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr: the command could not even begin."""
    fail_on_import(monkeypatch, SettingsError("X=1: must be 2"))
    result = run("status")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "execution-logger: X=1: must be 2\n"


def test_a_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is the one that shells use."""
    fail_on_import(monkeypatch, KeyboardInterrupt())
    result = run("status")
    assert result.exit_code == 130
    assert result.stderr == "execution-logger: interrupted\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("runs --limit many", "'--limit': 'many' is not a valid integer."),
        ("runs --limit 0", "'--limit': 0 is not in the range 1<=x<=1000."),
        ("audit --late-after soon", "'--late-after': 'soon' is not a valid number."),
        ("recover --timeout -5", "'--timeout': -5.0 is not in the range x>=0."),
        ("runs --operation 42", "'--operation': '42' is no UUID: take the operation_id of an entry"),
        ("runs --since 2d --until 3d", "--since 2"),
        ("jobs run retntion", "'NAME': 'retntion' is not one of 'health', 'statistics', 'retention'."),
        ("jobs run", "Missing argument 'NAME'. Choose from:"),
        ("dead show", "Missing argument 'ID'."),
        ("tail --level eror", "'eror' is not one of 'debug', 'info', 'warning', 'error', 'critical'."),
    ],
)
def test_wrong_usage_names_option_and_value(words: str, said: str) -> None:
    """And says what may be there; what to ask for more stands above."""
    result = run(*words.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert "--help' for help." in result.stderr


def test_no_text_of_a_help_is_cut() -> None:
    """At 80 columns each command of a group is told in whole sentences."""
    for group in ((), ("db",), ("dead",), ("jobs",)):
        assert "..." not in run(*group, "--help", COLUMNS="80").stdout.partition("Commands:")[2]
