"""Settings: read from the environment once, checked at once, and silent about secrets."""

import dataclasses
import math
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from children import run_script
from execution_logger import Settings, SettingsError
from execution_logger.settings import (
    BROKER,
    DATABASE,
    NOTHING,
    PREFIX,
    SENSITIVE_KEYS,
    WORKER,
    describe,
    is_set,
    platform_variables,
    unknown_variables,
)

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
        "database_url": DATABASE_URL,
        "time_zone": "Asia/Shanghai", "table": "other", "language": "en", "fallback": "direct",
        "confirmation": "off", "metrics_port": "9540",
        "retention_days": "30", "schedule_time_zone": "Asia/Shanghai",
        "worker_pool": "solo", "sensitive_keys": "x,y", "level": "info,tool=error", "debug_share": "0.5",
        "batch_size": "51", "max_entry_bytes": "2048",
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
        EXECUTION_LOGGER_FLUSH_INTERVAL_SECONDS="inf", EXECUTION_LOGGER_TIME_ZONE="Mars",
        EXECUTION_LOGGER_MAX_ENTRY_BYTES="2000000", CELERY_BROKER_URL="redi://host/0",
        EXECUTION_LOGGER_FALLBACK="direct",
    )  # fmt: skip
    for part in (
        "EXECUTION_LOGGER_BATCH_SIZE='many': must be a whole number",
        "CELERY_ENABLED='maybe': must be true or false",
        "EXECUTION_LOGGER_LANGUAGE='fr': must be one of zh, en",
        "EXECUTION_LOGGER_FLUSH_INTERVAL_SECONDS=inf: must be a finite number",
        "EXECUTION_LOGGER_TIME_ZONE='Mars': must be a time zone's name",
        "EXECUTION_LOGGER_MAX_ENTRY_BYTES=2000000: must not exceed EXECUTION_LOGGER_MAX_BATCH_BYTES=1048576",
        "CELERY_BROKER_URL=(hidden): redi:// is not supported",
        "did you mean redis://?",
        "DATABASE_URL is not set: FALLBACK=direct needs it",
    ):
        assert problem.count(part) == 1


KUBERNETES = {
    "EXECUTION_LOGGER_METRICS_PORT": "tcp://10.0.0.11:9540",
    "EXECUTION_LOGGER_METRICS_SERVICE_HOST": "10.0.0.11",
    "EXECUTION_LOGGER_METRICS_SERVICE_PORT": "9540",
    "EXECUTION_LOGGER_METRICS_SERVICE_PORT_HTTP_METRICS": "9540",
    "EXECUTION_LOGGER_METRICS_PORT_9540_TCP": "tcp://10.0.0.11:9540",
    "EXECUTION_LOGGER_METRICS_PORT_9540_TCP_PROTO": "tcp",
    "EXECUTION_LOGGER_METRICS_PORT_9540_TCP_PORT": "9540",
    "EXECUTION_LOGGER_METRICS_PORT_9540_TCP_ADDR": "10.0.0.11",
    "EXECUTION_LOGGER_PORT": "udp://[fd00::1]:9540",
    "EXECUTION_LOGGER_WORKER_SERVICE_HOST": "10.0.0.12",
}
DOCKER = {
    "EXECUTION_LOGGER_METRICS_PORT": "tcp://172.17.0.5:9540",
    "EXECUTION_LOGGER_METRICS_NAME": "/web/execution-logger-metrics",
    "EXECUTION_LOGGER_METRICS_ENV_PYTHON_VERSION": "3.12",
    "EXECUTION_LOGGER_METRICS_PORT_6000_6005_TCP_START": "6000",
}


@pytest.mark.parametrize("environ", [KUBERNETES, DOCKER], ids=["Kubernetes", "Docker"])
def test_what_the_platform_generates_is_no_setting(environ: Mapping[str, str]) -> None:
    """A Service may be called as our settings are; nobody has set anything."""
    assert Settings.from_environment(environ) == Settings()
    assert unknown_variables(environ) == {}
    assert not is_set("metrics_port", environ)
    assert sorted(platform_variables({**environ, "EXECUTION_LOGGER_QUEUE": "q"})) == sorted(environ)
    with_ours = {**environ, "EXECUTION_LOGGER_METRICS_PORT": "9540"}
    assert Settings.from_environment(with_ours).metrics_port == 9540


