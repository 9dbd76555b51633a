"""`execution-logger ui` as an operator starts it, and somebody who reads its streams."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx

from processes import LocalProcess
from server import free_port
from waiting import PATIENCE, wait_until

_COMMAND = str(Path(sys.executable).with_name("execution-logger"))
ANSWER_SECONDS = 10.0 * PATIENCE


class UiProcess:
    """A process that serves the page of a database; it keeps its port from one start to the next."""

    def __init__(self, database_url: str, folder: Path, *options: str, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._options = options
        self._environment = {"CELERY_ENABLED": "false", "DATABASE_URL": database_url, **environment}
        self._output = folder / f"ui-{self.port}.txt"
        self.process: LocalProcess | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        self.process = LocalProcess(
            [_COMMAND, "ui", "--port", str(self.port), *self._options],
            output=self._output,
            environment={**os.environ, **self._environment},
        )
        wait_until(self._answers, 30, message=lambda: self.output)
        return self

    @property
    def output(self) -> str:
        """All that it has printed."""
        return "" if self.process is None else self.process.output

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of an answer."""
        answer = httpx.get(f"{self.url}api/{path}", params=query, timeout=ANSWER_SECONDS)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.is_running(), self.output
        try:
            return httpx.get(self.url, timeout=5).status_code < httpx.codes.INTERNAL_SERVER_ERROR
        except httpx.TransportError:
            return False


class StreamReader:
    """Reads a stream of server-sent events, and comes again when it breaks off, as browsers do."""

    def __init__(self, url: str, query: Mapping[str, str], session: httpx.Cookies | None = None) -> None:
        self._url = url
        self._session = session
        self._query = dict(query)
        self._has_come = asyncio.Event()
        self.last_id = ""
        self.events: list[tuple[str, Any]] = []
        """The kind of each, and its data."""
        self.connections = 0

    async def wait_for(self, kind: str, number: int = 1) -> None:
        """Wait until so many events of a kind have come."""
        await self._wait(lambda: len(self.of(kind)) >= number)

    async def wait_for_entries(self, number: int) -> list[str]:
        """The ids of all entries in the order in which they came, when there are so many."""
        await self._wait(lambda: len(self.entries()) >= number)
        return self.entries()

    def of(self, kind: str) -> list[Any]:
        """The data of all events of a kind."""
        return [data for event, data in self.events if event == kind]

    def entries(self) -> list[str]:
        """The ids of all entries, in the order in which they came."""
        return [entry["id"] for data in self.of("entries") for entry in data["entries"]]

    async def run(self) -> None:
        """Read until it is cancelled."""
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS, cookies=self._session) as client:
            while True:
                try:
                    await self._read(client)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)  # as browsers do

    async def _wait(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while not condition():
                    self._has_come.clear()
                    await self._has_come.wait()
        except TimeoutError:
            raise AssertionError(f"this is all that has come: {str(self.events)[:2000]}") from None

    async def _read(self, client: httpx.AsyncClient) -> None:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        async with client.stream("GET", self._url, params=self._query, headers=headers) as answer:
            assert answer.status_code == httpx.codes.OK
            self.connections += 1
            async for event, data, id_ in _events(answer.aiter_lines()):
                self.last_id = id_ or self.last_id
                self.events.append((event, data))
                self._has_come.set()


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, Any, str]]:
    """What the lines of a stream mean, as the HTML standard says."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields:
            yield fields.get("event", "message"), json.loads(fields["data"]), fields.get("id", "")
        fields = {}


@asynccontextmanager
async def reading(
    url: str, session: httpx.Cookies | None = None, /, **query: str
) -> AsyncIterator[StreamReader]:
    """Read a stream of the API."""
    reader = StreamReader(url, query, session)
    task = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
