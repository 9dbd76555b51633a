#!/usr/bin/env bash
# Starts Flower, the web page about Celery's workers and queues; options are Flower's.
#
#   CELERY_BROKER_URL, DATABASE_URL  as for the worker
#   FLOWER_ADDRESS, FLOWER_PORT      where it listens (default 127.0.0.1:5555)
set -euo pipefail
cd "$(dirname "$0")/.."
# An active virtual environment comes first, then the one that the other scripts make.
if [ -z "${VIRTUAL_ENV:-}" ] && [ -d .venv/bin ]; then PATH="$PWD/.venv/bin:$PATH"; fi

if ! python3 -c 'import flower' 2>/dev/null; then
    echo "$0: Flower is not installed here: pip install flower" >&2
    exit 1
fi

# --enable_events=False: otherwise Flower switches on the workers' events, which nearly halves what they write.
exec celery -A tasks flower --address="${FLOWER_ADDRESS:-127.0.0.1}" --port="${FLOWER_PORT:-5555}" \
    --enable_events=False "$@"
