"""Any value as text: exactly where that is possible, else by its repr, which is then marked."""

import base64
import traceback
from collections.abc import Callable
from typing import Any

from execution_logger.changes import Changes
from execution_logger.forms import exact_text
from execution_logger.sensitive import SensitiveKeys
from execution_logger.text import is_hostile, type_name, unreadable

BYTES = (bytes, bytearray, memoryview)

_MAX_REPR_CHARS = 2000
_MAX_TRACEBACK_CHARS = 16_000


class Renderer:
    """Renders values, masks what their texts show of secrets, and marks what is not exact.

    Args:
        keys: tells which keys are masked.
        changes: where what could not be kept is marked.
        max_bytes: how much of binary data is worth rendering.
    """

    def __init__(self, keys: SensitiveKeys, changes: Changes, max_bytes: int) -> None:
        self._keys = keys
        self._changes = changes
        self._max_bytes = max_bytes

    def text(self, value: Any) -> str:
        """The text of a value that is no container. It may hold what no database stores."""
        return value if type(value) is str else self._called(self._written, value)

    def exception(self, error: BaseException) -> dict[str, str]:
        """The parts of an exception; of a long traceback the end, which tells what happened."""
        message = self._keys.masked(self._called(str, error))
        trace = self._called(_traceback, error)
        most = min(_MAX_TRACEBACK_CHARS, self._max_bytes // 4)
        if len(trace) > most:
            self._changes.mark(f"traceback cut from {len(trace)} characters to its last {most}")
        return {"type": type_name(error), "message": message, "traceback": self._keys.masked(trace[-most:])}

    def unreadable(self, value: object, error: BaseException) -> str:
        """What stands for a value that raised this error when it was read."""
        self._changes.mark(f"could not be read: {type_name(error)}")
        return unreadable(value)

    def _called(self, how: Callable[[Any], str], value: Any) -> str:
        try:
            return str.__str__(how(value))  # what is no text raises; a subclass may hide what it holds
        except BaseException as error:
            if not is_hostile(error):
                raise
            return self.unreadable(value, error)

    def _written(self, value: Any) -> str:
        if isinstance(value, BYTES):
            return self._decoded(memoryview(value).tobytes())
        text = exact_text(value)
        return self._repr(value) if text is None else text

    def _decoded(self, value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            self._changes.mark(f"was {len(value)} bytes that are no UTF-8; this is their base64")
            return base64.b64encode(value[: self._max_bytes]).decode()

    def _repr(self, value: object) -> str:
        text = str.__str__(repr(value))
        self._changes.mark(f"was a {type_name(value)}; this is its repr")
        if len(text) > _MAX_REPR_CHARS:
            self._changes.mark(f"cut from {len(text)} characters to {_MAX_REPR_CHARS}")
        return self._keys.masked(text[:_MAX_REPR_CHARS])


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
