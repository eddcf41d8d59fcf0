"""How much a machine's times differ between two runs of the same code: the gate's thresholds come from it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokprof.atomic import write_text_atomically
from tokprof.errors import RecordError
from tokprof.measure.stats import median, relative_noise, usable
from tokprof.measure.verdict import judge_in_turns
from tokprof.record import RunRecord
from tokprof.report.comparable import identity
from tokprof.report.compare import time_series

KIND = "tokprof.calibration"
RUNS = 8  # measurements of the same code
IN_TURNS = ", in turns"  # a metric's deviation where both sides are measured at once, round by round

Calibration = dict[str, dict[str, dict[str, float]]]  # device → identity of a cell → metric → deviation


def calibrated(runs: Sequence[Sequence[RunRecord]], beside: Sequence[Sequence[RunRecord]] = ()) -> Calibration:
    """From several runs of the same cells, each in a process of its own; `beside`: what took turns with each of them.

    The deviation is of a ratio between two runs: √2 times that of one run's median, or that of the pairs' ratios.
    From the quartiles, like the noise of rounds: one run that something interrupted does not blind the gate for good.
    """
    cells, partners = _by_cell(runs), _by_cell(beside)
    found: Calibration = {}
    for key, records in cells.items():
        deviations = found.setdefault(records[0].environment.device.name, {}).setdefault(key, {})
        for metric, read, _ in time_series(records[0], records[-1]):
            medians = [median(samples) for samples in map(read, records) if usable(samples)]
            if len(medians) >= 2:
                deviations[metric] = math.sqrt(2) * relative_noise(medians)
            judged = [
                judge_in_turns(read(one), read(two)) for one, two in zip(records, partners.get(key, ()), strict=False)
            ]
            ratios = [found.slowdown.ratio for found in judged if found.slowdown]
            if len(ratios) >= 2:
                always = abs(median(ratios) - 1)  # the second to have its turn may be slower every time
                deviations[metric + IN_TURNS] = max(relative_noise(ratios), always)
    return found


def _by_cell(runs: Sequence[Sequence[RunRecord]]) -> dict[str, list[RunRecord]]:
    cells: dict[str, list[RunRecord]] = {}
    for run in runs:
        for record in run:
            cells.setdefault(identity(record), []).append(record)
    return cells


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Devices that the file already knows stay, unless measured anew."""
    known = read_calibration(path) if path.exists() else {}
    text = json.dumps({"kind": KIND, "devices": {**known, **calibration}}, indent=1, ensure_ascii=False)
    write_text_atomically(path, text + "\n")


def read_calibration(path: Path) -> Calibration:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordError(f"no file {path}", "tokprof check --calibrate writes one") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path} cannot be read: {error}", "write it anew: tokprof check --calibrate") from error
    if not isinstance(raw, dict) or raw.get("kind") != KIND or not _sound(raw.get("devices")):
        raise RecordError(f"{path} is not a calibration of tokprof", "write it anew: tokprof check --calibrate")
    devices: Calibration = raw["devices"]
    return devices


def _sound(devices: Any) -> bool:
    """device → cell → metric → a number that can be a deviation"""
    if not isinstance(devices, dict):
        return False
    for cells in devices.values():
        if not isinstance(cells, dict) or not all(isinstance(metrics, dict) for metrics in cells.values()):
            return False
        for metrics in cells.values():
            for value in metrics.values():
                if isinstance(value, bool) or not isinstance(value, int | float):
                    return False
                if not 0 <= value < math.inf:
                    return False
    return True
