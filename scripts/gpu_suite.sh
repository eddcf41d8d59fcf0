#!/usr/bin/env bash
# All that a GPU is needed for, in one go of at most ten minutes: ceilings, tests, the A/A calibration, records at
# the papers' budgets. Results lie in build/gpu-suite; with OUT=folder an archive of them and the summary go there too.
#
# Sweeps go on where they were: STEPS="next-7b llava-1.5-7b" bash scripts/gpu_suite.sh
# STEPS=gate learns the device's noise and lets the gate look at itself and at a method that the device sleeps in.
# Runs with the Python at hand (PYTHON=…); packages it lacks are taken from wheels in .whl (scripts/carry_wheels.sh).
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
LIMIT=${LIMIT:-570} # seconds for everything
STEPS=${STEPS:-device tests aa next-7b llava-1.5-7b}
RESULTS=build/gpu-suite
mkdir -p "$RESULTS"
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 NO_COLOR=1 COLUMNS=160 HF_HUB_OFFLINE=1

if compgen -G ".whl/*.whl" >/dev/null; then
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target build/wheels .whl/*.whl
  export PYTHONPATH=$PYTHONPATH:$PWD/build/wheels
fi

hand_over() {
  [ -n "${OUT:-}" ] || return 0
  mkdir -p "$OUT"
  tar -czf "$OUT/gpu-suite.tar.gz" -C "$RESULTS" .
  cp "$RESULTS/summary.txt" "$OUT/"
}

step() { # name, seconds at most, command…
  local name=$1 most=$2 rest=$((LIMIT - SECONDS)) code
  shift 2
  [[ " $STEPS " == *" $name "* ]] || return 0
  [ "$rest" -ge 20 ] || { echo "== $name: no time left" | tee -a "$RESULTS/summary.txt"; return; }
  [ "$most" -le "$rest" ] || most=$rest
  echo "== $name (at most $most s)"
  timeout -k 5 "$most" "$@" >"$RESULTS/$name.log" 2>&1
  code=$?
  tail -n 40 "$RESULTS/$name.log"
  echo "== $name: exit $code after $SECONDS s in all" | tee -a "$RESULTS/summary.txt"
  hand_over
}

tokprof() { step "$1" "$2" "$PYTHON" -m tokprof "${@:3}"; }

tokprof device 60 device
step tests 180 "$PYTHON" -m pytest -q -m gpu tests/gpu -p no:cacheprovider
tokprof aa 70 run --model llava-next-7b --weights random --anyres fixed --method dense --timeout 20 --json "$RESULTS/aa.json"
step gate 560 "$PYTHON" -m benchmarks.gate_in_turns --model llava-next-7b --device cuda --same 3 --slow 4 --hidden 1 \
  --calibration "$RESULTS/calibration.json" --write "$RESULTS/gate.json"
tokprof next-7b 360 sweep recipes/h200.yaml --model llava-next-7b --out "$RESULTS/next-7b"
tokprof llava-1.5-7b 300 sweep recipes/h200.yaml --model llava-1.5-7b --out "$RESULTS/llava-1.5-7b"
cat "$RESULTS/summary.txt"
