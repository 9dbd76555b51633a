"""The name of a process: on its batches, on its journal, in the accounts."""

import os
import re
import socket
from uuid import uuid4

_NAME_CHARS = 40


def process_name() -> str:
    """A name for this process: unique, fit for a file, and telling people which one it is."""
    return f"{file_name(socket.gethostname())}-{os.getpid()}-{uuid4().hex[:12]}"


def file_name(text: str) -> str:
    """The text as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)[:_NAME_CHARS].lstrip(".") or "_"
