"""Every setting: its name, type, unit, default and meaning, read from the environment once.

A setting `batch_size` is read from `EXECUTION_LOGGER_BATCH_SIZE`. Settings that Celery
hosts already have under another name (`CELERY_BROKER_URL`, `DATABASE_URL`, ...) are read
from that name when ours is absent.
"""

import os
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from execution_logger import hints
from execution_logger.errors import SettingsError

PREFIX = "EXECUTION_LOGGER_"
DEFAULT_BROKER_URL = "redis://localhost:6379/0"

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SIMILAR = 0.7
_SECRETS = re.compile(r"(//).*@")
_TABLE = re.compile(r"\w+(\.\w+)?")
_MOST_DAYS = 36_500
_HOOK = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")

_LAST_PORT = 65_535

SENSITIVE_KEYS = (
    "password", "passwd", "pwd", "secret", "token", "api_key", "access_key", "private_key",
    "authorization", "cookie", "credential",
)  # fmt: skip
"""Words that make a key sensitive wherever they stand in it; case, `_` and `-` do not matter."""


def _setting(
    default: Any,
    meaning: str,
    *,
    alias: str | None = None,
    minimum: float | None = None,
    secret: bool = False,
) -> Any:
    metadata = {"meaning": meaning, "alias": alias, "minimum": minimum, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One frozen object with every setting; `from_environment()` reads it, tests construct it.

    Raises:
        SettingsError: naming every variable that cannot be used, its value and what is allowed.
    """

    # The entry
    max_entry_bytes: int = _setting(
        262_144, "Largest encoded entry in bytes; longer texts are cut and marked.", minimum=1024
    )
    sensitive_keys: tuple[str, ...] = _setting(
        SENSITIVE_KEYS,
        "Words, separated by commas; a value in details is masked when its key contains one.",
    )
    language: Literal["zh", "en"] = _setting("zh", "Language of the texts of timed_operation.")

    # The buffer and the shipper
    batch_size: int = _setting(50, "Entries that start a delivery at once.", minimum=1)
    flush_interval_seconds: float = _setting(
        2.0, "Seconds after the first waiting entry at which a smaller batch is delivered.", minimum=0.001
    )
    max_batch_entries: int = _setting(1000, "Most entries in one message after a jam.", minimum=1)
    max_batch_bytes: int = _setting(1_048_576, "Most bytes in one message.", minimum=1024)
    buffer_max_entries: int = _setting(100_000, "Most entries held in memory.", minimum=1)
    buffer_max_bytes: int = _setting(67_108_864, "Most bytes of entries held in memory.", minimum=1024)
    retry_pause_max_seconds: float = _setting(
        30.0, "Longest pause between two attempts to deliver; pauses grow from 0.5 s.", minimum=0.01
    )
    flush_timeout_seconds: float = _setting(5.0, "How long flush() waits at most.", minimum=0)
    shutdown_timeout_seconds: float = _setting(10.0, "How long shutdown() waits at most.", minimum=0)

    # The journal
    journal: bool = _setting(
        True, "Keep each entry on disk until it is stored; false: entries are in memory only."
    )
    journal_directory: str | None = _setting(
        None, "Where; a local disk, in containers a volume. Default: the user's state directory."
    )
    journal_max_bytes: int = _setting(
        1_073_741_824, "Most bytes that a process keeps on disk.", minimum=1_048_576
    )
    journal_fsync: bool = _setting(
        False, "Let each call wait until the disk has its entry: a power failure loses nothing either."
    )
    adopt_interval_seconds: float = _setting(
        10.0, "How often a process looks for entries that a dead one has left on disk.", minimum=0.1
    )

    # The delivery
    celery_enabled: bool = _setting(
        True,
        "false: no Celery, the process writes its batches to the database itself.",
        alias="CELERY_ENABLED",
    )
    broker_url: str = _setting(
        DEFAULT_BROKER_URL,
        "The Celery broker: redis://, rediss://, sentinel://, or embedded:///folder (no server, for trying "
        "out).",
        alias="CELERY_BROKER_URL",
        secret=True,
    )
    sentinel_master_name: str | None = _setting(
        None, "What the Sentinels of a sentinel:// broker or result backend call the Redis, e.g. mymaster."
    )
    sentinel_password: str | None = _setting(
        None, "The Sentinels' own password; that of the Redis is in the URL.", secret=True
    )
    queue: str = _setting("logs", "The queue that batches go to.")
    queue_max_messages: int = _setting(
        10_000, "Batches in the queue at which sending is held back, to keep the broker usable.", minimum=1
    )
    confirmation: Literal["auto", "off"] = _setting(
        "auto",
        "auto: keep each batch until the worker has stored it, where there is a result backend; "
        "off: until the broker has taken it.",
    )
    confirmation_expires_seconds: int = _setting(
        3600, "How long the worker's confirmation of a batch can be read.", minimum=60
    )
    fallback: Literal["keep", "direct"] = _setting(
        "keep", "When the broker is away: keep the entries and wait, or write them to the database directly."
    )

    # The database
    database_url: str | None = _setting(
        None,
        "postgresql://user:password@host/database or sqlite:///file.",
        alias="DATABASE_URL",
        secret=True,
    )
    table: str = _setting("execution_logs", "The table that entries are written to.")
    time_zone: str = _setting(
        "UTC", "The time zone that a created_at column without time zone holds, e.g. Asia/Shanghai."
    )
    database_timeout_seconds: float = _setting(
        10.0, "Longest single attempt to write a batch to the database.", minimum=0.1
    )

    # The worker
    worker_pool: Literal["threads", "prefork", "solo"] = _setting("threads", "The worker's pool.")
    worker_concurrency: int = _setting(
        4, "Batches that a worker writes at once; also its database connections.", minimum=1
    )
    visibility_timeout_seconds: int = _setting(
        60, "Seconds after which a batch of a killed worker goes to another one.", minimum=10
    )
    result_backend: str | None = _setting(
        None,
        "Celery's result backend, for the confirmations: a Redis. Default: the broker, if that is one.",
        alias="CELERY_RESULT_BACKEND",
        secret=True,
    )
    metrics_port: int = _setting(
        0, "The port at which the worker shows its metrics to Prometheus; 0: none.", minimum=0
    )
    metrics_address: str = _setting(
        "127.0.0.1", "The address of that port; in a container 0.0.0.0. There is no password."
    )
    task_track_started: bool = _setting(
        False, "Celery's task_track_started.", alias="CELERY_TASK_TRACK_STARTED"
    )
    task_time_limit: float | None = _setting(
        None, "Celery's task_time_limit in seconds (prefork).", alias="CELERY_TASK_TIME_LIMIT", minimum=1
    )
    task_soft_time_limit: float | None = _setting(
        None,
        "Celery's task_soft_time_limit in seconds (prefork).",
        alias="CELERY_TASK_SOFT_TIME_LIMIT",
        minimum=1,
    )

    # The schedules
    retention_days: int = _setting(
        90, "Days after which entries are deleted, once a day; 0 keeps them for ever.", minimum=0
    )
    schedule_health: str = _setting("*/5 * * * *", "When the health is checked, as in a crontab, or off.")
    schedule_statistics: str = _setting("7 * * * *", "When the hours that are over are counted, or off.")
    schedule_retention: str = _setting("17 3 * * *", "When old entries are deleted, or off.")
    schedule_report: str = _setting("30 6 * * mon", "When the report of the week is made, or off.")
    schedule_time_zone: str = _setting("UTC", "The time zone of the four schedules, e.g. Asia/Shanghai.")
    report_hook: str | None = _setting(
        None, "What the report is handed to, as module:function of the worker's. Default: the worker's log."
    )

    # The machine
    service_directory: str | None = _setting(
        None,
        "Where Beat and `execution-logger manage` keep locks, records and logs. "
        "Default: in the user's state directory.",
    )

    def __post_init__(self) -> None:
        problems = [
            problem for setting in fields(self) if (problem := _problem(setting, getattr(self, setting.name)))
        ]
        problems = problems or self._problems_between()
        if problems:
            raise SettingsError("; ".join(problems))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read every setting that `environ` names; the others keep their defaults."""
        values: dict[str, Any] = {}
        problems: list[str] = []
        for setting in fields(cls):
            variable, text = _lookup(setting, environ)
            if text is None:
                continue
            try:
                values[setting.name] = hints.parsed(_hint(setting.name), text)
            except ValueError as error:
                problems.append(f"{variable}={_shown(setting, text)}: {error}")
        try:
            settings = cls(**values)
        except SettingsError as error:
            problems.append(str(error))
        if problems:
            raise SettingsError("; ".join(problems))
        return settings

    def require_database(self, who: str) -> str:
        """Return the database's URL; raise SettingsError when there is none."""
        if not self.database_url:
            raise SettingsError(
                f"DATABASE_URL is not set: {who} needs it, e.g. postgresql://user:password@host/database"
            )
        return self.database_url

    def _problems_between(self) -> list[str]:
        problems = []
        if not _TABLE.fullmatch(self.table):
            problems.append(
                f"{PREFIX}TABLE={self.table!r}: must be a table's name, with or without its schema"
            )
        if not self.queue.strip():
            problems.append(f"{PREFIX}QUEUE={self.queue!r}: must not be empty")
        problems += self._problems_of_sizes()
        if self.database_url is None and (not self.celery_enabled or self.fallback == "direct"):
            who = "FALLBACK=direct" if self.celery_enabled else "CELERY_ENABLED=false"
            problems.append(
                f"DATABASE_URL is not set: {who} needs it, e.g. postgresql://user:password@host/database"
            )
        if self.database_timeout_seconds * 2 > self.visibility_timeout_seconds:
            problems.append(
                f"{PREFIX}DATABASE_TIMEOUT_SECONDS={self.database_timeout_seconds:g}: must be at most half "
                f"of {PREFIX}VISIBILITY_TIMEOUT_SECONDS={self.visibility_timeout_seconds}"
            )
        problems += [self._zone_problem(name) for name in ("time_zone", "schedule_time_zone")]
        if self.report_hook is not None and not _HOOK.fullmatch(self.report_hook):
            problems.append(
                f"{PREFIX}REPORT_HOOK={self.report_hook!r}: must be written as module:function, "
                "e.g. myapp.reports:send"
            )
        return list(filter(None, problems))

    def _problems_of_sizes(self) -> Iterator[str]:
        pairs = (
            ("max_entry_bytes", "max_batch_bytes"),
            ("max_entry_bytes", "buffer_max_bytes"),
            ("batch_size", "max_batch_entries"),
        )
        for name, limit in pairs:
            value, most = getattr(self, name), getattr(self, limit)
            if value > most:
                yield f"{PREFIX}{name.upper()}={value}: must not exceed {PREFIX}{limit.upper()}={most}"
        for name, most in (("metrics_port", _LAST_PORT), ("retention_days", _MOST_DAYS)):
            if (value := getattr(self, name)) > most:
                yield f"{PREFIX}{name.upper()}={value}: must be at most {most}"

    def _zone_problem(self, name: str) -> str:
        zone = getattr(self, name)
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            return f"{PREFIX}{name.upper()}={zone!r}: must be a time zone's name such as Asia/Shanghai"
        return ""


def describe() -> list[tuple[str, str, str]]:
    """Every setting as (variable, default, meaning), in order: what the README's table shows."""
    rows = []
    for setting in fields(Settings):
        names = " / ".join(n for n in (_variable(setting), setting.metadata["alias"]) if n)
        rows.append((names, hints.written(setting.default), setting.metadata["meaning"]))
    return rows


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """A setting as an environment has it.

    Attributes:
        name: of the attribute of `Settings`.
        variable: where it was read; None for a default.
        value: as text, "" for None; of a URL without user, password and parameters.
        problem: why the value cannot be used, None when it can.
    """

    name: str
    variable: str | None
    value: str
    problem: str | None


def effective(environ: Mapping[str, str] = os.environ) -> list[EffectiveSetting]:
    """Every setting as `environ` has it, in order; wrong values are told and not raised.

    What is wrong between several settings is not told here: `Settings.from_environment` raises it.
    """
    return [_effective(setting, environ) for setting in fields(Settings)]


def unknown_variables(environ: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """Variables that look like settings and are none, each with the one that may be meant.

    They have no effect, and nobody else would say so. An empty one is an unset one.
    """
    known = {setting.name.upper() for setting in fields(Settings)}
    found: dict[str, str | None] = {}
    for variable in sorted(environ):
        name = variable.upper().removeprefix(PREFIX)
        is_ours = variable.upper().startswith(PREFIX) and environ[variable].strip()
        if is_ours and variable.removeprefix(PREFIX) not in known:
            close = get_close_matches(name, known, n=1, cutoff=_SIMILAR)
            found[variable] = PREFIX + close[0] if close else None
    return found


def is_set(name: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a variable of this setting has a value, as opposed to the default."""
    setting = next(setting for setting in fields(Settings) if setting.name == name)
    return _lookup(setting, environ)[1] is not None


def _effective(setting: "Field[Any]", environ: Mapping[str, str]) -> EffectiveSetting:
    variable, text = _lookup(setting, environ)
    value: Any = setting.default
    problem = None
    if text is not None:
        try:
            value = hints.parsed(_hint(setting.name), text)
            problem = _problem(setting, value)
        except ValueError as error:
            value, problem = text, f"{variable}={_shown(setting, text)}: {error}"
    shown = _without_secrets(value, problem) if setting.metadata["secret"] else hints.written(value)
    return EffectiveSetting(setting.name, variable if text is not None else None, shown, problem)


def _without_secrets(url: str | None, problem: str | None) -> str:
    """The URL for people to read; nothing of one whose parts cannot be told apart."""
    if url is None:
        return ""
    if problem is not None or not all(map(_is_whole, url.split(";"))):
        return "(hidden)"
    return ";".join(_SECRETS.sub(r"\1***@", each).partition("?")[0] for each in url.split(";"))


def _is_whole(url: str) -> bool:
    """Whether what stands where the port is may be one, and is not a part of the password."""
    try:
        return _is_url(url) and urlsplit(url).port != -1 and "#" not in url
    except ValueError:
        return False


def _problem(setting: "Field[Any]", value: object) -> str | None:
    name = f"{_variable(setting)}={_shown(setting, value)}"
    if not hints.accepts(hint := _hint(setting.name), value):
        return f"{name}: must be {hints.allowed(hint)}"
    minimum = setting.metadata["minimum"]
    if minimum is not None and isinstance(value, int | float) and value < minimum:
        return f"{name}: must be at least {minimum:g}"
    if setting.name.endswith("_url") and isinstance(value, str) and not _is_url(value):
        hint = "characters such as [ and # in a password are percent-encoded"
        return f"{name}: must be a URL such as {_example(setting)}; {hint}"
    return None


def _variable(setting: "Field[Any]") -> str:
    return PREFIX + setting.name.upper()


def _lookup(setting: "Field[Any]", environ: Mapping[str, str]) -> tuple[str, str | None]:
    for variable in (_variable(setting), setting.metadata["alias"]):
        # An empty variable is an unset one: docker-compose passes `${NAME:-}` that way.
        if variable and environ.get(variable, "").strip():
            return variable, environ[variable].strip()
    return _variable(setting), None


def _shown(setting: "Field[Any]", value: object) -> str:
    return "(hidden)" if setting.metadata["secret"] else repr(value)


def _is_url(value: str) -> bool:
    try:
        return bool(_URL.match(value) and urlsplit(value))
    except ValueError:  # "Invalid IPv6 URL": a stray bracket
        return False


def _example(setting: "Field[Any]") -> str:
    return "redis://localhost:6379/0" if setting.name == "broker_url" else "postgresql://user@host/database"


@cache
def _hint(name: str) -> Any:
    return typing.get_type_hints(Settings)[name]
