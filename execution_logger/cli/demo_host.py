"""The host of the demonstration: a pipeline over text files that logs what it does, as hosts do."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from execution_logger.api.calls import LoggingCalls
from execution_logger.entry.entry import LogCategory
from execution_logger.errors import ExecutionLoggerError

SUFFIXES = (".css", ".html", ".js", ".json", ".md", ".py", ".rst", ".sh", ".sql", ".toml", ".txt", ".yml")
MAX_FILES = 2_000
MAX_BYTES = 1_048_576

_SKIPPED_FOLDERS = ("__pycache__", "build", "dist", "node_modules", "site-packages", "venv")
_WORD = re.compile(r"[^\W\d_]{3,}")


def find_documents(folder: Path) -> list[Path]:
    """The text files below a folder, Markdown first; hidden, generated and huge ones are left out.

    Raises:
        ExecutionLoggerError: there are none.
    """
    found = sorted(_walk(folder), key=lambda path: (path.suffix != ".md", path))[:MAX_FILES]
    if not found:
        raise ExecutionLoggerError(f"{folder}: there are no text files in this folder ({' '.join(SUFFIXES)})")
    return found


class DocumentPipeline:
    """Each run reads its files, whose names are relative to `folder`, and counts their words."""

    def __init__(self, logger: LoggingCalls, folder: Path) -> None:
        self.runs_completed = 0
        self._logger = logger
        self._folder = folder

    async def run(self, task_id: str, paths: Sequence[Path]) -> None:
        """Process the files."""
        async with self._logger.run(task_id, "documents"):
            files = {"files": [*map(self._name, paths)]}
            await self._logger.log_workflow_start(
                task_id, "documents", f"Processing {len(paths)} files", details=files
            )
            texts = await self._read(task_id, paths)
            await self._count_words(task_id, texts)
            await self._logger.log_workflow_complete(task_id, "documents", f"Processed {len(texts)} files")
        self.runs_completed += 1

    async def _read(self, task_id: str, paths: Sequence[Path]) -> dict[Path, str]:
        texts: dict[Path, str] = {}
        async with self._logger.timed_operation(task_id, LogCategory.AGENT, "reading", "reader") as timer:
            for path in paths:
                began_at = time.perf_counter()
                try:
                    data = await asyncio.to_thread(path.read_bytes)
                except OSError as error:
                    message = f"{self._name(path)} cannot be read"
                    await self._logger.log_agent_error(task_id, "reader", message, error=str(error))
                    continue
                texts[path] = await self._decode(task_id, self._name(path), data)
                await self._logger.log_tool_call(
                    task_id, "reader", "read_file", self._name(path), duration_ms=_ms_since(began_at)
                )
            timer.set_details({"characters": sum(map(len, texts.values()))})
        return texts

    async def _decode(self, task_id: str, name: str, data: bytes) -> str:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            await self._logger.log_agent_error(task_id, "reader", f"{name} is not UTF-8", error=str(error))
        await self._logger.log_retry_start(task_id, "Trying an older encoding")
        text = data.decode("windows-1252", errors="replace")
        await self._logger.log_retry_complete(task_id, "Read as windows-1252", details={"file": name})
        return text

    async def _count_words(self, task_id: str, texts: Mapping[Path, str]) -> None:
        words: Counter[str] = Counter()
        async with self._logger.timed_operation(task_id, LogCategory.AGENT, "counting", "counter") as timer:
            for path, text in texts.items():
                await asyncio.sleep(0)  # the other runs have their turn
                found = _WORD.findall(text.lower())
                words.update(found)
                if not found:
                    message = f"{self._name(path)}: no words"
                    await self._logger.warning(task_id, LogCategory.AGENT, message, agent_name="counter")
            timer.set_details({"words": words.total(), "most_frequent": dict(words.most_common(5))})

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix() if path.is_relative_to(self._folder) else path.name


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_dir():
            yield from () if path.name in _SKIPPED_FOLDERS else _walk(path)
        elif path.suffix in SUFFIXES and path.stat().st_size <= MAX_BYTES:
            yield path


def _ms_since(began_at: float) -> int:
    return round((time.perf_counter() - began_at) * 1000)
