"""The page of the runs in a FastAPI host, for those who have logged in there.

SECRET_KEY=... STAFF_PASSWORD=... DATABASE_URL=postgresql://... uvicorn examples.mount_fastapi:app
"""

import os
from collections.abc import MutableMapping
from secrets import compare_digest
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Request
from starlette.middleware.sessions import SessionMiddleware

from execution_logger.web import create_app

app = FastAPI(title="A host that shows its runs")
app.add_middleware(SessionMiddleware, secret_key=os.environ["SECRET_KEY"], same_site="strict")


@app.post("/login", status_code=204)
def log_in(request: Request, password: Annotated[str, Body(embed=True)]) -> None:
    """Let somebody in, as the host does."""
    if not compare_digest(password.encode(), os.environ["STAFF_PASSWORD"].encode()):
        raise HTTPException(403)
    request.session["is_staff"] = True


def is_staff(scope: MutableMapping[str, Any]) -> bool:
    """Whether the host's own middleware has found a session of its staff."""
    return bool(scope["session"].get("is_staff"))


app.mount("/execution-logs", create_app(authorize=is_staff))
