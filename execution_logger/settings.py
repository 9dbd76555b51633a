"""Every setting: its name, type, unit, default and meaning, read from the environment once.

A setting `batch_size` is read from `EXECUTION_LOGGER_BATCH_SIZE`. Settings that Celery
hosts already have under another name (`CELERY_BROKER_URL`, `DATABASE_URL`, ...) are read
from that name when ours is absent; as they may be meant for somebody else, they are
checked by who uses them only.
"""

import logging
import os
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from execution_logger.diagnostics import report
from execution_logger.errors import SettingsError
from execution_logger.levels import LEVELS, known_level
from execution_logger.text import HIDDEN, each_url, public_url
from execution_logger.urls import DATABASE_EXAMPLES, broker_problem, database_problem, results_problem

_ALLOWED = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}


def accepts(hint: Any, value: object) -> bool:
    """Whether a value is of the type; a whole number is also one with a fraction, a bool is neither."""
    if typing.get_origin(hint) is Literal:
        return isinstance(value, str) and value in typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(isinstance(word, str) for word in value)
    if kinds := typing.get_args(hint):
        return any(accepts(kind, value) for kind in kinds)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    if hint is float:
        return isinstance(value, int) or (isinstance(value, float) and isfinite(value))
    return isinstance(value, hint)


def allowed(hint: Any) -> str:
    """What to tell somebody whose value is not accepted."""
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(typing.get_args(hint))}"
    if typing.get_origin(hint) is tuple:
        return "a tuple of texts"
    return " or ".join(_ALLOWED.get(kind, "None") for kind in typing.get_args(hint) or (hint,))


def parsed(hint: Any, text: str) -> Any:
    """The value that a variable's text stands for.

    Raises:
        ValueError: saying what is allowed.
    """
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if typing.get_origin(hint) is tuple:
        return tuple(word.strip() for word in text.split(",") if word.strip())
    if typing.get_origin(hint) is Literal:
        return text.lower()
    kind = kinds[0] if kinds else hint
    try:
        return _PARSERS.get(kind, str)(text)
    except (KeyError, ValueError):
        raise ValueError(f"must be {_ALLOWED[kind]}") from None


