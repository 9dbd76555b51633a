"""timed_operation: an entry when a block begins, one when it ends, with its duration."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from execution_logger.api.context import as_dict, merged
from execution_logger.entry.entry import LogEntry, LogLevel
from execution_logger.text import is_hostile, text_of

_ERROR_CHARS = 100

# Dashboards of existing hosts match on the Chinese texts: they are part of the API.
_TEXTS: Mapping[str, Mapping[str, str]] = {
    "zh": {"started": "{} 开始", "completed": "{} 完成", "cancelled": "{} 已取消", "failed": "{} 失败: {}"},
    "en": {
        "started": "{} started",
        "completed": "{} completed",
        "cancelled": "{} cancelled",
        "failed": "{} failed: {}",
    },
}

Record = Callable[[LogLevel, str, int | None, Any], LogEntry]
"""Records an entry of the operation: level, message, duration in ms, details."""


class TimedOperation:
    """The timer of one block: a context manager, with or without `async`.

    Records an info entry at the start, and at the end an info entry with the duration and the
    timer's details. If the body raised, that is an error entry; if it was cancelled, a warning.
    What was raised goes on.
    """

    def __init__(self, record: Record, name: str, language: str) -> None:
        self._record = record
        self._name = text_of(name)
        self._texts = _TEXTS[language]
        self._details: dict[str, Any] = {}
        self._began_at = 0.0

    @property
    def details(self) -> dict[str, Any]:
        """What `set_details` has gathered for the entry at the end."""
        return self._details

    def set_details(self, details: Mapping[str, Any]) -> None:
        """Add to the details of the entry at the end."""
        try:
            self._details.update(as_dict(details or {}))
        except BaseException as error:  # whatever it is instead of a dict, it is recorded too
            if not is_hostile(error):
                raise
            self._details["details"] = details

    def __enter__(self) -> Self:
        self._record(LogLevel.INFO, self._text("started"), None, None)
        self._began_at = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        duration_ms = round((time.perf_counter() - self._began_at) * 1000)
        if error is None:
            self._record(LogLevel.INFO, self._text("completed"), duration_ms, self._details or None)
            return
        if _is_cancelled(error):
            self._record(LogLevel.WARNING, self._text("cancelled"), duration_ms, self._details or None)
            return
        text = text_of(error)
        details = merged(self._details, {"error": text})
        self._record(LogLevel.ERROR, self._text("failed", text[:_ERROR_CHARS]), duration_ms, details)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _text(self, event: str, *more: str) -> str:
        return self._texts[event].format(self._name, *more)


def _is_cancelled(error: BaseException) -> bool:
    """Whether nothing else has happened, in any of several tasks either."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_cancelled, error.exceptions))
    return isinstance(error, cancellations())


def cancellations() -> tuple[type[BaseException], ...]:
    """What is raised in a body that is cancelled, or an iterator that is broken off."""
    trio = sys.modules.get("trio")
    of_trio = () if trio is None else (trio.Cancelled,)
    return asyncio.CancelledError, GeneratorExit, *of_trio