WITHOUT_CELERY = {"CELERY_ENABLED": "false", "DATABASE_URL": DATABASE_URL}
FOREIGN = {
    "DATABASE_URL": "file:./dev.db",  # Prisma's
    "CELERY_TASK_TIME_LIMIT": "30*60",
    "CELERY_TASK_SOFT_TIME_LIMIT": "timedelta(minutes=5)",
    "CELERY_TASK_TRACK_STARTED": "sometimes",
}


@pytest.mark.parametrize(
    ("uses", "environ", "named"),
    [
        (None, {}, set()),
        (None, {"CELERY_BROKER_URL": "redi://h"}, {"CELERY_BROKER_URL"}),
        (None, {"EXECUTION_LOGGER_FALLBACK": "direct"}, {"DATABASE_URL"}),
        (None, {"CELERY_ENABLED": "false"}, {"DATABASE_URL"}),
        (None, {**WITHOUT_CELERY, "CELERY_BROKER_URL": "sqs://"}, set()),
        (NOTHING, {"CELERY_BROKER_URL": "redi://h"}, set()),
        (NOTHING, {"CELERY_ENABLED": "false"}, set()),
        (NOTHING, {"CELERY_ENABLED": "false", "DATABASE_URL": ""}, set()),
        (BROKER, {"EXECUTION_LOGGER_FALLBACK": "direct", "DATABASE_URL": ""}, set()),
        (BROKER, {}, set()),
        (BROKER, {"CELERY_BROKER_URL": "memory://"}, {"CELERY_BROKER_URL"}),
        (DATABASE, {"CELERY_BROKER_URL": "redi://h"}, {"DATABASE_URL"}),
        (WORKER, {}, {*FOREIGN}),
    ],
)
def test_variables_of_the_host_are_checked_by_who_uses_them(
    uses: frozenset[str] | None, environ: Mapping[str, str], named: set[str]
) -> None:
    """They may be meant for somebody else, an ORM for instance; a process that needs none of them starts."""
    environ = {**FOREIGN, **environ}
    if named:
        with pytest.raises(SettingsError) as caught:
            Settings.from_environment(environ, uses=uses)
        assert {name for name in environ if f"{name}=" in str(caught.value)} == named
    else:
        assert Settings.from_environment(environ, uses=uses).task_time_limit is None


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DATABASE_URL", "mysql://user:hunter2@host/database"),
        ("EXECUTION_LOGGER_DATABASE_URL", "mssql+pyodbc://user:hunter2@host/database"),
        ("CELERY_BROKER_URL", "sqs://hunter2@"),
        ("EXECUTION_LOGGER_BROKER_URL", "filesystem://hunter2"),
        ("CELERY_TASK_TIME_LIMIT", "0"),
        ("EXECUTION_LOGGER_TASK_TIME_LIMIT", "soon"),
    ],
)
def test_the_variable_that_was_read_is_named(variable: str, text: str) -> None:
    """And not the other one that it could have been, which nobody has set."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({variable: text}, uses=WORKER)
    assert str(caught.value).startswith(f"{variable}=")
    assert str(caught.value).count("=") == 1
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:p@h/d", "postgresql+psycopg2://u:p@h/d", "postgresql+asyncpg://h/d", "postgresql+pg8000://h/d",
        "sqlite:////x.db", "sqlite+aiosqlite:////var/x.db", "sqlite://", "sqlite:///:memory:",
    ],
)  # fmt: skip
def test_a_database_may_be_named_for_any_driver(url: str) -> None:
    """The host's own driver is its business: the server is the same."""
    assert Settings.from_environment({"DATABASE_URL": url}, uses=WORKER).database_url == url


