"""The process: its name on batches, journals and accounts."""

import os
import re
import socket
import sys
from uuid import uuid4
from zlib import crc32

_NAME_CHARS = 40


def process_name() -> str:
    """A name for this process: unique, fit for a file, and telling people which one it is."""
    host = file_name(socket.gethostname())
    return f"{host}-{os.getpid()}-{_family(host, _parent_id())}{uuid4().hex[:8]}"


def is_child(name: str) -> bool:
    """Whether it is the name of a process that this one has started, or rarely that of another one."""
    host = file_name(socket.gethostname())
    return name.startswith(f"{host}-") and name.rpartition("-")[2].startswith(_family(host, os.getpid()))


def _family(host: str, parent_id: int) -> str:
    """What the names of all children of a process have in common: four digits."""
    return f"{crc32(f'{host}-{parent_id}'.encode()) & 0xFFFF:04x}"


def _parent_id() -> int:
    # A child of multiprocessing may come from a server that forks on behalf of its parent.
    process = sys.modules.get("multiprocessing.process")
    parent = None if process is None else process.parent_process()
    return os.getppid() if parent is None else int(parent.pid)


def file_name(text: str) -> str:
    """The text as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)[:_NAME_CHARS].lstrip(".") or "_"
