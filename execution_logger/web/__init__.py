"""The read API and the page: an ASGI application that shows the runs, to be mounted or served alone.

>>> app.mount("/execution-logs", create_app(authorize=is_staff))       # FastAPI, Starlette
"""

from execution_logger.errors import SettingsError

try:
    import sse_starlette  # noqa: F401
    import starlette  # noqa: F401
except ImportError as error:
    raise SettingsError(
        f'{error.name} is not installed: pip install "celery-execution-logger[ui]"'
    ) from error

from execution_logger.web.access import Authorize, Permission, local_only
from execution_logger.web.app import create_app

__all__ = ["Authorize", "Permission", "create_app", "local_only"]