def written(value: object) -> str:
    """The text that stands for a value; "" for None, as an empty variable is an unset one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


_BOOLS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}

_PARSERS: Mapping[Any, Callable[[str], Any]] = {
    bool: lambda text: _BOOLS[text.lower()],
    int: int,
    float: float,
}


PREFIX = "EXECUTION_LOGGER_"
DEFAULT_BROKER_URL = "redis://localhost:6379/0"

NOTHING: frozenset[str] = frozenset()
BROKER = frozenset({"broker_url", "result_backend"})
DATABASE = frozenset({"database_url"})
WORKER = BROKER | DATABASE | {"task_track_started", "task_time_limit", "task_soft_time_limit"}
"""What a process uses of the settings that hosts have under names of their own."""

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SIMILAR = 0.7
_TABLE = re.compile(r"\w+(\.\w+)?")
_MOST_DAYS = 36_500
_LAST_PORT = 65_535
_QUOTES = "\"'"

# What Kubernetes sets in every pod for each Service, and Docker for each link: a Service that is called
# `execution-logger-metrics` would be taken for our METRICS_PORT.
_PLATFORM_NAME = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+)+_(TCP|UDP|SCTP)(_\w+)?|ENV_\w+)$", re.IGNORECASE
)
_PLATFORM_VALUES = {
    "_PORT": re.compile(r"(tcp|udp|sctp)://\S+:\d+$"),
    "_NAME": re.compile(r"/[\w.-]+/[\w.-]+$"),
}

SENSITIVE_KEYS = (
    "password", "passwd", "pwd", "secret", "token", "api_key", "access_key", "private_key",
    "authorization", "cookie", "credential", "passphrase", "jwt", "bearer", "session_id", "sessid",
    "connect_sid", "dsn", "signature",
)  # fmt: skip
"""Words that make a key sensitive wherever they stand in it; case, `_` and `-` do not matter."""


def _setting(
    default: Any,
    meaning: str,
    *,
    alias: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    rule: tuple[Callable[[str], object], str] | None = None,
    secret: bool = False,
) -> Any:
    limits = {"minimum": minimum, "maximum": maximum, "rule": rule}
    metadata = {"meaning": meaning, "alias": alias, "secret": secret, **limits}
    return field(default=default, repr=not secret, metadata=metadata)


# A file of the time zone database (RFC 9636): no transitions, one type of local time, offset 0.
_UTC_FILE = b"TZif" + bytes(35) + b"\x01" + bytes(3) + b"\x04" + bytes(6) + b"UTC\0"


def time_zone(name: str) -> ZoneInfo:
    """The time zone of that name; UTC also where there is no time zone database.

    Small images, Windows and frozen programs have none.

    Raises:
        KeyError, ValueError, OSError: there is no such zone.
    """
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        if name != "UTC":
            raise
        return ZoneInfo.from_file(BytesIO(_UTC_FILE), key="UTC")


def _is_zone(name: str) -> bool:
    try:
        time_zone(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


_ZONE = (
    _is_zone,
    "must be a time zone's name such as Asia/Shanghai; Python without a time zone database needs tzdata",
)


def _are_levels(words: Any) -> bool:
    pairs = [word.rpartition("=") for word in words]
    has_categories = all(category.strip() or not mark for category, mark, _ in pairs)
    return has_categories and all(known_level(level.strip()) in LEVELS for _, _, level in pairs)


_LEVELS_OF = (
    _are_levels,
    "must be a level, and category=level for others, separated by commas; levels are " + ", ".join(LEVELS),
)


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

    # The volume
    level: tuple[str, ...] = _setting(
        ("debug",),
        "The least grave level that is recorded, and those of categories: info,tool=warning.",
        rule=_LEVELS_OF,
    )
    debug_share: float = _setting(
        1.0,
        "Share of the runs whose debug entries are recorded, chosen by task_id: the same in every process.",
        minimum=0,
        maximum=1,
    )
    run_max_entries: int = _setting(
        0, "Most debug and info entries of a run that a process records; 0: no limit.", minimum=0
    )

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
    queue: str = _setting("logs", "The queue that batches go to.", rule=(str.strip, "must not be empty"))
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
    table: str = _setting(
        "execution_logs",
        "The table that entries are written to.",
        rule=(_TABLE.fullmatch, "must be a table's name, with or without its schema"),
    )
    time_zone: str = _setting(
        "UTC",
        "The time zone that a created_at column without time zone holds, e.g. Asia/Shanghai.",
        rule=_ZONE,
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
        0,
        "The port at which the worker shows its metrics to Prometheus; 0: none.",
        minimum=0,
        maximum=_LAST_PORT,
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
    retention_days: int | None = _setting(
        None,
        "Days after which entries are deleted, once a day; 0 keeps them for ever. "
        "Default: 90 for a table that `db upgrade` has made, 0 for others.",
        minimum=0,
        maximum=_MOST_DAYS,
    )
    schedule_health: str = _setting("*/5 * * * *", "When the health is checked, as in a crontab, or off.")
    schedule_statistics: str = _setting("7 * * * *", "When the hours that are over are counted, or off.")
    schedule_retention: str = _setting("17 3 * * *", "When old entries are deleted, or off.")
    schedule_time_zone: str = _setting(
        "UTC", "The time zone of the three schedules, e.g. Asia/Shanghai.", rule=_ZONE
    )

    # The machine
    service_directory: str | None = _setting(
        None,
        "Where Beat keeps its lock, and supervisord socket and logs. Default: in the user's state directory.",
    )

    def __post_init__(self) -> None:
        values = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        wrong = {setting.name: _problem(setting, values[setting.name]) for setting in fields(self)}
        problems = [*filter(None, wrong.values()), *_problems_between(values, wrong)]
        if problems:
            raise SettingsError("; ".join(problems))
        for name in ("journal_directory", "service_directory"):
            object.__setattr__(self, name, _absolute(values[name]))
        object.__setattr__(self, "database_url", _with_absolute_file(values["database_url"]))

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] = os.environ, *, uses: Collection[str] | None = None
    ) -> Self:
        """Read every setting that `environ` names; the others keep their defaults.

        Names in the environment of the process that are misspelt are a WARNING, once.

        Args:
            environ: the variables.
            uses: which of the settings that hosts have under names of their own this process uses,
                e.g. `BROKER | DATABASE`; by default, what a host needs that delivers as the settings say.
                A value of the others that cannot be used is passed over: it may be meant for somebody else.

        Raises:
            SettingsError: naming every variable that cannot be used, its value and what is allowed.
        """
        if environ is os.environ:
            _warn_of_unknown_variables()
        if problems := problems_in(environ, uses):
            raise SettingsError("; ".join(problems))
        return cls(**_values(_read_all(environ)))

    def require_database(self, who: str) -> str:
        """Return the database's URL; raise SettingsError when there is none."""
        if not self.database_url:
            raise SettingsError(why_no_database(who))
        return self.database_url


