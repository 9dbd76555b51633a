#!/usr/bin/env bash
# From a fresh clone to a running demonstration; options go to `execution-logger demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

# Whether .venv works, and holds the sources as they are: both scripts that install touch .venv/installed.
is_installed() {
    [ -e .venv/installed ] && .venv/bin/execution-logger --version >/dev/null 2>&1 && [ -z "$(
        find pyproject.toml constraints.txt execution_logger \
            -newer .venv/installed -not -path '*/__pycache__*' -print -quit
    )" ]
}

if ! is_installed; then
    echo "Installing into .venv ..." >&2
    make_venv
    install --build-constraint constraints.txt '.[worker,ui]'
    touch .venv/installed
fi
exec .venv/bin/execution-logger demo "$@"
