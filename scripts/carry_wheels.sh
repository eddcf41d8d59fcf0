#!/usr/bin/env bash
# Wheels of what a GPU machine without network may lack beside torch and transformers, into .whl for gpu_suite.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf .whl
"${PYTHON:-python3}" -m pip download -q -d .whl --only-binary=:all: --implementation cp --python-version "${FOR:-3.12}" \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
  nvidia-ml-py psutil pydantic pytest typer
du -sh .whl
