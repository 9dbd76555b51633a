#!/usr/bin/env bash
# Writes constraints.txt anew: the newest versions of everything that pyproject.toml asks for.
# Run it on the oldest Python that is supported, which needs the most packages.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --upgrade pip
"$folder/bin/pip" install --quiet '.[worker]' --group test --group integration-test --group lint --group docs --group benchmark --group install --group page
"$folder/bin/pip" uninstall --quiet --yes celery-execution-logger
"$folder/bin/pip" freeze --all --exclude setuptools >constraints.txt
