#!/usr/bin/env bash
# Starts the worker of this repository; options are Celery's, e.g. `--loglevel DEBUG`.
#
#   EXECUTION_LOGGER_WORKER_POOL         threads (default), prefork or solo
#   EXECUTION_LOGGER_WORKER_CONCURRENCY  batches written at once (default 4)
#   EXECUTION_LOGGER_QUEUE               the queue (default logs)
#   CELERY_BROKER_URL, DATABASE_URL      where the batches come from and go to
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -d .venv/bin ]; then PATH="$PWD/.venv/bin:$PATH"; fi

# exec: a service manager's SIGTERM must reach the worker itself.
exec celery -A tasks worker \
    -Q "${EXECUTION_LOGGER_QUEUE:-logs}" \
    -P "${EXECUTION_LOGGER_WORKER_POOL:-threads}" \
    -c "${EXECUTION_LOGGER_WORKER_CONCURRENCY:-4}" \
    --loglevel "${EXECUTION_LOGGER_WORKER_LOGLEVEL:-INFO}" \
    --without-gossip --without-mingle \
    "$@"
