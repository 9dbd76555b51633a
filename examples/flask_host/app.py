"""The web application: `gunicorn --worker-class gthread --threads 16 flask_host.app:app`."""

from collections.abc import Callable, Iterable
from secrets import compare_digest
from typing import Any

from a2wsgi import ASGIMiddleware
from flask import Flask, Request, Response, abort, request
from prometheus_client import make_wsgi_app
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from execution_logger.integrations.flask import FlaskLogger
from execution_logger.integrations.prometheus import instrument
from execution_logger.web import create_app as create_page
from execution_logger.web import local_only
from flask_host.api import api
from flask_host.database import create_tables
from flask_host.settings import API_TOKEN


def create_app() -> Flask:
    """The host: the API, the page of the runs, and the metrics."""
    create_tables()
    app = Flask(__name__)
    FlaskLogger(app)
    api.before_request(lambda: None if _may_enter(request) else abort(401, "wrong or missing bearer token"))
    app.register_blueprint(api)
    app.add_url_rule("/health", "health", lambda: {"status": "ok"})
    app.register_error_handler(HTTPException, lambda error: ({"error": error.description}, error.code))
    app.register_error_handler(ValidationError, _wrong_body)
    app.register_error_handler(OperationalError, lambda _: ({"error": "the database is away"}, 503))
    instrument()
    mounted: Any = {"/metrics": make_wsgi_app(), "/execution-logs": _page}
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, mounted)  # type: ignore[method-assign]
    return app


def _may_enter(request: Request) -> bool:
    """Whether the token is there, as a program's bearer token or as a browser's password."""
    given = request.authorization
    told = (given and (given.token or given.password)) or ""
    return not API_TOKEN or compare_digest(told.encode(), API_TOKEN.encode())


# The two packages have types of their own for what passes between them.
_asgi_page: Any = create_page(authorize=lambda scope: bool(API_TOKEN) or local_only(scope))
_mounted: Callable[..., Iterable[bytes]] = ASGIMiddleware(_asgi_page)


def _page(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The page of the runs."""
    if not environ["wsgi.multithread"]:  # a live stream would be the only request that a sync worker serves
        answer = Response("The page needs threads (gthread): else use `execution-logger ui`.\n", 501)
    elif not _may_enter(Request(environ)):
        answer = Response(status=401, headers={"WWW-Authenticate": 'Basic realm="the token as password"'})
    else:
        return _mounted(environ, start_response)
    return answer(environ, start_response)


def _wrong_body(error: ValidationError) -> tuple[dict[str, Any], int]:
    problems = (f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors())
    return {"error": "; ".join(problems)}, 422


app = create_app()
