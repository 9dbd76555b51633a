"""`execution-logger config`."""

import json
from dataclasses import fields
from typing import Any

import pytest
from click.testing import CliRunner, Result

from execution_logger import Settings
from execution_logger.cli import main

NONE = {"CELERY_BROKER_URL": None, "DATABASE_URL": None, "CELERY_RESULT_BACKEND": None}


def config(*options: str, **environment: str) -> Result:
    """The outcome of the command, with these variables only."""
    return CliRunner().invoke(main, ["config", *options], env={**NONE, **environment})


def settings(found: dict[str, Any]) -> dict[str, Any]:
    """By their names."""
    return {setting["name"]: setting for setting in found["settings"]}


def test_every_setting_is_shown() -> None:
    """In its order, with its value and where that comes from."""
    result = config("--json", EXECUTION_LOGGER_BATCH_SIZE="7", CELERY_BROKER_URL="redis://host:1/0")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [setting["name"] for setting in found["settings"]] == [field.name for field in fields(Settings)]
    by_name = settings(found)
    assert by_name["batch_size"] == {
        "name": "batch_size", "variable": "EXECUTION_LOGGER_BATCH_SIZE", "value": "7", "problem": None
    }  # fmt: skip
    assert by_name["broker_url"]["variable"] == "CELERY_BROKER_URL"
    assert (by_name["queue"]["variable"], by_name["queue"]["value"]) == (None, "logs")
    assert (found["problems"], found["unknown"]) == ([], {})


def test_people_get_a_table() -> None:
    """The same; with `--changed` what is no default only."""
    result = config(EXECUTION_LOGGER_QUEUE="audit")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["queue", "audit", "EXECUTION_LOGGER_QUEUE"] in rows
    assert ["batch_size", "50", "default"] in rows
    rows = [line.split() for line in config("--changed", EXECUTION_LOGGER_QUEUE="audit").stdout.splitlines()]
    assert [row[0] for row in rows[2:] if row] == ["queue"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:1/0?password=secret", "redis://***@host:1/0"),
        ("redis://:se@cret@host/0", "redis://***@host/0"),
        ("sentinel://:secret@a:1/0;sentinel://:secret@b:1/0", "sentinel://***@a:1/0;sentinel://***@b:1/0"),
        ("redis://:se#cret@host/0", "(hidden)"),
        ("redis://:secret:1/0", "(hidden)"),
        ("redis://[secret", "(hidden)"),
        ("secret", "(hidden)"),
        ("redis://host:1/0", "redis://host:1/0"),
    ],
)
def test_secrets_are_hidden(url: str, shown: str) -> None:
    """Also where the URL cannot be read, and what looks like a port may be a part of the password."""
    for variable in ("CELERY_BROKER_URL", "DATABASE_URL", "CELERY_RESULT_BACKEND"):
        for options in ((), ("--json",)):
            result = config(*options, **{variable: url})
            assert shown in result.stdout
            assert "cret" not in result.output.replace("secret,", "")  # which is a sensitive key


@pytest.mark.parametrize(
    ("environment", "problems"),
    [
        (
            {"EXECUTION_LOGGER_JOURNAL": "maybe", "EXECUTION_LOGGER_BATCH_SIZE": "0"},
            ["BATCH_SIZE=0: must be at least 1", "JOURNAL='maybe': must be true or false"],
        ),
        ({"CELERY_ENABLED": "false"}, ["DATABASE_URL is not set"]),
        (
            {"EXECUTION_LOGGER_BATCH_SIZE": "1900"},
            ["must not exceed EXECUTION_LOGGER_MAX_BATCH_ENTRIES=1000"],
        ),
        ({"CELERY_BROKER_URL": "host"}, ["BROKER_URL=(hidden): must be a URL"]),
    ],
)
def test_wrong_values_are_errors(environment: dict[str, str], problems: list[str]) -> None:
    """All of them, with an exit code for scripts, and the other settings nevertheless."""
    result = config("--json", **environment)
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert len(found["problems"]) == len(problems)
    for problem, text in zip(found["problems"], problems, strict=True):
        assert text in problem
    assert settings(found)["queue"]["value"] == "logs"
    for text in problems:
        assert text in config(**environment).stdout


def test_variables_that_have_no_effect_are_named() -> None:
    """With the one that may be meant; they are no error."""
    variables = {"EXECUTION_LOGGER_BATCHSIZE": "5", "EXECUTION_LOGGER_COLOUR_OF_THE_SKY": "blue"}
    result = config(**variables)
    assert result.exit_code == 0
    assert (
        "EXECUTION_LOGGER_BATCHSIZE is no setting. Did you mean EXECUTION_LOGGER_BATCH_SIZE?" in result.stdout
    )
    assert "EXECUTION_LOGGER_COLOUR_OF_THE_SKY is no setting.\n" in result.stdout
    assert json.loads(config("--json", **variables).stdout)["unknown"] == {
        "EXECUTION_LOGGER_BATCHSIZE": "EXECUTION_LOGGER_BATCH_SIZE",
        "EXECUTION_LOGGER_COLOUR_OF_THE_SKY": None,
    }


def test_an_empty_variable_is_none() -> None:
    """As for every other command."""
    found = json.loads(config("--json", EXECUTION_LOGGER_QUEUE=" ").stdout)
    assert settings(found)["queue"]["variable"] is None
