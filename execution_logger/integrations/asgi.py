"""The context of a request in any ASGI application: FastAPI, Starlette, Litestar, Django.

>>> app.add_middleware(RequestContext)                           # FastAPI, Starlette
>>> app = Litestar(..., middleware=[RequestContext])
>>> application = execution_logger.asgi(RequestContext(get_asgi_application()))    # with a lifespan, too

It is plain ASGI: Starlette's `BaseHTTPMiddleware` would lose what is entered in it.
"""

from collections.abc import MutableMapping
from typing import Any

from execution_logger.api.asgi import Application, Message, Receive, Send
from execution_logger.api.logger import ExecutionLogger, execution_logger
from execution_logger.integrations.requests import TaskId, request_context

Scope = MutableMapping[str, Any]


class RequestContext:
    """A middleware that fills in `method`, `path` and `request_id` for all that a request records.

    Args:
        app: the application.
        logger: records the operations.
        operation: make each request an operation, with the status, and the route where the framework names
            it, in the details of the entry at its end.
        task_id: tells the run of a request: the name of a header, or a function of the scope.
    """

    def __init__(
        self,
        app: Application,
        *,
        logger: ExecutionLogger = execution_logger,
        operation: bool = False,
        task_id: TaskId[Scope] = None,
    ) -> None:
        self._app = app
        self._logger = logger
        self._operation = operation
        self._task_id = task_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; anything but requests and websockets passes untouched."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return

        def header(name: str) -> str | None:
            wanted = name.lower().encode("latin-1")
            found = (value for key, value in scope["headers"] if key.lower() == wanted)
            return next(found, b"").decode("latin-1")

        status: dict[str, Any] = {}

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                status["status"] = message["status"]
            await send(message)

        method = scope.get("method", "WEBSOCKET")
        with request_context(
            self._logger, scope, header,
            method=method, path=scope["path"], operation=self._operation, task_id=self._task_id,
        ) as timer:  # fmt: skip
            if timer is None:
                await self._app(scope, receive, send)
                return
            try:
                await self._app(scope, receive, noting)
            finally:
                route = getattr(scope.get("route"), "path", None)
                timer.set_details(status if route is None else {**status, "route": route})
