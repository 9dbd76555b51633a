#!/usr/bin/env bash
# From a fresh clone to a running demonstration; options go to `execution-logger demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

if ! is_installed .venv/installed; then
    echo "Installing into .venv ..." >&2
    make_venv
    install --build-constraint constraints.txt '.[worker,ui]'
    touch .venv/installed
fi
exec .venv/bin/execution-logger demo "$@"
