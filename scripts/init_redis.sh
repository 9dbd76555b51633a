#!/usr/bin/env bash
# Makes a Redis fit to hold the queue: nothing is lost at a restart, or when it is full.
#
#   scripts/init_redis.sh [--dry-run] [--maxmemory 512mb]
#
#   CELERY_BROKER_URL  which Redis (default redis://localhost:6379/0); rediss:// is TLS
#
# It sets what differs with CONFIG SET, and writes it to the server's redis.conf (CONFIG REWRITE), so
# that a restart keeps it. It may be run again. The exit code is 1 when something could not be set.
set -euo pipefail

usage() {
    echo "usage: $0 [--dry-run] [--maxmemory BYTES]" >&2
    exit 2
}

fail() {
    echo "$0: $*" >&2
    exit 1
}

dry_run=false
maxmemory=
while [ $# -gt 0 ]; do
    case "$1" in
        --dry-run) dry_run=true ;;
        --maxmemory) [ $# -gt 1 ] || usage && maxmemory="$2" && shift ;;
        *) usage ;;
    esac
    shift
done

# The number of bytes of a size as redis.conf takes it, which is how Redis shows it.
bytes() {
    python3 -c '
import re, sys
found = re.fullmatch(r"(\d+)(b|kb?|mb?|gb?)?", sys.argv[1].lower()) or sys.exit(1)
unit = found[2] or "b"
base = 1024 if len(unit) == 2 else 1000
print(int(found[1]) * (1 if unit == "b" else base ** (" kmg".index(unit[0]))))
' "$1" || fail "--maxmemory $1: must be a size such as 512mb"
}

if [ -n "$maxmemory" ]; then maxmemory=$(bytes "$maxmemory"); fi
command -v redis-cli >/dev/null || fail "redis-cli is not installed: apt-get install redis-tools"
url="${EXECUTION_LOGGER_BROKER_URL:-${CELERY_BROKER_URL:-redis://localhost:6379/0}}"
{
    read -r scheme && read -r host && read -r port && read -r user && read -r password && read -r ca_certs
} < <(URL="$url" python3 -c '
import os
from urllib.parse import parse_qs, unquote, urlsplit
url = urlsplit(os.environ["URL"])
print(url.scheme, url.hostname or "localhost", url.port or 6379, sep="\n")
print(unquote(url.username or ""), unquote(url.password or ""), sep="\n")
print(parse_qs(url.query).get("ssl_ca_certs", [""])[0])
' 2>/dev/null) || fail "CELERY_BROKER_URL=(hidden): must be a URL such as redis://:password@host:6379/0"
options=(-h "$host" -p "$port" --no-auth-warning)
case "$scheme" in
    redis) ;;
    rediss) options+=(--tls) ;;
    *) fail "CELERY_BROKER_URL names $scheme://: this script needs redis:// or rediss://, behind Sentinel the master's" ;;
esac
[ -z "$ca_certs" ] || options+=(--cacert "$ca_certs")
[ -z "$user" ] || options+=(--user "$user")
# In the environment, because a command line can be read by every user of the machine.
[ -z "$password" ] || export REDISCLI_AUTH="$password"

# redis-cli ends with 0 when Redis answers with an error.
redis() {
    local answer
    answer=$(redis-cli "${options[@]}" "$@" 2>&1) || fail "$host:$port: $answer"
    printf '%s\n' "$answer"
}

answer=$(redis PING)
[ "$answer" = PONG ] || fail "$host:$port: $answer"
changed=false
failed=false

# set_to NAME VALUE: shows the value, or what becomes of it.
set_to() {
    local answer value
    answer=$(redis CONFIG GET "$1")
    value=$(sed -n 2p <<<"$answer")
    if [ "$(sed -n 1p <<<"$answer")" != "$1" ]; then
        echo "$1: cannot be read ($answer); set it to $2 where this Redis is configured" >&2
        failed=true
    elif [ "$value" = "$2" ]; then
        echo "$1 $2"
    elif "$dry_run"; then
        echo "$1 $value -> $2 (not set: --dry-run)"
    elif answer=$(redis CONFIG SET "$1" "$2") && [ "$answer" = OK ]; then
        echo "$1 $value -> $2"
        changed=true
    else
        echo "$1 $value: cannot be set ($answer); set it to $2 where this Redis is configured" >&2
        failed=true
    fi
}

set_to appendonly yes
set_to appendfsync everysec
set_to maxmemory-policy noeviction
[ -z "$maxmemory" ] || set_to maxmemory "$maxmemory"

# Each time, because an earlier attempt may have failed; one whose options are all on its command line has no file.
file=$(redis INFO server | tr -d '\r' | sed -n 's/^config_file://p')
if [ -n "$file" ] && ! "$dry_run"; then
    answer=$(redis CONFIG REWRITE)
    if [ "$answer" = OK ]; then
        echo "written to $file"
    else
        echo "$0: cannot be written to $file ($answer): write it there, or the next restart forgets it" >&2
        failed=true
    fi
elif "$changed"; then
    echo "$0: this Redis has no redis.conf: its next restart forgets what was set here, unless you add it" \
        "to the options that it is started with" >&2
    failed=true
fi
! "$failed"
