"""A method's `keep` for a common budget, from the plan alone: `--tokens` and `--match`. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tokprof import units
from tokprof.errors import ParameterError, TokprofError
from tokprof.flops import analytic
from tokprof.policies.base import Policy, Scene

UNITS = {"layer-mean": "visual tokens per layer", "flops": "FLOPs", "kv-bytes": "KV bytes per sample"}
STEPS = 40
GRID = 1 / 32
TOLERANCE = 0.05  # of the target: beyond it a method cannot be said to have reached the budget


@dataclass(frozen=True)
class Solved:
    """A policy whose plan comes nearest to the budget, and what its plan has."""

    policy: Policy
    reached: float
    target: float

    @property
    def off(self) -> float:
        """Relative distance from the budget, signed."""
        return self.reached / self.target - 1


def measure(metric: str, policy: Policy, scene: Scene, *, new_tokens: int = 20, bytes_per_value: int = 2) -> float:
    """A policy's budget by its plan; exact FLOPs of a whole request."""
    if metric == "flops":
        return float(analytic.exact(analytic.request(policy, scene, new_tokens)).total)
    plan = policy.schedule(scene)
    if metric == "layer-mean":
        return plan.layer_mean
    text = scene.text if plan.cached_text is None else plan.cached_text
    values = scene.model.decoder.kv_values_per_token
    return float(sum(text + visual for visual in plan.layers) * values * bytes_per_value)


def in_words(metric: str, value: float) -> str:
    """5.2 TFLOP, 192 visual tokens per layer, 321 MiB of cache per sample at 16 bits"""
    if metric == "flops":
        return units.operations(value)
    if metric == "kv-bytes":
        return f"{units.bytes_(value)} of cache per sample at 16 bits"
    return f"{units.count(value)} {UNITS[metric]}"


def solve(
    policy: type[Policy],
    parameters: Mapping[str, Any],
    scene: Scene,
    metric: str,
    target: float,
    *,
    new_tokens: int = 20,
    published: bool = False,
) -> Solved:
    """The `keep` at which a method's plan meets the target; its other parameters are as given.

    `published`: a budget in the papers' words, "192 tokens"; take `keep` = target / all tokens where
    that is within 5 %, which is where published presets lie.
    """
    tried: list[Solved] = []

    def at(keep: float) -> float | None:
        candidate = _built(policy, parameters, keep, scene)
        if candidate is None:
            return None
        tried.append(Solved(candidate, measure(metric, candidate, scene, new_tokens=new_tokens), target))
        return tried[-1].reached

    if published and metric == "layer-mean" and target < scene.layout.count:
        at(target / scene.layout.patches)
        if tried and abs(tried[0].off) <= TOLERANCE:
            return tried[0]
    _bisect(at, target)
    best = min(tried, key=lambda solved: abs(solved.off), default=None)
    if best is None or abs(best.off) > TOLERANCE:
        raise _out_of_reach(policy, metric, target, tried)
    return best


def _built(policy: type[Policy], parameters: Mapping[str, Any], keep: float, scene: Scene) -> Policy | None:
    """None where the method refuses this `keep` on this scene."""
    built = policy(**{**parameters, "keep": keep}).on(scene.model)
    try:
        built.check(scene.seen_by(built))
    except ParameterError:
        return None
    return built


def _bisect(at: Callable[[float], float | None], target: float) -> None:
    """Close in on the target between the lowest and the highest `keep` that the method accepts."""
    accepted = [keep for keep in (step * GRID for step in range(1, 33)) if at(keep) is not None]
    if not accepted:
        return
    known = {keep: at(keep) or 0.0 for keep in accepted}
    below = max((keep for keep in accepted if known[keep] < target), default=max(accepted[0] - GRID, 1e-6))
    above = min((keep for keep in accepted if known[keep] >= target), default=accepted[-1])
    for _ in range(STEPS):
        middle = (below + above) / 2
        reached = at(middle)
        if reached is None and middle < accepted[0]:
            below = middle
        elif reached is None or reached >= target:
            above = middle
        else:
            below = middle


def _out_of_reach(policy: type[Policy], metric: str, target: float, tried: list[Solved]) -> TokprofError:
    unit = UNITS[metric]
    if not tried:
        return ParameterError(f"{policy.name} cannot work here with these parameters", "see `tokprof methods --matrix`")
    nearest = min(tried, key=lambda solved: abs(solved.off))
    return ParameterError(
        f"{policy.name} cannot reach {target:.6g} {unit}",
        f"the nearest it comes here is {nearest.reached:.6g}, with keep={nearest.policy.keep:.3g}",
    )
