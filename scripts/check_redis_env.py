#!/usr/bin/env python3
"""Says which Redis this environment names, whether it answers, and whether it is fit to hold the queue.

scripts/check_redis_env.py    CELERY_BROKER_URL is read from the environment, as everywhere else

The exit code is 1 when Redis cannot be reached, or has a setting that loses what is queued.
"""

import sys

from project import use_environment

use_environment()

import click  # noqa: E402 - it may need the other environment

from execution_logger.broker.confirmations import result_backend_url  # noqa: E402
from execution_logger.broker.connection import public_url  # noqa: E402
from execution_logger.broker.queue import is_redis, open_channel, queue_length  # noqa: E402
from execution_logger.errors import ExecutionLoggerError  # noqa: E402
from execution_logger.settings import Settings  # noqa: E402

NOTHING = "-"


def main() -> int:
    """Print what there is to know; the exit code."""
    settings = Settings.from_environment()
    say("broker", public_url(settings.broker_url))
    say("result backend", public_url(result_backend_url(settings) or NOTHING))
    with open_channel(settings) as channel:
        if not is_redis(channel):
            say("", "no Redis: there is nothing to check")
            return 0
        info = channel.client.info()
    length = queue_length(settings)
    say("Redis", f"{info['redis_version']}, up for {info['uptime_in_seconds'] / 3600:.1f} h")
    say("queue", f"{settings.queue}: {length.waiting} waiting, {length.in_flight} in flight")
    limit = f" of {mb(info['maxmemory'])}" if info["maxmemory"] else ", no limit"
    say("memory", mb(info["used_memory"]) + limit)
    say("when full", info["maxmemory_policy"])
    say("append-only file", "on" if info["aof_enabled"] else "off")
    problems = problems_of(info)
    for problem in problems:
        click.echo(f"! {problem}", err=True)
    return 1 if problems else 0


def problems_of(info: dict[str, object]) -> list[str]:
    """What would lose what is queued, each with what to do."""
    problems = []
    if info["maxmemory_policy"] != "noeviction":
        problems.append(
            f"a full Redis throws queued batches away ({info['maxmemory_policy']}): "
            "set maxmemory-policy noeviction, or run scripts/init_redis.sh"
        )
    if not info["aof_enabled"]:
        problems.append("a restart can lose what is queued: set appendonly yes, or run scripts/init_redis.sh")
    if info.get("role") != "master":
        problems.append("this Redis is a replica and takes no batches: name the master, or the Sentinels")
    return problems


def say(name: str, value: str) -> None:
    """Print one fact."""
    click.echo(f"{name:18}{value}")


def mb(size_bytes: object) -> str:
    """A size for people."""
    return f"{int(str(size_bytes)) / 1e6:.1f} MB"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ExecutionLoggerError as error:
        sys.exit(f"! {error}")
