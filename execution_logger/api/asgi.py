"""An ASGI application with the logger's lifespan: also one that has none of its own, as Django's."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from execution_logger.diagnostics import report
from execution_logger.errors import ExecutionLoggerError

if TYPE_CHECKING:
    from execution_logger.api.logger import ExecutionLogger

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class WithLifespan:
    """What `ExecutionLogger.asgi` returns: the application, and around its lifespan that of the logger.

    A server asks by the lifespan protocol of ASGI, and waits for the answer before it ends: that is the one
    moment to deliver what is left, as uvicorn ends by a signal, which leaves out the exit hooks of Python.
    """

    def __init__(self, app: Application, logger: "ExecutionLogger") -> None:
        self._app = app
        self._logger = logger

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve a connection of the application's, or the lifespan."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        startup = await receive()
        async with AsyncExitStack() as delivering:
            try:
                await delivering.enter_async_context(self._logger.lifespan())
            except ExecutionLoggerError as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            lifespan = _Lifespan(startup, receive, send, delivering.aclose)
            try:
                await self._app(scope, lifespan.receive, lifespan.send)
            except Exception as error:
                if lifespan.has_started or lifespan.is_over:
                    await lifespan.fail(error)
                    raise
                # What the protocol has an application do that knows no lifespan; the server goes on.
                lifespan.report_start(error)
            await lifespan.answer()


class _Lifespan:
    """The messages between the server and the application, and where ours have to come in between."""

    def __init__(
        self, startup: Message, receive: Receive, send: Send, deliver: Callable[[], Awaitable[None]]
    ) -> None:
        self._startup: Message | None = startup
        self._receive = receive
        self._send = send
        self._deliver = deliver
        self._is_to_end = False
        self.has_started = False
        self.is_over = False

    async def receive(self) -> Message:
        """What the server says."""
        message, self._startup = self._startup, None
        if message is None:
            message = await self._receive()
            self._is_to_end = True
        return message

    async def send(self, message: Message) -> None:
        """What the application answers: after its last word the server ends the process."""
        if message["type"] == "lifespan.startup.complete":
            self.has_started = True
        else:
            self.is_over = True
            await self._deliver()
        await self._send(message)

    async def answer(self) -> None:
        """Say what the application has left unsaid."""
        if not self.is_over and not self.has_started:
            await self.send({"type": "lifespan.startup.complete"})
        if not self.is_over:
            await self._wait_for_end()
            await self.send({"type": "lifespan.shutdown.complete"})

    def report_start(self, error: Exception) -> None:
        """The application has raised without an answer: one that has read the question has failed."""
        if self._startup is None:
            report(logging.WARNING, "the application's start has failed; it goes on without", error=error)

    async def fail(self, error: Exception) -> None:
        """The application serves on, whatever has become of its lifespan: wait for the end all the same."""
        if not self._is_to_end and not self.is_over:
            report(logging.ERROR, "the application's lifespan has failed; it goes on without", error=error)
            await self._wait_for_end()

    async def _wait_for_end(self) -> None:
        self._startup = None
        if not self._is_to_end:
            await self.receive()
