"""What the library says about itself: on the standard logger `execution_logger`, sparingly; and no spans."""

import logging
import math
import sys
import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from execution_logger.text import printable, printable_lines

_SAY_AGAIN_SECONDS = 3600.0
_MOST_SAID = 100
_TRACING = "opentelemetry.instrumentation.utils"
"""Where each instrumentation asks whether it is to make spans: where it is not loaded, there is none."""


class _Logger(logging.Logger):
    """One whose messages are one line each, and that `logging.config` does not switch off.

    By default it does that to all that it is not told of, but what is said here is about entries that may
    be lost. A host that wants none of it sets the level.
    """

    def makeRecord(self, *args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: N802 - logging's name
        """Write out what would add lines to the log, or steer a terminal: much is quoted from others."""
        record = super().makeRecord(*args, **kwargs)
        try:
            text = record.getMessage()
            record.exc_text = record.exc_info and _safe_traceback(record.exc_info)
        except Exception:  # noqa: BLE001 - an object that raises; the host's handlers say so in their way
            return record
        if not text.isprintable():
            record.msg, record.args = printable(text), ()
        return record

    @property
    def disabled(self) -> bool:
        """Never."""
        return False

    @disabled.setter
    def disabled(self, _: bool) -> None: ...


def _safe_traceback(exc_info: Any) -> str | None:
    """What formatters are to print of a traceback that would steer a terminal; None leaves it to them."""
    text = logging.Formatter().formatException(exc_info)
    return None if text.replace("\n", "").isprintable() else printable_lines(text)


def our_logger(name: str) -> logging.Logger:
    """The standard logger of this name, made safe for what is said here: see `_Logger`."""
    found = logging.getLogger(name)
    found.__class__ = _Logger  # not by `setLoggerClass`, which is the host's
    return found


logger = our_logger("execution_logger")


def report(level: int, message: str, *args: object, error: BaseException | None = None) -> None:
    """Log a message; a handler or filter of the host's that fails must not end what is under way."""
    try:
        logger.log(level, message, *args, exc_info=error, stacklevel=2)
    except Exception as failure:  # noqa: BLE001 - there is no other place to say it
        on_error("logging", failure)


class Seldom:
    """Lets a thing be said once an hour, whatever else is said meanwhile.

    Args:
        now: a clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._said: dict[Hashable, float] = {}

    def may_say(self, what: Hashable) -> bool:
        """Whether it is time to say this, which counts as said then."""
        now = self._now()
        if now < self._said.get(what, -math.inf) + _SAY_AGAIN_SECONDS:
            return False
        self._said.pop(what, None)
        if len(self._said) >= _MOST_SAID:
            del self._said[next(iter(self._said))]
        self._said[what] = now
        return True


class InternalErrors:
    """Counts errors that must not reach the host, and reports each kind once.

    The library's own tests set `on_error` and fail on every such error.
    """

    def __init__(self) -> None:
        self.count = 0
        self._kinds: set[str] = set()

    def record(self, where: str, error: BaseException) -> None:
        """Count an error and log it, with its traceback, the first time."""
        self.count += 1
        kind = f"{where}: {type(error).__name__}"
        if kind not in self._kinds:
            self._kinds.add(kind)
            report(logging.ERROR, "internal error in %s; entries are kept", where, error=error)
        on_error(where, error)


def on_error(where: str, error: BaseException) -> None:
    """Called for every internal error; tests replace it to re-raise or collect."""


def untraced() -> AbstractContextManager[Any]:
    """A block in which OpenTelemetry's instrumentations of Redis, asyncpg, SQLAlchemy make no spans.

    What is sent and stored here is no host's to trace: where spans become entries it would have no end.
    """
    # While another thread imports it, it has no such function yet.
    suppress = getattr(sys.modules.get(_TRACING), "suppress_instrumentation", nullcontext)
    return suppress()
