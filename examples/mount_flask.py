"""The page of the runs in a Flask host, for those who have logged in there.

SECRET_KEY=... STAFF_PASSWORD=... DATABASE_URL=postgresql://... \
    gunicorn --worker-class gthread --threads 16 examples.mount_flask:app
"""

import os
from collections.abc import MutableMapping
from secrets import compare_digest
from typing import Any

from a2wsgi import ASGIMiddleware
from flask import Flask, abort, request, session
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from execution_logger.web import create_app

app = Flask(__name__)
app.secret_key = os.environ["SECRET_KEY"]


@app.post("/login")
def log_in() -> tuple[str, int]:
    """Let somebody in, as the host does."""
    if not compare_digest(request.json["password"].encode(), os.environ["STAFF_PASSWORD"].encode()):
        abort(403)
    session["is_staff"] = True
    return "", 204


def is_staff(scope: MutableMapping[str, Any]) -> bool:
    """Whether the request has a session of the host's staff."""
    with app.request_context(scope["wsgi_environ"]):
        return bool(session.get("is_staff"))


# Each of the three packages has types of its own for what passes between them.
page: Any = create_app(authorize=is_staff)
wsgi_page: Any = ASGIMiddleware(page)
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/execution-logs": wsgi_page})  # type: ignore[method-assign]
