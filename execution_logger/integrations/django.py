"""Django: an application that checks the settings at the start, and a middleware for the context of requests.

>>> INSTALLED_APPS = [..., "execution_logger.integrations.django.ExecutionLoggerConfig"]
>>> MIDDLEWARE = ["execution_logger.integrations.django.request_context_middleware", ...]
>>> EXECUTION_LOGGER = {"operation": True, "task_id": "X-Run-ID"}     # optional; as of the other frameworks
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.decorators import sync_and_async_middleware

from execution_logger.api.logger import execution_logger
from execution_logger.api.operations import TimedOperation
from execution_logger.integrations.requests import request_context

_OPTIONS: Mapping[str, Any] = {"operation": False, "task_id": None}


class ExecutionLoggerConfig(AppConfig):  # type: ignore[misc] # Django has no types
    """The check at the start: wrong settings stop the host, and not its first request."""

    name = "execution_logger.integrations.django"
    label = "execution_logger"

    def ready(self) -> None:
        """Check the settings; what dead processes have left is sent."""
        execution_logger.sync.start()


@sync_and_async_middleware  # type: ignore[untyped-decorator] # as above
def request_context_middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Fill in `method`, `path` and `request_id` for all that a request records, under WSGI and ASGI.

    The setting `EXECUTION_LOGGER` may say `operation`, to make each request an operation, with the status and
    the route in the details of its end; and `task_id`, which tells the run of a request: the name of a
    header, or a function of Django's request.
    """
    options = {**_OPTIONS, **getattr(settings, "EXECUTION_LOGGER", {})}
    if unknown := options.keys() - _OPTIONS.keys():
        names = " and ".join(_OPTIONS)
        raise ImproperlyConfigured(f"EXECUTION_LOGGER: {min(unknown)!r} is no option; {names} are")

    def entered(request: Any) -> AbstractContextManager[TimedOperation | None]:
        header = request.headers.get
        return request_context(
            execution_logger, request, header, method=request.method, path=request.path, **options
        )

    def note(timer: TimedOperation | None, request: Any, response: Any) -> Any:
        if timer is not None:
            route = getattr(request.resolver_match, "route", None)
            timer.set_details({"status": response.status_code, "route": route})
        return response

    def serve(request: Any) -> Any:
        with entered(request) as timer:
            return note(timer, request, get_response(request))

    async def serve_in_loop(request: Any) -> Any:
        with entered(request) as timer:
            return note(timer, request, await get_response(request))

    return serve_in_loop if iscoroutinefunction(get_response) else serve
