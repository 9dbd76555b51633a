"""A network between two processes that loses what it is told to lose: a TCP proxy of the tests' own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

from server import free_port

_CHUNK = 65536


class _Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.is_lossy = False

    def reset(self) -> None:
        """RST to both sides."""
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Listens on a port of its own and passes on to another one, unless it is told otherwise.

    What is swallowed was acknowledged by this side's kernel and is never seen again, as by a
    firewall that forgot the connection: the peers wait for answers that never come. A connection
    that has lost bytes stays dead also after `heal()`; new ones work.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._swallowed = {"requests": False, "answers": False}
        self._clients: set[asyncio.StreamWriter] = set()
        self._links: set[_Link] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    # Faults ----------------------------------------------------------------------------------

    def swallow(self, *, requests: bool = True, answers: bool = True) -> None:
        """Let what clients send vanish, and what they would be answered, on old and new connections."""
        self._swallowed = {"requests": requests, "answers": answers}

    def refuse(self) -> None:
        """Reset all connections, and refuse new ones."""
        self._run(self._close_listener())
        self.cut()

    def cut(self) -> None:
        """Reset all connections; new ones work."""
        self._run(self._for_each_link(_Link.reset))

    def half_close(self) -> None:
        """Tell the clients that the other side has nothing more to say, and let vanish what they send."""

        def close_half(link: _Link) -> None:
            link.is_lossy = True
            with suppress(OSError):
                link.client.write_eof()

        self._run(self._for_each_link(close_half))

    def heal(self) -> None:
        """Work again."""
        self._swallowed = {"requests": False, "answers": False}
        if self._listener is None:
            self._run(self._listen())

    # Life ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=100)

    async def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    async def _for_each_link(self, function: Callable[[_Link], object]) -> None:
        for link in list(self._links):
            function(link)

    async def _end(self) -> None:
        await self._close_listener()
        # Connections that are being made have no link yet.
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._for_each_link(_Link.reset)
        for client in self._clients:
            client.transport.abort()
        await asyncio.sleep(0)  # a transport that was aborted closes in the next turn of the loop

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Here, and not in the task: one that is cancelled before it has begun closes nothing.
        self._clients.add(writer)
        connecting = self._loop.create_task(self._connect(reader, writer))
        self._pumps.add(connecting)
        connecting.add_done_callback(self._pumps.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            self._clients.discard(writer)
            return
        link = _Link(writer, server_writer)
        self._links.add(link)
        self._start(link, "requests", reader, server_writer)
        self._start(link, "answers", server_reader, writer)

    def _start(
        self, link: _Link, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        # TCP_NODELAY is asyncio's default: what is passed on is not held back.
        pump = self._loop.create_task(self._pump(link, direction, reader, writer))
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self, link: _Link, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(_CHUNK):
                if self._swallowed[direction]:
                    link.is_lossy = True
                if not link.is_lossy:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass  # the other side is gone, and so is this one now
        finally:
            link.reset()
            self._links.discard(link)
            self._clients.discard(link.client)
