"""Settings: read from the environment once, checked at once, and silent about secrets."""

import dataclasses
import math
import os
import typing
from collections.abc import Mapping
from typing import Any

import pytest

from execution_logger import Settings, SettingsError
from execution_logger.settings import PREFIX, SENSITIVE_KEYS, describe, is_set, unknown_variables

DATABASE_URL = "postgresql://user:hunter2@host/database"


def problem_of(values: Mapping[str, Any]) -> str:
    """What is said about settings that cannot be used."""
    with pytest.raises(SettingsError) as caught:
        Settings(**values)
    return str(caught.value)


def problem_in(**environ: str) -> str:
    """What is said about variables that cannot be used."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environ)
    return str(caught.value)


def flipped(name: str) -> str:
    """The other value of a setting that is true or false, as a text; "" for one of another type."""
    default = getattr(Settings(), name)
    return str(not default) if isinstance(default, bool) else ""


def test_the_defaults_that_are_promises() -> None:
    """Hosts and operators count on them."""
    settings = Settings()
    assert (settings.batch_size, settings.flush_interval_seconds, settings.queue) == (50, 2.0, "logs")
    assert (settings.max_batch_entries, settings.max_batch_bytes) == (1000, 2**20)
    assert (settings.language, settings.celery_enabled, settings.fallback) == ("zh", True, "keep")
    assert settings.sensitive_keys == SENSITIVE_KEYS


def test_an_empty_environment_gives_the_defaults() -> None:
    """Nothing has to be set."""
    assert Settings.from_environment({}) == Settings()


def test_every_setting_is_read_from_its_variable() -> None:
    """Its name in capitals, after the prefix."""
    texts = {int: "51000000", float: "4.5", bool: "false", str: "redis://other", type(None): ""}
    special = {
        "time_zone": "Asia/Shanghai", "table": "other", "language": "en", "fallback": "direct",
        "confirmation": "off", "metrics_port": "9540",
        "retention_days": "30", "schedule_time_zone": "Asia/Shanghai", "report_hook": "module:function",
        "worker_pool": "solo", "sensitive_keys": "x,y", "batch_size": "51", "max_entry_bytes": "2048",
    }  # fmt: skip
    types = {
        name: (typing.get_args(hint) or (hint,))[0] for name, hint in typing.get_type_hints(Settings).items()
    }
    names = [field.name for field in dataclasses.fields(Settings)]
    environ = {
        f"{PREFIX}{name.upper()}": special.get(name) or flipped(name) or texts[types[name]] for name in names
    }
    read, default = Settings.from_environment(environ), Settings()
    assert [name for name in names if getattr(read, name) == getattr(default, name)] == []


@pytest.mark.parametrize(
    ("variable", "name", "text", "value"),
    [
        ("CELERY_BROKER_URL", "broker_url", "redis://other", "redis://other"),
        ("CELERY_RESULT_BACKEND", "result_backend", "redis://other", "redis://other"),
        ("CELERY_TASK_TRACK_STARTED", "task_track_started", "true", True),
        ("CELERY_TASK_TIME_LIMIT", "task_time_limit", "30", 30.0),
        ("CELERY_TASK_SOFT_TIME_LIMIT", "task_soft_time_limit", "30", 30.0),
        ("DATABASE_URL", "database_url", DATABASE_URL, DATABASE_URL),
    ],
)
def test_variables_that_celery_hosts_have_are_honoured(
    variable: str, name: str, text: str, value: object
) -> None:
    """Ours wins where both are set, unless it is empty, which is how docker-compose passes an unset one."""
    ours = PREFIX + name.upper()
    assert getattr(Settings.from_environment({variable: text}), name) == value
    assert getattr(Settings.from_environment({variable: text, ours: " "}), name) == value
    assert getattr(Settings.from_environment({variable: "nonsense", ours: text}), name) == value


def test_celery_can_be_switched_off() -> None:
    """The process then writes to the database, which it must know."""
    settings = Settings.from_environment({"CELERY_ENABLED": "false", "DATABASE_URL": DATABASE_URL})
    assert settings.celery_enabled is False
    assert "DATABASE_URL is not set: CELERY_ENABLED=false needs it" in problem_in(CELERY_ENABLED="false")


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless another one is passed."""
    monkeypatch.setitem(os.environ, "EXECUTION_LOGGER_QUEUE", "other")
    assert Settings.from_environment().queue == "other"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"batch_size": 0}, "EXECUTION_LOGGER_BATCH_SIZE=0: must be at least 1"),
        ({"batch_size": "50"}, "EXECUTION_LOGGER_BATCH_SIZE='50': must be a whole number"),
        ({"batch_size": True}, "EXECUTION_LOGGER_BATCH_SIZE=True: must be a whole number"),
        ({"max_entry_bytes": 1023}, "EXECUTION_LOGGER_MAX_ENTRY_BYTES=1023: must be at least 1024"),
        ({"flush_interval_seconds": math.nan}, "FLUSH_INTERVAL_SECONDS=nan: must be a finite number"),
        ({"flush_timeout_seconds": math.inf}, "FLUSH_TIMEOUT_SECONDS=inf: must be a finite number"),
        ({"flush_timeout_seconds": -1}, "EXECUTION_LOGGER_FLUSH_TIMEOUT_SECONDS=-1: must be at least 0"),
        ({"language": "fr"}, "EXECUTION_LOGGER_LANGUAGE='fr': must be one of zh, en"),
        ({"celery_enabled": "false"}, "EXECUTION_LOGGER_CELERY_ENABLED='false': must be true or false"),
        ({"sensitive_keys": "password"}, "SENSITIVE_KEYS='password': must be a tuple of texts"),
        ({"queue": " "}, "EXECUTION_LOGGER_QUEUE=' ': must not be empty"),
        ({"queue": None}, "EXECUTION_LOGGER_QUEUE=None: must be a text"),
        ({"time_zone": "Mars"}, "EXECUTION_LOGGER_TIME_ZONE='Mars': must be a time zone's name"),
        ({"time_zone": "../etc"}, "EXECUTION_LOGGER_TIME_ZONE='../etc': must be a time zone's name"),
        ({"time_zone": "Asia"}, "EXECUTION_LOGGER_TIME_ZONE='Asia': must be a time zone's name"),
        ({"table": "a;b"}, "EXECUTION_LOGGER_TABLE='a;b': must be a table's name"),
        ({"table": "a..b"}, "EXECUTION_LOGGER_TABLE='a..b': must be a table's name"),
        ({"table": "a.b.c"}, "EXECUTION_LOGGER_TABLE='a.b.c': must be a table's name"),
        ({"max_batch_bytes": 2000}, "must not exceed EXECUTION_LOGGER_MAX_BATCH_BYTES=2000"),
        ({"buffer_max_bytes": 2000}, "must not exceed EXECUTION_LOGGER_BUFFER_MAX_BYTES=2000"),
        ({"batch_size": 1001}, "BATCH_SIZE=1001: must not exceed EXECUTION_LOGGER_MAX_BATCH_ENTRIES=1000"),
        ({"database_timeout_seconds": 31}, "at most half of EXECUTION_LOGGER_VISIBILITY_TIMEOUT_SECONDS=60"),
        ({"fallback": "direct"}, "DATABASE_URL is not set: FALLBACK=direct needs it"),
        ({"broker_url": "localhost:6379/0"}, "must be a URL such as redis://localhost:6379/0"),
        ({"database_url": "http//[::1"}, "must be a URL such as postgresql://user@host/database"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_clear_error(values: dict[str, Any], problem: str) -> None:
    """It names the variable, the value and what is allowed."""
    assert problem in problem_of(values)
    assert problem_of(values).count(PREFIX) <= 2


@pytest.mark.parametrize("table", ["logs", "host.execution_logs", "execution_logs_2", "日志"])
def test_tables_may_have_a_schema(table: str) -> None:
    """And names of any language."""
    assert Settings(table=table).table == table


def test_all_problems_are_said_at_once() -> None:
    """Those of texts that are no values, and those of values that are not allowed."""
    problem = problem_in(
        EXECUTION_LOGGER_BATCH_SIZE="many", CELERY_ENABLED="maybe", EXECUTION_LOGGER_LANGUAGE="fr",
        EXECUTION_LOGGER_FLUSH_INTERVAL_SECONDS="inf", CELERY_TASK_TIME_LIMIT="soon",
    )  # fmt: skip
    assert problem.split("; ") == [
        "EXECUTION_LOGGER_BATCH_SIZE='many': must be a whole number",
        "CELERY_ENABLED='maybe': must be true or false",
        "CELERY_TASK_TIME_LIMIT='soon': must be a finite number",
        "EXECUTION_LOGGER_LANGUAGE='fr': must be one of zh, en",
        "EXECUTION_LOGGER_FLUSH_INTERVAL_SECONDS=inf: must be a finite number",
    ]


@pytest.mark.parametrize("name", ["broker_url", "database_url", "result_backend"])
def test_credentials_never_appear(name: str) -> None:
    """Neither in an error nor where somebody prints the settings."""
    values: dict[str, Any] = {name: DATABASE_URL}
    assert "hunter2" not in repr(Settings(**values))
    assert "hunter2" not in problem_of({name: DATABASE_URL, "batch_size": 0})
    assert "hunter2" not in problem_of({name: ["hunter2"]})
    if name != "result_backend":
        assert "(hidden)" in problem_of({name: "hunter2"})


def test_settings_do_not_change() -> None:
    """What was checked stays so."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().batch_size = 5  # type: ignore[misc]


def test_who_needs_the_database_says_so() -> None:
    """As not every process does."""
    assert Settings(database_url=DATABASE_URL).require_database("the worker") == DATABASE_URL
    with pytest.raises(SettingsError, match="DATABASE_URL is not set: the worker needs it"):
        Settings().require_database("the worker")


def test_every_setting_is_described() -> None:
    """In their order; a default reads as one would set it."""
    rows = describe()
    assert [row[0].split(" / ")[0] for row in rows] == [
        PREFIX + field.name.upper() for field in dataclasses.fields(Settings)
    ]
    environ = {row[0].split(" / ")[0]: row[1] for row in rows}
    assert Settings.from_environment(environ) == Settings()
    assert ("EXECUTION_LOGGER_CELERY_ENABLED / CELERY_ENABLED", "true") in [row[:2] for row in rows]


def test_variables_that_are_no_settings_are_named_with_what_may_be_meant() -> None:
    """They have no effect, and nobody else would say so."""
    environ = {
        "EXECUTION_LOGGER_QUEUE": "known", "EXECUTION_LOGGER_BATCHSIZE": "1", "execution_logger_table": "t",
        "EXECUTION_LOGGER_XYZZY": "1", "EXECUTION_LOGGER_UNSET": " ",
        "CELERY_BROKER": "of no concern", "PATH": "neither",
    }  # fmt: skip
    assert unknown_variables(environ) == {
        "EXECUTION_LOGGER_BATCHSIZE": "EXECUTION_LOGGER_BATCH_SIZE",
        "EXECUTION_LOGGER_XYZZY": None,
        "execution_logger_table": "EXECUTION_LOGGER_TABLE",
    }


def test_a_decision_is_told_from_a_default() -> None:
    """By either name of the variable; an empty one is no decision."""
    assert is_set("time_zone", {"EXECUTION_LOGGER_TIME_ZONE": "UTC"})
    assert is_set("broker_url", {"CELERY_BROKER_URL": "redis://localhost:6379/0"})
    assert not is_set("time_zone", {"EXECUTION_LOGGER_TIME_ZONE": " "})
