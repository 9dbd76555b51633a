"""`execution-logger config`: every setting, and where it comes from."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import click

from execution_logger.cli.options import json_option
from execution_logger.cli.terminal import Cell, Text, echo_json, open_console, print_rows, say
from execution_logger.settings import EffectiveSetting, effective, problems_in, unknown_variables
from execution_logger.text import printable

_WRONG = 2
_DEFAULT = "default"


@click.command()
@click.option("--changed", is_flag=True, help="Only settings that are not the default.")
@json_option
def command(changed: bool, as_json: bool) -> None:
    """Show every setting, and where it comes from.

    It is as a process with this environment would have it: from a variable, or the default. Users,
    passwords and parameters of URLs are hidden. Variables that begin with EXECUTION_LOGGER_ and are
    none are named: they have no effect.

    The exit code is 2 when a setting that a host uses cannot be used, and 0 otherwise.
    """
    found = effective()
    problems = problems_in(os.environ)
    unknown = unknown_variables()
    shown = [setting for setting in found if setting.variable is not None or not changed]
    if as_json:
        settings = [asdict(setting) for setting in shown]
        echo_json({"settings": settings, "problems": problems, "unknown": unknown})
    else:
        _print(shown, problems, unknown)
    sys.exit(_WRONG if problems else 0)


def _print(
    found: Sequence[EffectiveSetting], problems: Sequence[str], unknown: Mapping[str, str | None]
) -> None:
    console = open_console()
    rows: list[list[Cell]] = [
        [setting.name, _value(setting), Text(setting.variable or _DEFAULT, _style(setting))]
        for setting in found
    ]
    if found:
        print_rows(console, ("setting", "value", "from"), rows, whole={"value": 10})
    for problem in problems:
        say(console, f"wrong: {problem}", "red")
    for passed_over in (each.problem for each in found if each.problem and each.problem not in problems):
        say(console, f"not used by a host with this environment: {passed_over}", "yellow")
    for name, meant in unknown.items():
        hint = f" Did you mean {meant}?" if meant else ""
        say(console, f"no effect: {name} is no setting.{hint}", "yellow")


def _value(setting: EffectiveSetting) -> Text:
    style = "red" if setting.problem else ""
    return Text(printable(setting.value or "-"), style)


def _style(setting: EffectiveSetting) -> str:
    return "dim" if setting.variable is None else ""
