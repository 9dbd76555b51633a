#!/usr/bin/env bash
# From a fresh clone to a running demonstration; options go to `execution-logger demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

if [ -z "$(find .venv/installed -newer pyproject.toml 2>/dev/null)" ] ||
    [ -n "$(find constraints.txt execution_logger -newer .venv/installed -not -name '*.pyc' -print -quit)" ]; then
    make_venv
    install --build-constraint constraints.txt '.[worker]'
    touch .venv/installed
fi
exec .venv/bin/execution-logger demo "$@"
