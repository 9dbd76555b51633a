#!/usr/bin/env bash
# The one test command: from a fresh clone to all checks, on the wheel that users install.
#
#   scripts/test.sh                    everything
#   scripts/test.sh lint|unit|integration [pytest options]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

prepare() {
    make_venv
    install --group test --group lint --group benchmark
    rm -rf dist
    .venv/bin/python -m build --wheel --no-isolation >/dev/null
    wheel=$(echo dist/*.whl)
    install "${wheel}[worker]"
    # The same version may have been installed before, with other files or as an editable install.
    install --force-reinstall --no-deps "$wheel"
    touch .venv/installed
    export PATH="$PWD/.venv/bin:$PATH"
}

lint() {
    ruff check .
    ruff format --check .
    mypy
    lint-imports
    shellcheck --external-sources scripts/*.sh .ci/run
    hadolint Dockerfile
    check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
}

unit() {
    pytest tests/unit "$@"
}

integration() {
    ensure_servers
    pytest tests/integration "$@"
}

# Without them the tests use Docker, or say what is missing.
ensure_servers() {
    local missing=()
    command -v redis-server >/dev/null || missing+=(redis-server)
    compgen -c | grep -qx initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    [ "${#missing[@]}" = 0 ] || apt_install "${missing[@]}" || true
}

case "${1:-all}" in
    lint | unit | integration)
        prepare
        "$@"
        ;;
    all)
        prepare
        lint
        unit
        integration
        ;;
    *)
        fail "unknown part '$1'; the parts are lint, unit and integration"
        ;;
esac
