#!/usr/bin/env bash
# Build the wheel, install it and what it requires, no extras, into an environment of its own, and use it there.
#   tools/check_wheel.sh [PYTHON [newest]]     versions are those of constraints.txt, or the newest there are
set -euo pipefail
unset PYTHONPATH  # the wheel is what is looked at
root=$(cd "$(dirname "$0")/.." && pwd)
python=${1:-python3}
constraints=(-c "$root/constraints.txt")
[ "${2:-}" = newest ] && constraints=()
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
bin=$work/env/bin
"$bin/pip" wheel --quiet --no-deps --wheel-dir "$work/dist" "$root"
begin=$SECONDS
"$bin/pip" install --quiet ${constraints[@]+"${constraints[@]}"} "$work"/dist/*.whl
echo "installed in $((SECONDS - begin)) s, $(du -sm "$work/env" | cut -f1) MB with pip, wheel $(du -k "$work"/dist/*.whl | cut -f1) kB"
mkdir "$work/empty"
cd "$work/empty"
"$bin/python" "$root/tools/check_base.py" "$root"
