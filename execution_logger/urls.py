"""What the URLs of settings must be to lead anywhere, as far as they tell by themselves.

Every role asks here when it starts. So nothing is used of kombu and SQLAlchemy, which a host loads in the
background; each URL is read as they read it.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from execution_logger.text import each_url

DATABASE_EXAMPLES = "postgresql://user:password@host/database or sqlite:///file"
_BROKER_EXAMPLES = "redis://, rediss://, sentinel://, amqp://, amqps:// or embedded:///folder"
_RESULTS_EXAMPLES = "redis://, rediss://, sentinel:// or file:///folder"

_SOCKET = "redis+socket"
_REDIS = ("redis", "rediss", "sentinel")
_BROKERS = (*_REDIS, _SOCKET, "amqp", "amqps", "pyamqp", "embedded")
_RESULTS = (*_REDIS, _SOCKET, "file")
_DATABASES = ("postgresql", "postgres", "sqlite")
_FOLDERS = ("embedded", _SOCKET)
_SIMILAR = 0.7
_MOST_SIMILAR = 0.8
"""Result backends of hosts, which may be any of Celery's or of their own making, are not that similar."""

# As SQLAlchemy divides it: a password may hold a `#`, and a host is no part of what comes behind it.
_DATABASE_URL = re.compile(
    r"[\w+]+://(?P<user>[^:/]*(?::[^@]*)?@)?(?P<host>\[[^/?]+\]|[^/:?]+)?(?::(?P<port>[^/?]*))?"
    r"(?:/[^?]*)?(?:\?(?P<query>.*))?"
)


def broker_problem(urls: str, *, in_code: bool = False) -> str | None:
    """Why a broker's URL, or one of several with `;` between them, leads nowhere; None when it does not.

    Args:
        urls: of a broker.
        in_code: it comes from code, where memory:// has both ends in one process, a test for instance.
    """
    allowed = (*_BROKERS, "memory") if in_code else _BROKERS
    parts = [each.partition("://")[::2] for each in urls.split(";") if "://" in each]
    return _first(
        _scheme_problem(scheme.lower(), allowed, _BROKER_EXAMPLES) or _place_problem(scheme.lower(), place)
        for scheme, place in parts
    )


def results_problem(urls: str, *, is_ours: bool = False) -> str | None:
    """The same of a result backend's URL; one of another kind is the host's own, for its own tasks.

    Args:
        urls: of a result backend.
        is_ours: it is for the confirmations and nothing else.
    """
    parts = [each.partition("://")[::2] for each in each_url(urls)]
    return _first(_result_problem(scheme.lower(), place, is_ours=is_ours) for scheme, place in parts)


def database_problem(url: str) -> str | None:
    """The same of a database's URL, written for any driver."""
    scheme = url.partition("://")[0].lower()
    if problem := _scheme_problem(scheme, _DATABASES, DATABASE_EXAMPLES, base=scheme.partition("+")[0]):
        return problem
    match = _DATABASE_URL.match(url)
    if match is None or not (match["port"] is None or match["port"].isdecimal()):
        return f"cannot be read; must be {DATABASE_EXAMPLES}"
    if not scheme.startswith("sqlite"):
        return _parameter_problem(_parameters(match["query"] or ""))
    if match["user"] or match["host"] or match["port"]:
        return "a file stands behind three slashes, sqlite:///file, or four, sqlite:////folder/file"
    return None


def _first(problems: Iterable[str | None]) -> str | None:
    return next(filter(None, problems), None)


def _scheme_problem(
    scheme: str, allowed: Iterable[str], examples: str, base: str | None = None
) -> str | None:
    if (scheme if base is None else base) in allowed:
        return None
    close = get_close_matches(scheme, allowed, n=1, cutoff=_SIMILAR)
    hint = f"; did you mean {close[0]}://?" if close else ""
    return f"{scheme}:// is not supported: must be {examples}{hint}"


def _result_problem(scheme: str, place: str, *, is_ours: bool) -> str | None:
    if scheme in _RESULTS:
        return _place_problem(scheme, place.rstrip("/"))  # which kombu does not allow, and Celery does
    base = scheme.partition("+")[0]
    is_meant = base in _RESULTS or get_close_matches(scheme, _RESULTS, n=1, cutoff=_MOST_SIMILAR)
    return _scheme_problem(scheme, _RESULTS, _RESULTS_EXAMPLES) if is_ours or is_meant else None


def _place_problem(scheme: str, place: str) -> str | None:
    try:
        parts = urlsplit(f"http://{place}")  # as kombu reads any
        _ = parts.port
    except ValueError:
        return (
            "cannot be read: a port is a number, and characters such as / and # in a password are "
            "percent-encoded"
        )
    if scheme in _FOLDERS and (parts.hostname not in (None, "localhost") or not parts.path):
        return f"a path stands behind three slashes: {scheme}:///folder"
    if scheme in _REDIS and not _is_number(parts):
        return f"what stands behind the host is the number of Redis' database: {scheme}://host/0"
    return None


def _is_number(parts: SplitResult) -> bool:
    number = unquote(parts.path).removeprefix("/").removeprefix("/")
    return not number or number.isdecimal()


_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# As SQLAlchemy writes it for asyncpg, JDBC, and node-postgres.
_OTHER_SSL_MODES = {
    "true": "require", "1": "require", "no-verify": "require", "false": "disable", "0": "disable"
}  # fmt: skip
LIBPQ_PARAMETERS = frozenset({
    # read by asyncpg (its `connect()` documents them) ...
    "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "passfile", "krbsrvname",
    # ... or by the server
    "application_name", "options",
})  # fmt: skip
"""Those that have a meaning here."""
_SIMILAR_PARAMETER = 0.85


def _parameters(query: str) -> dict[str, str]:
    given: dict[str, list[str]] = {}
    for name, value in parse_qsl(query):
        given.setdefault(name, []).append(value)
    return {name: ",".join(values) for name, values in given.items()}


def ssl_mode(query: Mapping[str, str]) -> str | None:
    """The `sslmode` that the parameters of a URL ask for, also as `ssl`; None where they ask for none."""
    mode = query.get("ssl", query.get("sslmode"))
    return mode and _OTHER_SSL_MODES.get(mode.lower(), mode.lower())


def _parameter_problem(query: Mapping[str, str]) -> str | None:
    """What cannot be used of the parameters of a PostgreSQL.

    URLs are shared with other programs, whose parameters mean nothing here and are left out: Prisma's
    `schema` and `connection_limit`, `channel_binding` and keepalives of libpq, and so on. But who writes
    `sslmod=require` must not get a connection without TLS.
    """
    if (mode := ssl_mode(query)) and mode not in _SSL_MODES:
        return f"sslmode={mode!r} must be one of {', '.join(_SSL_MODES)}"
    if not (seconds := query.get("connect_timeout", "0")).removeprefix("-").isdecimal():
        return f"connect_timeout={seconds!r} must be a whole number of seconds"
    for name in sorted(query.keys() - LIBPQ_PARAMETERS - {"ssl"}):
        close = get_close_matches(name.lower(), LIBPQ_PARAMETERS, n=1, cutoff=_SIMILAR_PARAMETER)
        if close and name.lower().startswith("ssl"):
            return f"there is no parameter {name}; did you mean {close[0]}?"
    return None
