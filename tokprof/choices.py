"""Which visual tokens a policy kept at each point of one request, and what the model then answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokprof.engine.request import run_request
from tokprof.measure.clock import NoClock
from tokprof.show import Stage

if TYPE_CHECKING:
    from tokprof.engine.stream import Kept
    from tokprof.models.adapter import Adapter, Prepared
    from tokprof.policies.base import Policy


@dataclass(frozen=True)
class Choices:
    stages: tuple[Stage, ...]
    answer: str  # empty where the weights never learned to answer


def choices(adapter: Adapter, policy: Policy, prepared: Prepared, new_tokens: int = 12) -> Choices:
    """Of the first sample, as the engine saw it."""
    outcome = run_request(adapter, policy, prepared, NoClock(), new_tokens, attention=adapter.attention)
    total = prepared.layout.count
    newlines = prepared.newlines.tolist() if policy.newlines == "keep" else []
    shown = list(range(total)) if policy.newlines == "candidates" else prepared.candidates.tolist()
    pivot = next((shown[int(kept.pivot[0])] for kept in outcome.kept if kept.pivot is not None), None)
    stages = [_stage(kept, total, newlines, pivot) for kept in outcome.kept]
    if not stages:
        entering = max(outcome.per_layer)
        fate = "" if entering == total else f", merged into {entering} that stand for no single patch"
        stages.append(Stage(f"all {total} tokens{fate}", frozenset(range(total))))
    answer = adapter.tokenizer.decode(outcome.tokens[0], skip_special_tokens=True).strip() if adapter.trained else ""
    return Choices(tuple(stages), answer)


def _stage(kept: Kept, total: int, newlines: list[int], pivot: int | None) -> Stage:
    """Newline tokens stay as long as anything does."""
    chosen = kept.origin[0].tolist()
    left = frozenset(index for index in [*chosen, *(newlines if chosen else ())] if index >= 0)
    merged = kept.extra + sum(index < 0 for index in chosen)
    where = "before the decoder" if kept.stop is None else f"from layer {kept.stop} on"
    extra = f" and {merged} merged" if merged else ""
    return Stage(f"{where}: {len(left)} of {total} tokens{extra}", left, pivot)
