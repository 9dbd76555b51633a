"""The log entry: what a call records and what a row holds."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

IDENTIFIERS = ("task_id", "level", "category", "step", "agent_name", "roadmap_id", "concept_id")
"""The fields that hold short texts, which are looked up and counted."""

REQUIRED = ("task_id", "level", "category")
"""Those of them that are never None."""

MAX_IDENTIFIER_CHARS = 512
"""Longest `task_id`, `step` and so on: at most 2,048 bytes, and a PostgreSQL index takes 2,704."""

MAX_DURATION_MS = 2**31 - 1
"""The column is a 32-bit integer, in the hosts' tables too: 24.8 days."""


class LogLevel(StrEnum):
    """The levels of an entry; members are equal to their strings."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogCategory(StrEnum):
    """The usual categories; members are equal to their strings, and any other string is one too."""

    WORKFLOW = "workflow"
    AGENT = "agent"
    TOOL = "tool"
    DATABASE = "database"
    API = "api"
    RETRY = "retry"


class LogEntry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One record, as it is stored: masked, cut and made safe already.

    `id` is a UUIDv7 and the row's primary key; `created_at` is UTC and later than that of every
    entry the process recorded before; `details` is a copy of what the caller passed.
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