def why_no_database(who: str, environ: Mapping[str, str] = os.environ) -> str:
    """What to tell somebody who needs the database where settings name none that can be used."""
    problem = _read(_setting_of("database_url"), environ).problem
    return problem or f"DATABASE_URL is not set: {who} needs it, e.g. {DATABASE_EXAMPLES.partition(' or')[0]}"


def problems_in(environ: Mapping[str, str], uses: Collection[str] | None = None) -> list[str]:
    """What `Settings.from_environment` raises, one by one."""
    read = _read_all(environ)
    values = {setting.name: setting.default for setting in fields(Settings)} | _values(read)
    used = _used_by_host(values) if uses is None else set(uses)
    if values["confirmation"] == "off":
        used.discard("result_backend")
    wrong = {name: each.problem for name, each in read.items()}
    problems = [problem for name, problem in wrong.items() if problem and name not in WORKER - used]
    problems += _problems_between(values, wrong)
    has_database = wrong["database_url"] or values["database_url"]
    if uses is None and not has_database and (who := _who_writes(values)):
        problems.append(why_no_database(who, {}))
    return problems


def variable_of(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """The variable that a setting is read from; where none is set, the one that people know."""
    setting = _setting_of(name)
    variable, text = _lookup(setting, environ)
    return variable if text is not None else setting.metadata["alias"] or variable


def platform_variables(environ: Mapping[str, str]) -> list[str]:
    """Variables that Kubernetes or Docker has made for some service; their names say nothing to us."""
    return [name for name, value in environ.items() if _is_of_platform(name, value)]


def describe() -> list[tuple[str, str, str]]:
    """Every setting as (variable, default, meaning), in order: what the table of docs/SETTINGS.md shows."""
    rows = []
    for setting in fields(Settings):
        names = " / ".join(n for n in (_variable(setting), setting.metadata["alias"]) if n)
        rows.append((names, written(setting.default), setting.metadata["meaning"]))
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


_NO_LONGER_USED = ("REPORT_HOOK", "SCHEDULE_REPORT")
"""Nothing that is similar is meant."""


def unknown_variables(environ: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """Variables that look like settings and are none, each with the one that may be meant.

    They have no effect, and nobody else would say so. An empty one is an unset one.
    """
    known = {setting.name.upper() for setting in fields(Settings)}
    found: dict[str, str | None] = {}
    for variable in sorted(environ):
        name = variable.upper().removeprefix(PREFIX)
        is_given = environ[variable].strip() and not _is_of_platform(variable, environ[variable])
        is_ours = is_given and variable.upper().startswith(PREFIX)
        if is_ours and variable.removeprefix(PREFIX) not in known:
            close = name not in _NO_LONGER_USED and get_close_matches(name, known, n=1, cutoff=_SIMILAR)
            found[variable] = PREFIX + close[0] if close else None
    return found


def is_set(name: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a variable of this setting has a value, as opposed to the default."""
    return _lookup(_setting_of(name), environ)[1] is not None


def _effective(setting: "Field[Any]", environ: Mapping[str, str]) -> EffectiveSetting:
    read = _read(setting, environ)
    is_secret = setting.metadata["secret"]
    shown = _without_secrets(read.value) if is_secret else written(read.value)
    return EffectiveSetting(setting.name, read.variable, shown, read.problem)


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read for a setting: a value, its text when that is none, or the default."""

    variable: str | None
    value: Any
    problem: str | None


def _read(setting: "Field[Any]", environ: Mapping[str, str]) -> _Read:
    variable, text = _lookup(setting, environ)
    if text is None:
        return _Read(None, setting.default, None)
    problem: str | None
    try:
        value = parsed(_hint(setting.name), text)
    except ValueError as error:
        value, problem = text, f"{variable}={_shown(setting, text)}: {error}"
    else:
        problem = _problem(setting, value, variable) or _unusable(setting, value, variable)
    if problem and (text[0] in _QUOTES or text[-1] in _QUOTES):
        problem += "; a quotation mark is part of the value"
    return _Read(variable, value, problem)


def _read_all(environ: Mapping[str, str]) -> dict[str, _Read]:
    return {setting.name: _read(setting, environ) for setting in fields(Settings)}


def _values(read: Mapping[str, _Read]) -> dict[str, Any]:
    """Those that can be used."""
    return {name: each.value for name, each in read.items() if each.variable and not each.problem}


def _used_by_host(values: Mapping[str, Any]) -> set[str]:
    broker = BROKER if values["celery_enabled"] else NOTHING
    return set(broker | (DATABASE if _who_writes(values) else NOTHING))


def _who_writes(values: Mapping[str, Any]) -> str | None:
    """The setting with which a host writes to the database itself."""
    if not values["celery_enabled"]:
        return "CELERY_ENABLED=false"
    return "FALLBACK=direct" if values["fallback"] == "direct" else None


def _unusable(setting: "Field[Any]", url: Any, variable: str) -> str | None:
    problem = None
    if setting.name == "broker_url":
        problem = broker_problem(url)
    elif setting.name == "result_backend":
        problem = results_problem(url, is_ours=variable.startswith(PREFIX))
    elif setting.name == "database_url":
        problem = database_problem(url)
    return f"{variable}={HIDDEN}: {problem}" if problem else None


@cache
def _warn_of_unknown_variables() -> None:
    for name, meant in unknown_variables().items():
        hint = f"did you mean {meant}?" if meant else "`execution-logger config` lists all"
        report(logging.WARNING, "%s is set, and there is no such setting; %s", name, hint)


def _without_secrets(url: str | None) -> str:
    """The URL for people to read; nothing of one whose parts cannot be told apart."""
    if url is None:
        return ""
    return public_url(url, user="***@") if all(map(_is_whole, each_url(url))) else HIDDEN


def _is_whole(url: str) -> bool:
    """Whether what stands where the port is may be one, and is not a part of the password."""
    try:
        return _is_url(url) and urlsplit(url).port != -1 and "#" not in url
    except ValueError:
        return False


def _problem(setting: "Field[Any]", value: Any, variable: str | None = None) -> str | None:
    name = f"{variable or _variable(setting)}={_shown(setting, value)}"
    if not accepts(hint := _hint(setting.name), value):
        return f"{name}: must be {allowed(hint)}"
    if value is None:
        return None
    minimum, maximum, rule = (setting.metadata[each] for each in ("minimum", "maximum", "rule"))
    if minimum is not None and value < minimum:
        return f"{name}: must be at least {minimum:g}"
    if maximum is not None and value > maximum:
        return f"{name}: must be at most {maximum}"
    if rule is not None and not rule[0](value):
        return f"{name}: {rule[1]}"
    if setting.name.endswith("_url") and not _is_url(value):
        hint = "characters such as [ and # in a password are percent-encoded"
        return f"{name}: must be a URL such as {_example(setting)}; {hint}"
    return None


_AT_MOST: tuple[tuple[str, str, str], ...] = (
    ("max_entry_bytes", "max_batch_bytes", "must not exceed "),
    ("max_entry_bytes", "buffer_max_bytes", "must not exceed "),
    ("batch_size", "max_batch_entries", "must not exceed "),
    ("database_timeout_seconds", "visibility_timeout_seconds", "must be at most half of "),
)


def _problems_between(values: Mapping[str, Any], wrong: Mapping[str, str | None]) -> Iterator[str]:
    """What does not go together, of values that can be used by themselves."""
    for name, limit, rule in _AT_MOST:
        share = 2 if "half" in rule else 1
        if not (wrong[name] or wrong[limit]) and values[name] * share > values[limit]:
            variable = f"{PREFIX}{name.upper()}={written(values[name])}"
            yield f"{variable}: {rule}{PREFIX}{limit.upper()}={written(values[limit])}"


def _absolute(path: str | None) -> str | None:
    """Where it leads now: the process may change its folder later, and others of it must find the same."""
    with suppress(RuntimeError, OSError):  # no home directory, or no current one: said where it is used
        return path and str(Path(path).expanduser().absolute())
    return path


_SQLITE_FILE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:|file:)([^?]+)", re.IGNORECASE)


def _with_absolute_file(url: str | None) -> str | None:
    """A URL of SQLite's with the file that it names now, for the same reason."""
    if (found := _SQLITE_FILE.match(url or "")) is not None:
        with suppress(OSError):
            return f"{found[1]}{Path(found[2]).absolute()}{found.string[found.end() :]}"
    return url


def _variable(setting: "Field[Any]") -> str:
    return PREFIX + setting.name.upper()


def _lookup(setting: "Field[Any]", environ: Mapping[str, str]) -> tuple[str, str | None]:
    for variable in (_variable(setting), setting.metadata["alias"]):
        # An empty variable is an unset one: docker-compose passes `${NAME:-}` that way.
        text = environ.get(variable, "") if variable else ""
        if (text := _unquoted(text)) and not _is_of_platform(variable, text):
            return variable, text
    return _variable(setting), None


def _unquoted(text: str) -> str:
    """Without the quotation marks around it: a shell takes them away, `docker run --env-file` does not."""
    text = text.strip()
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES
    return text[1:-1].strip() if is_quoted else text


def _is_of_platform(variable: str, text: str) -> bool:
    if _PLATFORM_NAME.search(variable):
        return True
    value = _PLATFORM_VALUES.get(variable[-5:])
    return value is not None and bool(value.match(text.strip()))


def _setting_of(name: str) -> "Field[Any]":
    return next(setting for setting in fields(Settings) if setting.name == name)


def _shown(setting: "Field[Any]", value: object) -> str:
    return HIDDEN if setting.metadata["secret"] else repr(value)


def _is_url(value: str) -> bool:
    try:
        return bool(_URL.match(value) and urlsplit(value))
    except ValueError:  # "Invalid IPv6 URL": a stray bracket
        return False


def _example(setting: "Field[Any]") -> str:
    return (
        "redis://localhost:6379/0"
        if setting.name == "broker_url"
        else "postgresql://user@host/database or sqlite:///file"
    )


@cache
def _hint(name: str) -> Any:
    return typing.get_type_hints(Settings)[name]
