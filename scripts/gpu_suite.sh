#!/usr/bin/env bash
# All that a GPU is needed for, in one go of at most ten minutes: tests, records at the papers' budgets,
# the A/A calibration, ceilings. Results under $OUT (default: build/gpu-suite).
#
# Runs with the Python at hand (PYTHON=…); packages it lacks are taken from wheels in .whl, if there are any.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-build/gpu-suite}
PYTHON=${PYTHON:-python3}
LIMIT=${LIMIT:-560} # seconds for everything
mkdir -p "$OUT"
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 NO_COLOR=1 HF_HUB_OFFLINE=1

if compgen -G ".whl/*.whl" >/dev/null; then
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/tokprof-wheels .whl/*.whl
  export PYTHONPATH=$PYTHONPATH:/tmp/tokprof-wheels
fi

started=$SECONDS
left() { echo $((LIMIT - (SECONDS - started))); }
step() { # name, seconds at most, command…
  local name=$1 most=$2
  shift 2
  local rest
  rest=$(left)
  [ "$rest" -lt 20 ] && { echo "== $name: no time left" | tee -a "$OUT/summary.txt"; return; }
  [ "$most" -gt "$rest" ] && most=$rest
  echo "== $name (at most $most s)"
  timeout "$most" "$@" >"$OUT/$name.log" 2>&1
  echo "== $name: exit $? after $((SECONDS - started)) s in all" | tee -a "$OUT/summary.txt"
  tail -n 40 "$OUT/$name.log"
}

METHODS=${METHODS:-$("$PYTHON" -c 'from tokprof import policies; print(",".join(n for n in policies.names() if n not in ("dense", "dycoke")))')}
step device 60 "$PYTHON" -m tokprof device
step tests 150 "$PYTHON" -m pytest -q -m gpu tests/gpu -p no:cacheprovider
step aa-next-7b 60 "$PYTHON" -m tokprof run --model llava-next-7b --weights random --anyres fixed --method dense --json "$OUT/aa-next-7b.json"
step next-7b 240 "$PYTHON" -m tokprof sweep recipes/h200.yaml --model llava-next-7b --out "$OUT/next-7b"
step llava-1.5-7b 200 "$PYTHON" -m tokprof sweep recipes/h200.yaml --model llava-1.5-7b --out "$OUT/llava-1.5-7b"
cat "$OUT/summary.txt"
