#!/usr/bin/env bash
# Starts Celery Beat, which sends the scheduled jobs to the queue; options are those of `execution-logger beat`.
#
#   CELERY_BROKER_URL, DATABASE_URL     as for the worker
#   EXECUTION_LOGGER_SERVICE_DIRECTORY  where the lock is that keeps a second one away
#
# One is enough for a queue, on one machine.
set -euo pipefail
cd "$(dirname "$0")/.."
# An active virtual environment comes first, then the one that the other scripts make.
if [ -z "${VIRTUAL_ENV:-}" ] && [ -d .venv/bin ]; then PATH="$PWD/.venv/bin:$PATH"; fi

if ! command -v execution-logger >/dev/null; then
    echo "$0: execution-logger is not installed here: pip install '.[worker]'" >&2
    exit 1
fi

# exec: a service manager's SIGTERM must reach Beat itself.
exec execution-logger beat "$@"
