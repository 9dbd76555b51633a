#!/usr/bin/env bash
# The one test command: from a fresh clone to all checks, on the wheel that users install.
#
#   scripts/test.sh                             everything
#   scripts/test.sh lint                        the style, the types, the direction of imports
#   scripts/test.sh unit|integration [options]  the tests, with options for pytest
#   scripts/test.sh lowest [options]            the unit tests, with every dependency at its lowest version
#   scripts/test.sh pythons [options]           the unit tests on every other Python that this machine has
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

prepare() {
    make_venv
    install --group test --group lint --group benchmark
    rm -rf dist
    .venv/bin/python -m build --wheel --no-isolation --quiet
    install "$(echo dist/*.whl)[worker]"
    # The same version may be there with other files, or as an editable install.
    install --force-reinstall --no-deps dist/*.whl
    touch .venv/installed
    export PATH="$PWD/.venv/bin:$PATH"
}

lint() {
    ruff check .
    ruff format --check .
    mypy
    python scripts/type_check_examples.py
    lint-imports
    shellcheck --external-sources scripts/*.sh .ci/run
    hadolint Dockerfile
    check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.dev.yml
    if command -v systemd-analyze >/dev/null || apt_install systemd; then
        scripts/lint_units.sh
    else
        echo "$0: there is no systemd-analyze here: the units are not checked" >&2
    fi
    lint_alerts
}

# No package index has promtool; Debian's package `prometheus` does. Unit tests check the names in any case.
lint_alerts() {
    command -v promtool >/dev/null || return 0
    promtool check config deploy/prometheus/prometheus.yml
    promtool test rules deploy/prometheus/alerts_test.yml
}

# Without the servers the tests use Docker, or say what is missing.
install_servers() {
    local missing=()
    command -v redis-server >/dev/null || missing+=(redis-server)
    command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ||
        missing+=(postgresql)
    command -v pgbouncer >/dev/null || missing+=(pgbouncer)
    command -v openssl >/dev/null || missing+=(openssl)
    [ "${#missing[@]}" = 0 ] || apt_install "${missing[@]}" || true
}

# Unit tests keep a core each busy, integration tests mostly wait for processes.
side_by_side=(--dist worksteal --durations 10)

# The unit tests in an environment of their own: its name, its Python, its constraints, pytest's options.
unit_tests_elsewhere() {
    local folder=".venv/$1" python="$2" constraints="$3"
    shift 3
    [ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints" \
        --group test --group benchmark "$(echo dist/*.whl)[worker,flower,prometheus]"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/*.whl
    "$folder/bin/pytest" tests/unit -n auto "${side_by_side[@]}" "$@"
}

lowest() {
    python scripts/lowest.py >.venv/lowest.txt
    unit_tests_elsewhere lowest python .venv/lowest.txt "$@"
}

pythons() {
    local python version own
    own="$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    for version in 3.11 3.12 3.13 3.14; do
        python="$(compgen -G "$HOME/.pyenv/versions/$version.*/bin/python" | tail -n 1 || true)"
        [ -n "$python" ] || python="$(command -v "python$version" || true)"
        [ -n "$python" ] && [ "$version" != "$own" ] || continue
        echo "Python $version"
        unit_tests_elsewhere "python$version" "$python" constraints.txt "$@"
    done
}

part="${1:-all}"
[ $# = 0 ] || shift
case "$part" in
    all | lint | unit | integration | lowest | pythons) prepare ;;
    *) fail "there is no part '$part': lint, unit, integration, lowest or pythons" ;;
esac
case "$part" in all | lint) lint ;; esac
case "$part" in lowest | pythons) "$part" "$@" ;; esac
case "$part" in all | unit) pytest tests/unit -n auto "${side_by_side[@]}" "$@" ;; esac
case "$part" in all | integration) install_servers && pytest tests/integration -n 4 "${side_by_side[@]}" "$@" ;; esac
