"""Complete records for tests, made from a few numbers: no model ran, and their `weights` say so."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from tokprof.recipe import Cell, Measurement, Method, Setting, Workload
from tokprof.record import (
    REQUEST_STAGES,
    Accuracy,
    Activity,
    Arm,
    Device,
    Environment,
    Fidelity,
    Inputs,
    Memory,
    ModelFacts,
    Parity,
    RunRecord,
    Samples,
    StageSamples,
    Tokens,
    cell_key,
)

STAGE_SHARE = {"vision": 0.2, "project": 0.02, "prefill": 0.5, "first_decode": 0.03, "decode": 0.25}
EXACT_PER_TOKEN = 14_000_000_000


def make_samples(
    request_ms: float = 100.0,
    *,
    rounds: int = 20,
    noise: float = 0.01,
    seed: int = 0,
    stages: Mapping[str, float] | None = None,
    submit_share: float = 0.3,
) -> Samples:
    """`request_ms` split over the stages, with log-normal noise common to all stages of a round."""
    draw = random.Random(seed)
    stages = stages or {name: share * request_ms for name, share in STAGE_SHARE.items()}
    factors = [draw.lognormvariate(0.0, noise) for _ in range(rounds)]
    return Samples(
        stages={
            name: StageSamples(
                elapsed_ms=tuple(ms * factor for factor in factors),
                submit_ms=tuple(ms * factor * submit_share for factor in factors),
            )
            for name, ms in {"preprocess": 5.0, **stages}.items()
        },
        first_run_ms={name: 3 * ms for name, ms in stages.items()},
        warmup_rounds=3,
        stop_reason="20 rounds, 3.0 s, noise 0.4 %",
    )


def make_tokens(per_layer: Sequence[int], original: int, text: int) -> Tokens:
    return Tokens(original=original, text=text, per_layer=tuple(per_layer), planned=tuple(per_layer))


def make_arm(
    method: str,
    per_layer: Sequence[int],
    *,
    original: int,
    text: int = 40,
    parameters: Mapping[str, Any] | None = None,
    samples: Samples | None = None,
    fidelity: Fidelity | None = None,
    accuracy: Accuracy | None = None,
) -> Arm:
    """FLOPs, cache and memory follow from the tokens per layer, as they would in a run."""
    kv_bytes = sum((count + text) * 2 * 4096 * 2 for count in per_layer)
    macs = sum((count + text) * EXACT_PER_TOKEN for count in per_layer) // len(per_layer)
    selection = 0 if method == "dense" else 3 * 10**9
    return Arm(
        method=method,
        parameters=dict(parameters or {}),
        tokens=make_tokens(per_layer, original, text),
        flops={
            "exact": {
                "vision": 2 * 10**12 - selection,  # taken from there, so that the total is a round one
                "project": 10**11,
                "selection": selection,
                "prefill": 2 * macs,
                "head": 10**9,
                "decode": 10**11,
            },
            "todre": {"prefill": macs},
            "hidivdrop": {"prefill": macs // 2},
        },
        bytes_moved={"prefill": 14 * 10**9 + kv_bytes, "decode": 20 * (14 * 10**9 + kv_bytes)},
        samples=samples or make_samples(),
        memory=Memory(
            source="cuda",
            weights_bytes=14 * 10**9,
            kv_bytes=kv_bytes,
            kv_planned_bytes=kv_bytes,
            peak_allocated_bytes=15 * 10**9 + kv_bytes,
            peak_reserved_bytes=16 * 10**9 + kv_bytes,
            stage_peak_bytes={stage: 14 * 10**9 + kv_bytes for stage in REQUEST_STAGES},
        ),
        fidelity=fidelity,
        activity=Activity(
            kernel_launches={"prefill": 600, "decode": 12_000}, host_syncs={"prefill": 0, "decode": 0, "select": 0}
        ),
        accuracy=accuracy,
        generated=((1, 2, 3, 4),),
    )


def make_environment(device: str = "NVIDIA H200 (made up for a test)", **changes: Any) -> Environment:
    kind = "cpu" if device.startswith("CPU") else "cuda"
    known: dict[str, Any] = {"kind": kind, "name": device}
    if kind == "cuda":
        known |= {"memory_bytes": 141 << 30, "driver": "570.1", "cuda": "12.8", "capability": "9.0"}
        known |= {"sm_clock_mhz": 1980, "sm_clock_max_mhz": 1980, "power_w": 95.0, "temperature_c": 31.0}
        known |= {"other_processes": 0}
    known |= {key: changes.pop(key) for key in list(changes) if key in Device.model_fields}
    facts: dict[str, Any] = {"os": "Linux", "python": "3.11.0", "cpu": "a CPU", "cores": 2}
    facts["libraries"] = {"torch": "2.13.0", "transformers": "5.23.0"}
    return Environment(device=Device(**known), **(facts | changes))


def make_record(
    method: str = "fastv",
    *,
    keep: float = 0.25,
    parameters: Mapping[str, Any] | None = None,
    model: str = "llava-next-7b",
    dense_ms: float = 100.0,
    policy_ms: float = 50.0,
    rounds: int = 20,
    noise: float = 0.01,
    seed: int = 0,
    visual: int = 2880,
    depth: int = 32,
    per_layer: Sequence[int] | None = None,
    policy_stages: Mapping[str, float] | None = None,
    baseline_again_ms: Sequence[float] | None = None,
    fidelity: Fidelity | None = None,
    accuracy: Accuracy | None = None,
    environment: Environment | None = None,
    workload: Workload | None = None,
    setting: Setting | None = None,
    measurement: Measurement | None = None,
    warnings: Sequence[str] = (),
) -> RunRecord:
    """A record of a run that never was. The policy sees all tokens in two layers, then `keep` of them."""
    parameters = {"keep": keep, **(parameters or {})}
    per_layer = per_layer or [visual] * 2 + [round(visual * keep)] * (depth - 2)
    workload = workload or Workload()
    setting = setting or Setting(device="cuda", dtype="bfloat16")
    measurement = measurement or Measurement()
    cell = Cell(
        model=model,
        method=Method(name=method, parameters=parameters),
        workload=workload,
        setting=setting,
        measurement=measurement,
    )
    dense = make_samples(dense_ms, rounds=rounds, noise=noise, seed=seed)
    select = 0.02 * policy_ms
    stages = policy_stages or {name: share * (policy_ms - select) for name, share in STAGE_SHARE.items()} | {
        "select": select
    }
    pruned = make_samples(policy_ms, rounds=rounds, noise=noise, seed=seed + 1, stages=stages)
    again = baseline_again_ms or make_samples(dense_ms, rounds=5, noise=noise, seed=seed + 2).total_ms()
    return RunRecord(
        tokprof_version="0.0.0+test",
        created="2026-01-01T00:00:00+00:00",
        key=cell_key(cell),
        cell=cell,
        model=ModelFacts(
            name=model,
            family="llava-next",
            weights="none: made up for a test",
            trained=False,
            parameters=7_060_000_000,
            dtype="bfloat16",
            attention="sdpa",
            depth=depth,
            width=4096,
        ),
        inputs=Inputs(
            description="no picture: made up for a test",
            image_sizes=((672, 672),),
            prompt="What is in the picture?",
            text=40,
            visual=visual,
            batch=workload.batch,
            new_tokens=workload.new_tokens,
            tower_passes=5,
            sha256="0" * 64,
        ),
        environment=environment or make_environment(),
        parity=Parity(checked=True, relative_error=4e-7, greedy_equal=True),
        baseline=make_arm("dense", [visual] * depth, original=visual, samples=dense),
        policy=make_arm(
            method,
            per_layer,
            original=visual,
            parameters=parameters,
            samples=pruned,
            fidelity=fidelity or Fidelity(first_token_kl=0.012, top1_agreement=1.0, greedy_agreement=0.95, tokens=20),
            accuracy=accuracy,
        ),
        baseline_again_ms=tuple(again),
        warnings=tuple(warnings),
    )
