"""What is sent and stored here is no host's to trace: it would be spans without end."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

_UTILS = "opentelemetry.instrumentation.utils"
"""Where each instrumentation asks whether it is to make spans: where it is not loaded, there is none."""


def untraced() -> AbstractContextManager[Any]:
    """A block in which OpenTelemetry's instrumentations of Redis, asyncpg, SQLAlchemy make no spans."""
    # While another thread imports it, it has no such function yet.
    suppress = getattr(sys.modules.get(_UTILS), "suppress_instrumentation", nullcontext)
    return suppress()
