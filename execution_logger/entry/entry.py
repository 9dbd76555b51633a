"""The log entry: what a call records and what a row holds."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from execution_logger.levels import known_level

IDENTIFIERS = ("task_id", "level", "category", "step", "agent_name", "roadmap_id", "concept_id")
"""The fields that hold short texts, which are looked up and counted."""

REQUIRED = ("task_id", "level", "category")
"""Those of them that are never None."""

TREE = ("operation_id", "parent_id", "trace_id", "span_id")
"""The fields that tell an entry's place in the tree of its run, and in an OpenTelemetry trace."""

TreeIds = tuple[str | None, str | None, str | None, str | None]
"""Their values: two UUIDs, and 32 and 16 hexadecimal digits."""

NO_TREE: TreeIds = (None, None, None, None)

MAX_IDENTIFIER_CHARS = 512
"""Longest `task_id`, `step` and so on: at most 2,048 bytes, and a PostgreSQL index takes 2,704."""

MAX_DURATION_MS = 2**31 - 1
"""The column is a 32-bit integer, in the hosts' tables too: 24.8 days."""


class LogLevel(StrEnum):
    """The usual levels, from the least to the gravest; members are equal to their strings.

    Any other string is one too, whose place among these nobody knows. `LogLevel("WARN")` is `WARNING`.
    """

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @classmethod
    def _missing_(cls, value: object) -> "LogLevel | None":
        known = known_level(value)
        return None if known is value else cls(known)


ERRORS = (LogLevel.ERROR, LogLevel.CRITICAL)
"""The levels of what has failed."""


class LogCategory(StrEnum):
    """The usual categories; members are equal to their strings, and any other string is one too."""

    WORKFLOW = "workflow"
    AGENT = "agent"
    TOOL = "tool"
    DATABASE = "database"
    API = "api"
    RETRY = "retry"


# Dashboards of existing hosts match on the Chinese texts: they are part of the API.
OPERATION_TEXTS: Mapping[str, Mapping[str, str]] = {
    "zh": {"started": "{} 开始", "completed": "{} 完成", "cancelled": "{} 已取消", "failed": "{} 失败: {}"},
    "en": {
        "started": "{} started",
        "completed": "{} completed",
        "cancelled": "{} cancelled",
        "failed": "{} failed: {}",
    },
}
"""The messages of the entries that begin and end an operation, by language, with its name in place."""

RUN_STATE = "run_state"
"""The key, in the details of the entries that begin and end a run, of its state."""


class RunState(StrEnum):
    """What the entries that begin and end a run say of it; the last one is what nobody has said."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NO_END = "no end recorded"


ENDED = (RunState.DONE, RunState.FAILED, RunState.CANCELLED)
"""The states of a run that has ended."""


class LogEntry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One record, as it is stored: masked, cut and made safe already.

    `id` is a UUIDv7 and the row's primary key; `created_at` is UTC and later than that of every
    entry the process recorded before; `details` is a copy of what the caller passed.

    `operation_id` is the operation's that this entry begins or ends; `parent_id` that of the operation
    within which it was recorded. `trace_id` and `span_id` are those of the OpenTelemetry span that was
    active, if any.
    """

    id: str
    created_at: datetime
    task_id: str
    level: str
    category: str
    message: str
    step: str | None = None
    agent_name: str | None = None
    roadmap_id: str | None = None
    concept_id: str | None = None
    details: dict[str, Any] | None = None
    duration_ms: int | None = None
    operation_id: str | None = None
    parent_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
