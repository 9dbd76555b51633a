"""The page of the runs in a Django host, for its staff, under ASGI and under WSGI.

SECRET_KEY=... DJANGO_DATABASE=host.sqlite3 DATABASE_URL=postgresql://... uvicorn examples.mount_django:asgi

or, with one thread for each who looks at something live:

... gunicorn --worker-class gthread --threads 16 examples.mount_django:wsgi
"""

import os
from collections.abc import MutableMapping
from importlib import import_module
from typing import Any

import django
from a2wsgi import ASGIMiddleware
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, parse_cookie
from django.urls import path
from starlette.datastructures import Headers

from execution_logger.web import create_app

PREFIX = "/execution-logs"

# What a project has in settings.py.
settings.configure(
    SECRET_KEY=os.environ["SECRET_KEY"],
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DJANGO_DATABASE"]}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
)
django.setup()

from django.contrib.auth import authenticate, get_user, login  # noqa: E402 - they read the settings
from django.db import close_old_connections  # noqa: E402


def log_in(request: HttpRequest) -> HttpResponse:
    """Let somebody in, as the host does."""
    user = authenticate(request, **request.POST.dict())
    if user is not None:
        login(request, user)
    return HttpResponse(status=403 if user is None else 204)


urlpatterns = [path("login", log_in)]


def is_staff(scope: MutableMapping[str, Any]) -> bool:
    """Whether the request has a session of the host's staff."""
    cookies = parse_cookie(Headers(scope=scope).get("cookie", ""))
    request = HttpRequest()
    store = import_module(settings.SESSION_ENGINE).SessionStore
    request.session = store(cookies.get(settings.SESSION_COOKIE_NAME))
    close_old_connections()
    try:
        return bool(get_user(request).is_staff)
    finally:
        close_old_connections()


page: Any = create_app(authorize=sync_to_async(is_staff))

# What a project has in asgi.py.
asgi_host = get_asgi_application()


async def asgi(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """Serve the page below its prefix, which has a lifespan as well, and the host everywhere else."""
    root = f"{scope.get('root_path', '')}{PREFIX}"
    if scope["type"] == "lifespan" or f"{scope['path']}/".startswith(f"{root}/"):
        await page({**scope, "root_path": root}, receive, send)
    else:
        await asgi_host(scope, receive, send)


# What a project has in wsgi.py.
wsgi_host = get_wsgi_application()
wsgi_page: Any = ASGIMiddleware(page)


def wsgi(environ: Any, start_response: Any) -> Any:
    """Serve the page below its prefix, and the host everywhere else."""
    place = environ["PATH_INFO"]
    if not f"{place}/".startswith(f"{PREFIX}/"):
        return wsgi_host(environ, start_response)
    below = {"SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + PREFIX, "PATH_INFO": place.removeprefix(PREFIX)}
    return wsgi_page({**environ, **below}, start_response)
