# shellcheck shell=bash
# Sourced by the scripts that need the project installed: they share one .venv.

fail() {
    echo "$0: $*" >&2
    exit 1
}

# Makes .venv with the pinned pip, unless it is there and works (its scripts do not after a move).
make_venv() {
    command -v python3 >/dev/null || fail "python3 is not installed; Python 3.11 or later is needed"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$(command -v python3) is $(python3 --version); Python 3.11 or later is needed"
    if ! .venv/bin/pip --version >/dev/null 2>&1; then
        rm -rf .venv
        # Debian keeps the module venv in a package of its own.
        python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv ||
            fail "Python's module venv is missing: apt-get install python3-venv"
        python3 -m venv .venv
    fi
    install pip
}

# Whether .venv works, and holds the sources as they are: whoever installs them touches the marker, which stands
# for the files that are named besides, too.
is_installed() {
    local marker="$1"
    shift
    [ -e "$marker" ] && .venv/bin/execution-logger --version >/dev/null 2>&1 && [ -z "$(
        find pyproject.toml constraints.txt execution_logger "$@" \
            -newer "$marker" -not -path '*/__pycache__*' -print -quit
    )" ]
}

# pip install, in the versions that constraints.txt pins.
install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@"
}

# apt-get install; fails where that cannot be had. Services stay as they are: policy-rc.d is
# Debian's way to keep a package from starting its own.
apt_install() (
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
)
