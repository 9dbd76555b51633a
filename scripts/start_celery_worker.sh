#!/usr/bin/env bash
# Starts the worker of this repository; options are Celery's, e.g. `--loglevel DEBUG`.
#
#   CELERY_BROKER_URL, DATABASE_URL      where the batches come from and go to
#   EXECUTION_LOGGER_QUEUE               the queue (default logs)
#   EXECUTION_LOGGER_WORKER_POOL         threads (default), prefork or solo
#   EXECUTION_LOGGER_WORKER_CONCURRENCY  batches written at once (default 4)
#
# and every other setting of the library: the application in tasks/ reads them.
set -euo pipefail
cd "$(dirname "$0")/.."
# An active virtual environment comes first, then the one that the other scripts make.
if [ -z "${VIRTUAL_ENV:-}" ] && [ -d .venv/bin ]; then PATH="$PWD/.venv/bin:$PATH"; fi

# exec: a service manager's SIGTERM must reach the worker itself.
exec celery -A tasks worker -Q "${EXECUTION_LOGGER_QUEUE:-logs}" --loglevel INFO "$@"
