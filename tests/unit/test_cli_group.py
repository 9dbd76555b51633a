"""The root of the command: help, and errors as one line."""

import importlib
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from execution_logger.cli import main
from execution_logger.cli.group import COMMANDS
from execution_logger.errors import SettingsError


def run(*arguments: str) -> Result:
    """The outcome of `execution-logger arguments...`."""
    return CliRunner().invoke(main, arguments, prog_name="execution-logger")


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
    assert result.exit_code == 1
    package = module.partition(".")[0]
    assert result.stderr == (
        f'execution-logger: {package} is not installed: pip install "celery-execution-logger[worker]"\n'
    )


def test_another_missing_module_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect must not look like an incomplete installation."""
    error = ModuleNotFoundError(name="execution_logger.nope")
    fail_on_import(monkeypatch, error)
    assert run("status").exception is error


def test_an_error_of_ours_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr, with the exit code 1."""
    fail_on_import(monkeypatch, SettingsError("X=1: must be 2"))
    result = run("status")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "execution-logger: X=1: must be 2\n"


def test_a_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is the one that shells use."""
    fail_on_import(monkeypatch, KeyboardInterrupt())
    result = run("status")
    assert result.exit_code == 130
    assert result.stderr == "execution-logger: interrupted\n"
