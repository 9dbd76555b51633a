"""What processes and folders take: memory, open files, disk."""

import os
from pathlib import Path

import psutil

_MB = 1e6


def resident_megabytes(pid: int) -> float:
    """Of a process and its children; what they share counts for each."""
    return sum(process.memory_info().rss for process in _tree(pid)) / _MB


def open_files(pid: int) -> float:
    """Files, sockets and pipes of a process and its children."""
    return float(sum(process.num_fds() for process in _tree(pid)))


def folder_megabytes(folder: Path) -> float:
    """The sizes of the files in it, some of which may be gone by now."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(path) / name).stat().st_size
            except FileNotFoundError:
                continue
    return size / _MB


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
