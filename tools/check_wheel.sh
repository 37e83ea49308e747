#!/usr/bin/env bash
# Build the wheel, install it into an environment of its own, compress and decompress from another folder.
#   tools/check_wheel.sh [PYTHON]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${1:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
bin=$work/env/bin
"$bin/pip" install --quiet build
"$bin/python" -m build --wheel --outdir "$work/dist" "$root" >/dev/null
"$bin/pip" install --quiet -c "$root/constraints.txt" "$work"/dist/*.whl
cd "$work"
"$bin/python" -c "
from PIL import Image
Image.effect_mandelbrot((300, 200), (-2, -1.2, 1, 1.2), 60).convert('RGB').save('picture.png')"
"$bin/nlaic-compress" picture.png -q 60
"$bin/nlaic-info" picture.nlaic
"$bin/nlaic-decompress" picture.nlaic -o back.png
"$bin/python" -c "
from PIL import Image
import nlaic
assert Image.open('back.png').size == (300, 200)
print('wheel of nlaic', nlaic.__version__, 'works in', nlaic.__file__)"
