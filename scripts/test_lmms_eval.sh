#!/usr/bin/env bash
# lmms-eval from end to end, on a CPU and without its torchvision: the package without its dependencies, and the few
# that a local task imports, in an environment of its own that borrows everything else from ours.
#   scripts/test_lmms_eval.sh PYTHON [FOLDER]
set -euo pipefail

python=$1
folder=${2:-build/lmms-eval}
borrowed=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

"$python" -m venv "$folder"
own=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$borrowed" > "$own/borrowed.pth"
install() { "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" 2> >(grep -v "which is not installed" >&2); }
install --no-deps "lmms-eval==0.7.3"
install evaluate loguru pytablewriter pytz sacrebleu tenacity
install --no-deps --editable .
"$folder/bin/python" -m pip list --disable-pip-version-check --path "$own"
"$folder/bin/python" -m pytest -rA tests/accuracy/test_lmms_eval.py
