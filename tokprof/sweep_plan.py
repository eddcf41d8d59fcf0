"""What a cell will need, from integers alone: tokens, FLOPs, memory, and a rough time."""

from __future__ import annotations

from dataclasses import dataclass

from tokprof import resolve
from tokprof.errors import TokprofError
from tokprof.flops import analytic, roofline, traffic
from tokprof.policies import build
from tokprof.recipe import Cell, Measurement

ASSUMED = "A100-SXM4-80GB"
EFFICIENCY = 0.4  # of the data sheet; what plain 16-bit layers reach
CPU_FLOPS_PER_S = 3e10
LOADING_S = 5.0
LAUNCHES_S = 0.02  # a request cannot be much faster than the host can queue it
DEVICE_WORDS = f"assuming {EFFICIENCY:.0%} of an {ASSUMED}'s data sheet, and a laptop's CPU for the demo"


@dataclass(frozen=True)
class Estimate:
    """`reason`: why the cell cannot be measured at all."""

    visual: int = 0
    layer_mean: float = 0.0
    flops: int = 0
    memory_bytes: int = 0
    seconds: float = 0.0
    reason: str = ""


def estimate(cell: Cell) -> Estimate:
    try:
        ready = resolve.ready(cell)
    except TokprofError as error:
        return Estimate(reason=error.message)
    value_bytes = resolve.DTYPE_BYTES.get(cell.setting.dtype, 2 if cell.model != "demo" else 4)
    new_tokens = cell.workload.new_tokens
    policy = analytic.request(ready.policy, ready.pruned_scene, new_tokens)
    dense = analytic.request(build("dense"), ready.scene, new_tokens)
    storage = traffic.storage(dense, value_bytes)
    pair = sum(_request_s(asked, value_bytes, demo=cell.model == "demo") for asked in (policy, dense))
    return Estimate(
        visual=ready.scene.layout.count,
        layer_mean=policy.plan.layer_mean,
        flops=analytic.exact(policy).total,
        memory_bytes=storage.weights + storage.kv_cache + storage.activations,
        seconds=LOADING_S + _rounds(cell.measurement, pair) * pair,
    )


def _request_s(asked: analytic.Request, value_bytes: int, *, demo: bool) -> float:
    work = analytic.exact(asked).total
    if demo:
        return work / CPU_FLOPS_PER_S
    sheet = roofline.DATASHEETS[ASSUMED]
    moved = sum(traffic.stage_bytes(asked, value_bytes).values())
    return max(LAUNCHES_S, work / (EFFICIENCY * sheet.flops_per_s) + moved / sheet.bytes_per_s)


def _rounds(measurement: Measurement, pair_s: float) -> float:
    """Warm-up, the rounds themselves, and the passes for parity, memory and activity."""
    rounds = measurement.rounds or max(measurement.min_rounds, measurement.min_seconds / pair_s)
    return measurement.warmup_rounds + min(rounds, max(measurement.timeout / pair_s, 2)) + 4
