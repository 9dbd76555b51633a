#!/usr/bin/env bash
# Checks the systemd units of deploy/systemd as systemd reads them, and how exposed they are. Needs no
# running systemd, and none of the programs that the units start.
#
#   UNITS          the folder (default deploy/systemd)
#   MAX_EXPOSURE   the worst score of `systemd-analyze security` that passes, in tenths (default 20)
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0
for unit in "${UNITS:-deploy/systemd}"/*.service; do
    copy=$folder/${unit##*/}
    # It would complain that a program is not there, and it is not.
    sed 's#^ExecStart=[^ ]*#ExecStart=/bin/true#' "$unit" >"$copy"
    # A key that it does not know is a line, and no exit code.
    if ! said=$(systemd-analyze verify "$copy" 2>&1) || [ -n "$said" ]; then
        echo "$unit: ${said:-systemd cannot read it}" >&2
        failed=1
    fi
    if ! systemd-analyze security --offline=true --threshold="${MAX_EXPOSURE:-20}" --no-pager "$copy" >"$folder/report" 2>&1
    then
        echo "$unit: $(tail -n 1 "$folder/report")" >&2
        failed=1
    fi
done
exit "$failed"
