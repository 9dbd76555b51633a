"""The host of the demonstration: a document pipeline that logs what it does, as hosts do.

Each run goes over its share of the files: read, parse, extract, validate, index. Each step is an
agent, and what the agents do to a file is a tool call.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from execution_logger.api.calls import LoggingCalls
from execution_logger.demo.documents import Document, broken_links, decode, decode_legacy, parse
from execution_logger.demo.index import InvertedIndex
from execution_logger.demo.terms import Terms, extract
from execution_logger.entry.entry import LogCategory

_T = TypeVar("_T")

_STEP = "documents"


class DocumentPipeline:
    """Runs over files that lie below `folder` or elsewhere, and writes an index per run.

    Args:
        logger: records every step.
        folder: names of files are relative to it.
        output: the folder for the indexes.
    """

    def __init__(self, logger: LoggingCalls, folder: Path, output: Path) -> None:
        self.runs_completed = 0
        self._logger = logger
        self._folder = folder
        self._output = output

    async def run(self, task_id: str, paths: Sequence[Path]) -> InvertedIndex:
        """Process the files and return their index, which is in the file `<task_id>.json` as well."""
        began_at = time.perf_counter()
        await self._logger.log_workflow_start(
            task_id, _STEP, f"Processing {_count(paths)}", details={"files": [*map(self._name, paths)]}
        )
        texts = await self._read(task_id, paths)
        documents = await self._parse(task_id, texts)
        terms = await self._extract(task_id, documents)
        await self._validate(task_id, documents, terms)
        index = await self._index(task_id, documents, terms)
        await self._logger.log_workflow_complete(
            task_id, _STEP, f"Indexed {_count(documents)}", duration_ms=_ms_since(began_at)
        )
        self.runs_completed += 1
        return index

    async def _read(self, task_id: str, paths: Iterable[Path]) -> dict[Path, str]:
        texts: dict[Path, str] = {}
        async with self._agent(task_id, "reader", "Reading files") as summary:
            for path in paths:
                try:
                    reading = asyncio.to_thread(path.read_bytes)
                    data = await self._tool(task_id, "reader", "read_file", path, reading)
                except OSError as error:
                    message = f"{self._name(path)} cannot be read"
                    await self._logger.log_agent_error(task_id, "reader", message, error=str(error))
                else:
                    texts[path] = await self._decode(task_id, path, data)
            summary["characters"] = sum(map(len, texts.values()))
        return texts

    async def _decode(self, task_id: str, path: Path, data: bytes) -> str:
        try:
            return decode(data)
        except UnicodeDecodeError as error:
            name = self._name(path)
            await self._logger.log_agent_error(
                task_id, "reader", f"{name} is not UTF-8", error=str(error), details={"bytes": len(data)}
            )
            began_at = time.perf_counter()
            await self._logger.log_retry_start(task_id, f"Trying older encodings for {name}")
            text, encoding = decode_legacy(data)
            await self._logger.log_retry_complete(
                task_id,
                f"{name} is read as {encoding}",
                duration_ms=_ms_since(began_at),
                details={"encoding": encoding, "characters": len(text)},
            )
            return text

    async def _parse(self, task_id: str, texts: dict[Path, str]) -> list[Document]:
        async with self._agent(task_id, "parser", "Parsing texts") as summary:
            documents = [
                await self._tool(
                    task_id, "parser", f"parse_{path.suffix[1:]}", path, _in_turn(parse, path, text)
                )
                for path, text in texts.items()
            ]
            summary["headings"] = sum(len(document.headings) for document in documents)
            summary["links"] = sum(len(document.links) for document in documents)
        return documents

    async def _extract(self, task_id: str, documents: list[Document]) -> list[Terms]:
        async with (
            self._agent(task_id, "extractor", "Extracting words and definitions") as summary,
            self._logger.timed_operation(task_id, LogCategory.AGENT, "Word statistics", "extractor") as timer,
        ):
            terms = [await _in_turn(extract, document) for document in documents]
            words: Counter[str] = sum((each.words for each in terms), start=Counter())
            timer.set_details({"words": words.total(), "most_frequent": dict(words.most_common(5))})
            summary["definitions"] = sum(len(each.definitions) for each in terms)
        return terms

    async def _validate(self, task_id: str, documents: list[Document], terms: list[Terms]) -> None:
        async with self._agent(task_id, "validator", "Checking links and contents") as summary:
            problems = []
            for document, its_terms in zip(documents, terms, strict=True):
                if document.links:
                    checking = asyncio.to_thread(broken_links, document)
                    links = await self._tool(task_id, "validator", "check_links", document.path, checking)
                    problems += [(document, f"broken link {link}") for link in links]
                if not its_terms.words:
                    problems.append((document, "no words"))
            for document, problem in problems:
                message = f"{self._name(document.path)}: {problem}"
                await self._logger.warning(task_id, LogCategory.AGENT, message, agent_name="validator")
            summary["problems"] = len(problems)

    async def _index(self, task_id: str, documents: list[Document], terms: list[Terms]) -> InvertedIndex:
        index = InvertedIndex()
        target = self._output / f"{task_id}.json"
        async with (
            self._agent(task_id, "indexer", "Building the index") as summary,
            self._logger.timed_operation(task_id, LogCategory.DATABASE, "Index file", "indexer") as timer,
        ):
            for document, its_terms in zip(documents, terms, strict=True):
                index.add(self._name(document.path), its_terms)
            timer.set_details({"bytes": await asyncio.to_thread(index.write, target)})
            summary["words"] = len(index)
        return index

    @asynccontextmanager
    async def _agent(self, task_id: str, name: str, message: str) -> AsyncIterator[dict[str, Any]]:
        """Log the start and the end of an agent's work, with what the body puts into the summary."""
        began_at = time.perf_counter()
        summary: dict[str, Any] = {}
        await self._logger.log_agent_start(task_id, name, message)
        yield summary
        text = ", ".join(f"{value:,} {key}" for key, value in summary.items())
        await self._logger.log_agent_complete(
            task_id, name, f"{message}: {text}", duration_ms=_ms_since(began_at), details=summary
        )

    async def _tool(self, task_id: str, agent: str, tool: str, path: Path, work: Awaitable[_T]) -> _T:
        """Wait for what a tool does to a file, and log the call."""
        began_at = time.perf_counter()
        result = await work
        await self._logger.log_tool_call(
            task_id, agent, tool, f"{tool} {self._name(path)}", duration_ms=_ms_since(began_at)
        )
        return result

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix() if path.is_relative_to(self._folder) else path.name


async def _in_turn(call: Callable[..., _T], *arguments: Any) -> _T:
    """Compute something after the other runs have had their turn."""
    await asyncio.sleep(0)
    return call(*arguments)


def _count(files: Sequence[object]) -> str:
    return "1 file" if len(files) == 1 else f"{len(files)} files"


def _ms_since(began_at: float) -> int:
    return round((time.perf_counter() - began_at) * 1000)
