#!/usr/bin/env bash
# Starts one of the example hosts with all its processes, in this terminal, until Ctrl-C:
#
#   bash examples/start.sh analysis_host
#
# Without a server, in build/analysis_host, unless the environment names some:
#
#   CELERY_BROKER_URL=redis://localhost:6379/0 CELERY_RESULT_BACKEND=redis://localhost:6379/1 \
#       DATABASE_URL=postgresql://user:password@localhost/database bash examples/start.sh analysis_host
#
# Names of lines of its Procfile behind it start these alone.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

host="${1:-}"
[ -f "examples/$host/Procfile" ] ||
    fail "there is no example host '$host': $(cd examples && echo */Procfile | sed 's,/Procfile,,g')"
shift

DATA_DIRECTORY="$(realpath -m "${DATA_DIRECTORY:-build/$host}")"
# A folder stands in a URL: of its characters only the percent sign means something else there.
in_url="${DATA_DIRECTORY//%/%25}"
mkdir -p "$DATA_DIRECTORY/results"
export DATA_DIRECTORY
export CELERY_BROKER_URL="${CELERY_BROKER_URL:-embedded://$in_url/broker}"
export CELERY_RESULT_BACKEND="${CELERY_RESULT_BACKEND:-file://$in_url/results}"
export DATABASE_URL="${DATABASE_URL:-sqlite:///$in_url/host.db}"
export EXECUTION_LOGGER_JOURNAL_DIRECTORY="${EXECUTION_LOGGER_JOURNAL_DIRECTORY:-$DATA_DIRECTORY/journal}"
export EXECUTION_LOGGER_SERVICE_DIRECTORY="${EXECUTION_LOGGER_SERVICE_DIRECTORY:-$DATA_DIRECTORY/services}"
export PORT="${PORT:-8000}"
export PYTHONPATH="$PWD/examples${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

requirements="examples/$host/requirements.txt"
if ! is_installed ".venv/installed-$host" "$requirements"; then
    echo "Installing into .venv ..." >&2
    make_venv
    install --build-constraint constraints.txt '.[worker,ui,prometheus]' --requirement "$requirements"
    touch .venv/installed ".venv/installed-$host"
fi
export PATH="$PWD/.venv/bin:$PATH"
execution-logger db upgrade
procfile="$PWD/examples/$host/Procfile"
runner="$PWD/examples/run_procfile.py"
# Celery puts the current folder first on its path: the processes are to find what is installed.
cd "$DATA_DIRECTORY"
exec python "$runner" "$procfile" "$@"
