"""Print .env.example: what docker-compose.yml needs, and every setting with its default and its meaning."""  # noqa: INP001 - run by file

import shlex
import sys
import textwrap

from execution_logger.settings import describe

_WIDTH = 100

_HEAD = """\
# Copy to .env and set the three passwords; docker compose reads it, and hands it to every service.

# The passwords become parts of URLs: letters and digits only, e.g. of `openssl rand -hex 24`.
POSTGRES_PASSWORD=
REDIS_PASSWORD=
# Who may see Flower's page, as user:password.
FLOWER_BASIC_AUTH=

# Ports of 127.0.0.1; the last two are those of docker-compose.dev.yml.
API_PORT=8000
FLOWER_PORT=5555
UI_PORT=8420
REDIS_PORT=6379
POSTGRES_PORT=5432

# How much worker and Beat say: debug, info, warning, error or critical.
LOG_LEVEL=info

# Every setting of the library, with its default. Of several names the first one wins. Broker, database and
# the two directories are set by docker-compose.yml itself.
"""


def example() -> str:
    """The whole file."""
    parts = [_HEAD]
    for variables, default, meaning in describe():
        name, _, others = variables.partition(" / ")
        text = f"{meaning} Also: {others.replace(' / ', ', ')}." if others else meaning
        lines = [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]
        # Quoted as for a shell, which systemd and compose understand, too.
        parts.append("\n".join([*lines, f"#{name}={default and shlex.quote(default)}\n"]))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(example())