def test_a_database_file_is_where_it_was_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever folder the process changes to afterwards, and whoever is handed the settings."""
    monkeypatch.chdir(tmp_path)
    settings = Settings(database_url="sqlite+aiosqlite:///data/logs.db?timeout=5")
    monkeypatch.chdir("/")
    expected = f"sqlite+aiosqlite:///{tmp_path}/data/logs.db?timeout=5"
    assert settings.database_url == expected
    assert dataclasses.replace(settings, queue="q").database_url == expected


@pytest.mark.parametrize("mark", ["'", '"'])
def test_quotation_marks_of_an_env_file_are_removed(mark: str) -> None:
    """`docker run --env-file` leaves them in the value; one that stands alone is named."""
    environ = {
        "DATABASE_URL": f"{mark}{DATABASE_URL}{mark}",
        "EXECUTION_LOGGER_QUEUE": f" {mark}mine{mark} ",
        "EXECUTION_LOGGER_BATCH_SIZE": f"{mark}7{mark}",
        "EXECUTION_LOGGER_TABLE": f"{mark}{mark}",
    }
    settings = Settings.from_environment(environ)
    assert (settings.database_url, settings.queue, settings.batch_size) == (DATABASE_URL, "mine", 7)
    assert settings.table == "execution_logs"
    assert problem_in(EXECUTION_LOGGER_BATCH_SIZE=f"{mark}7").endswith(
        "; a quotation mark is part of the value"
    )


STARTS = {
    "host": """
        from execution_logger import execution_logger
        from execution_logger.testing import capture_entries
        with capture_entries():
            execution_logger.sync.info("t", "agent", "hello")
        """,
    "worker": "from execution_logger.worker import create_app; create_app()",
    "host's own worker": """
        from celery import Celery
        from execution_logger.worker import register_tasks
        register_tasks(Celery("host"))
        """,
    "Beat": """
        from celery import Celery
        from execution_logger.cli import main
        Celery.start = lambda *_: None
        main(["beat"], standalone_mode=False)
        """,
    "Flower": """
        from celery import Celery
        from execution_logger.cli import flower, main
        Celery.start = lambda *_: None
        flower.check_flower = lambda *_: None
        main(["flower"], standalone_mode=False)
        """,
}


@pytest.mark.parametrize("role", STARTS)
def test_misspelt_names_are_one_warning(role: str, tmp_path: Path) -> None:
    """They have no effect, and nobody asks a doctor. Once a process, however often settings are read."""
    again = "print('started'); from execution_logger import Settings; Settings.from_environment()"
    printed = run_script(
        f"{dedent(STARTS[role])}\n{again}",
        environment={
            "EXECUTION_LOGGER_BATCHSIZE": "7",
            "EXECUTION_LOGGER_XYZZY": "1",
            "EXECUTION_LOGGER_SERVICE_DIRECTORY": str(tmp_path),
            "DATABASE_URL": DATABASE_URL,
            **KUBERNETES,
        },
    )
    no_setting = "is set, and there is no such setting;"
    assert printed.splitlines() == [
        f"EXECUTION_LOGGER_BATCHSIZE {no_setting} did you mean EXECUTION_LOGGER_BATCH_SIZE?",
        f"EXECUTION_LOGGER_XYZZY {no_setting} `execution-logger config` lists all",
        "started",
    ]


def test_who_needs_the_database_hears_why_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that a host has passed over is still what the others have to hear of."""
    monkeypatch.setenv("DATABASE_URL", "file:./dev.db")
    settings = Settings.from_environment()
    with pytest.raises(SettingsError, match=r"^DATABASE_URL=\(hidden\): must be a URL such as postgresql"):
        settings.require_database("status")


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
        "EXECUTION_LOGGER_SCHEDULE_REPORT": "that it was one is no reason to mean another",
    }  # fmt: skip
    assert unknown_variables(environ) == {
        "EXECUTION_LOGGER_SCHEDULE_REPORT": None,
        "EXECUTION_LOGGER_BATCHSIZE": "EXECUTION_LOGGER_BATCH_SIZE",
        "EXECUTION_LOGGER_XYZZY": None,
        "execution_logger_table": "EXECUTION_LOGGER_TABLE",
    }


def test_a_decision_is_told_from_a_default() -> None:
    """By either name of the variable; an empty one is no decision."""
    assert is_set("time_zone", {"EXECUTION_LOGGER_TIME_ZONE": "UTC"})
    assert is_set("broker_url", {"CELERY_BROKER_URL": "redis://localhost:6379/0"})
    assert not is_set("time_zone", {"EXECUTION_LOGGER_TIME_ZONE": " "})
