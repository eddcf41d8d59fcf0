"""Kill a sweep twenty times at random moments, resume it, and compare with one that was left alone.

    python benchmarks/sweep_kill.py [--kills 20] [--seed 0]

Each kill is a SIGKILL to the whole process, without warning. At the end the two folders have to hold
the same cells, each once, with the same exact quantities (tokens per layer, FLOPs, KV bytes, generated
tokens); times differ, as they do between any two runs. Exit code 1 if anything does not hold.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tokprof.record import RecordFile, RunRecord, read_records

RECIPE = """\
title: Something to kill
model: demo
methods:
  - {method: fastv, keep: 0.5}
  - {method: fastv, keep: 0.25}
  - {method: todre, keep: 0.25}
  - {method: v2drop, keep: 0.25}
  - {method: visionzip, keep: 0.25}
  - {method: globalcom2, keep: 0.25}
  - {method: todre, exit_layer: 30}
workloads:
  - {new_tokens: 4}
  - {new_tokens: 4, batch: 2}
measurement: {rounds: 2, warmup_rounds: 1}
"""  # the last method asks for a layer that the demo does not have: failures have to survive as well


def start(recipe: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tokprof", "sweep", str(recipe), "--out", str(folder), "--format", "json"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


def contents(folder: Path) -> dict[str, Any]:
    """Cell → its exact quantities; a file that cannot be read or holds two cells is an error here."""
    found: dict[str, Any] = {}
    for path in files(folder):
        file = read_records(path)
        assert len(file.records) + len(file.failures) == 1, f"{path} holds {file}"
        for record in file.records:
            assert record.key == path.stem and record.key not in found
            found[record.key] = exact(record)
        for failure in file.failures:
            assert failure.key == path.stem and failure.key not in found
            found[failure.key] = failure.reason
    return found


def exact(record: RunRecord) -> tuple[Any, ...]:
    arm = record.policy
    kv_bytes = arm.memory.kv_bytes if arm.memory else None
    return record.cell, arm.tokens, arm.flops, kv_bytes, arm.generated, record.inputs.sha256


def kill_again_and_again(recipe: Path, folder: Path, kills: int, draw: random.Random, whole_s: float) -> int:
    """Until so many kills have hit a sweep that was still running; the number of attempts."""
    hits = number = 0
    while hits < kills:
        number += 1
        before = {path: path.read_bytes() for path in files(folder)}
        process = start(recipe, folder)
        time.sleep(draw.uniform(0.0, 0.5 * whole_s))
        running = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        hits += running
        lost = [path.name for path, text in before.items() if not path.exists() or path.read_bytes() != text]
        assert not lost, f"kill {number} changed finished cells: {lost}"
        print(f"kill {number:2}: {'running' if running else 'finished'}, {len(files(folder))} cells done", flush=True)
        if len(files(folder)) > 10 and hits < kills:  # leave something to do for the kills to come
            for path in draw.sample(files(folder), 6):
                path.unlink()
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        recipe, alone, killed = Path(home) / "kill.yaml", Path(home) / "alone", Path(home) / "killed"
        recipe.write_text(RECIPE)
        began = time.monotonic()
        assert start(recipe, alone).wait() == 0
        whole_s = time.monotonic() - began
        print(f"left alone: {len(files(alone))} cells in {whole_s:.1f} s")
        attempts = kill_again_and_again(recipe, killed, asked.kills, random.Random(asked.seed), whole_s)
        assert start(recipe, killed).wait() == 0
        expected, found = contents(alone), contents(killed)
        assert found.keys() == expected.keys(), "not the same cells"
        different = [key for key, value in expected.items() if found[key] != value]
        assert not different, f"different results in {different}"
        strangers = [path.name for path in killed.iterdir() if path.suffix != ".json" or path.name.startswith(".")]
        assert not strangers, f"left behind: {strangers}"
        assert isinstance(read_records(files(killed)[0]), RecordFile)
        print(f"{asked.kills} kills of a running sweep in {attempts} attempts")
        print(f"{len(found)} cells, none lost, none doubled, all equal")


if __name__ == "__main__":
    main()
