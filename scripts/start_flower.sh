#!/usr/bin/env bash
# Starts Flower, the web page about Celery's workers and queues; options are Flower's.
#
#   FLOWER_ADDRESS, FLOWER_PORT  where it listens (default 127.0.0.1:5555)
#   CELERY_BROKER_URL            the broker that it looks at
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -d .venv/bin ]; then PATH="$PWD/.venv/bin:$PATH"; fi

if ! python3 -c 'import flower' 2>/dev/null; then
    echo "$0: Flower is not installed: pip install flower" >&2
    exit 1
fi

# --enable_events=False: otherwise it switches on events in the workers, which nearly halves what they write.
exec celery -A tasks flower \
    --address="${FLOWER_ADDRESS:-127.0.0.1}" \
    --port="${FLOWER_PORT:-5555}" \
    --enable_events=False \
    "$@"
