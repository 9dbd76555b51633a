"""`execution-logger ui`: the page that shows the runs, live, and the API beneath it."""

import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path

import click
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from execution_logger.cli.options import Integer, stop_at_end_of_input, stop_at_eof_option
from execution_logger.errors import ExecutionLoggerError, SettingsError
from execution_logger.settings import DATABASE, Settings
from execution_logger.text import printable
from execution_logger.web import Permission, create_app, local_only
from execution_logger.web.access import is_local
from execution_logger.web.login import Login

_ALIVE = "/alive"
"""For health checks, which have no login: it says nothing but that this process answers."""
_GRACE_SECONDS = 3
_MIN_TOKEN_CHARS = 16


@click.command(context_settings={"show_default": True})
@click.option("--address", default="127.0.0.1", help="The address to listen on.")
@click.option("--port", type=Integer(0, 65_535), default=8420, help="The port; 0 takes a free one.")
@click.option("--url", metavar="URL", help="What people open, where a container or a proxy stands before it.")
@click.option("--open", "is_opened", is_flag=True, help="Open the page in the browser.")
@click.option("--allow-changes", is_flag=True, help="Dead letters may be retried from the page.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Holds the token of programs, which send it as Authorization: Bearer TOKEN.",
)
@stop_at_eof_option
def command(
    address: str,
    port: int,
    url: str | None,
    is_opened: bool,
    allow_changes: bool,
    token_file: Path | None,
    stop_at_eof: bool,
) -> None:
    """Show the runs on a page, live.

    On 127.0.0.1 it serves whoever sits at this machine. On any other address it asks for more: it prints a
    link that works once, and a new one when that was opened. Put TLS in front of it, or let a host serve the
    page instead: docs/PAGE.md.

    It reads DATABASE_URL, and changes nothing without --allow-changes. It runs until SIGTERM or Ctrl-C.
    Health checks ask for /alive.

    The exit code is 0, 2 when a setting cannot be used, and 3 when it cannot listen there.
    """
    settings = Settings.from_environment(uses=DATABASE)
    permission = Permission.CHANGE if allow_changes else Permission.READ
    listener = _listen(address, port)
    with listener:
        place = f"{url.rstrip('/')}/" if url else _url(listener)
        app, link = _guarded(settings, permission, _read_token(token_file), place, is_local=is_local(address))
        if stop_at_eof:
            stop_at_end_of_input()
        _serve(_with_liveness(app), listener, (lambda: webbrowser.open(link())) if is_opened else None)


def _guarded(
    settings: Settings, permission: Permission, token: str | None, url: str, *, is_local: bool
) -> tuple[ASGIApp, Callable[[], str]]:
    """The application, and the link to it."""
    if is_local and token is None:
        app = create_app(settings, lambda scope: permission if local_only(scope) else None)
        click.echo(f"execution-logger: the runs are at {url}")
        return app, lambda: url
    links: list[str] = []

    def announce(code: str) -> None:
        links[:] = [f"{url}login?code={code}"]
        click.echo(f"execution-logger: open the page with this link, which works once: {links[0]}")

    login = Login(permission, token, announce)
    login.renew()
    return login.wrap(create_app(settings, login.authorize)), lambda: links[0]


def _with_liveness(app: ASGIApp) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        is_asked = scope["type"] == "http" and scope["path"] == _ALIVE
        await (PlainTextResponse("ok") if is_asked else app)(scope, receive, send)

    return serve


def _listen(address: str, port: int) -> socket.socket:
    try:
        family, kind, *_, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ExecutionLoggerError(
            f"cannot listen on {printable(address)}:{port}: {error.strerror}; --port names another port"
        ) from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not listened on
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _read_token(file: Path | None) -> str | None:
    if file is None:
        return None
    token = file.read_text().strip()
    if len(token) < _MIN_TOKEN_CHARS or not token.isascii() or not token.isprintable():
        raise SettingsError(f"{file}: must hold a token of at least {_MIN_TOKEN_CHARS} ASCII characters")
    return token


def _serve(app: ASGIApp, listener: socket.socket, when_up: Callable[[], object] | None) -> None:
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # or a header could say that somebody sits at this machine
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    if when_up is not None:
        when_up()  # the socket listens already
    server.run(sockets=[listener])
