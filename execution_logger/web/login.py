"""The login of `execution-logger ui` on an address that others reach: a link that works once."""

import secrets
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from execution_logger.web.access import Permission, check_request
from execution_logger.web.refusal import Refusal, refuse

_COOKIE = "execution_logger_session"
_PATH = "/login"
_MOST_SESSIONS = 1000
_BEARER = "Bearer "


class Login:
    """Knows who has opened the link, and the programs that have the token.

    Args:
        permission: what they may do.
        token: what programs send as `Authorization: Bearer TOKEN`; None: there are none.
        announce: gets the code of a new link; the one before it was used up, and works no more.
    """

    def __init__(self, permission: Permission, token: str | None, announce: Callable[[str], None]) -> None:
        self._permission = permission
        self._token = token
        self._announce = announce
        self._sessions: dict[str, None] = {}
        self._code = ""

    def renew(self) -> None:
        """Make a new link."""
        self._code = secrets.token_urlsafe(32)
        self._announce(self._code)

    def authorize(self, scope: MutableMapping[str, Any]) -> Permission | None:
        """What whoever makes this request may do."""
        given = Headers(scope=scope).get("authorization", "")
        has_token = self._token is not None and secrets.compare_digest(
            given.encode(), f"{_BEARER}{self._token}".encode()
        )
        session = Request(scope).cookies.get(_COOKIE, "")
        return self._permission if has_token or session in self._sessions else None

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application, with the place that the link leads to."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] == _PATH:
                await self._open(scope)(scope, receive, send)
            else:
                await app(scope, receive, send)

        return serve

    def _open(self, scope: Scope) -> ASGIApp:
        try:
            check_request(scope)
            session = self._begin_session(QueryParams(scope["query_string"]).get("code", ""))
        except Refusal as refusal:
            return refuse(refusal)
        # Away from the code: no secret stays in a URL, or in a Referer.
        response = RedirectResponse(
            "./", 303, {"cache-control": "no-store", "referrer-policy": "no-referrer"}
        )
        response.set_cookie(
            _COOKIE, session, httponly=True, samesite="strict", secure=scope["scheme"] == "https"
        )
        return response

    def _begin_session(self, code: str) -> str:
        if not self._code or not secrets.compare_digest(code.encode(), self._code.encode()):
            raise Refusal(403, "not_authorized", "This link was used already. The terminal shows a new one.")
        self.renew()
        session = secrets.token_urlsafe(32)
        self._sessions[session] = None
        while len(self._sessions) > _MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session
