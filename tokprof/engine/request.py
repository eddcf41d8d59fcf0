"""One whole request under a policy: vision, projection, selection, prefill, decode."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tokprof.engine.attention import backend
from tokprof.engine.compress import compress_then_read
from tokprof.engine.decode import decode
from tokprof.engine.prefill import Prefill, finite
from tokprof.engine.stream import Kept
from tokprof.engine.vision import VisualIntake
from tokprof.errors import BrokenPromiseError, WorkloadError
from tokprof.models.adapter import Adapter, Prepared
from tokprof.policies.base import Need, Policy

if TYPE_CHECKING:
    from tokprof.measure.clock import Clock


@dataclass
class Outcome:
    logits: Tensor  # (batch, vocabulary), of the first generated token
    tokens: Tensor  # (batch, new tokens)
    per_layer: tuple[int, ...]  # visual tokens that entered each decoder layer
    kv_bytes: int  # after prefill
    kv_lengths: tuple[int, ...]
    kept: list[Kept] = field(default_factory=list)  # after each edit, before and inside the decoder
    used: set[Need] = field(default_factory=set)


@torch.inference_mode()
def run_request(
    adapter: Adapter,
    policy: Policy,
    prepared: Prepared,
    clock: Clock,
    new_tokens: int,
    *,
    attention: str = "sdpa",
    checked: bool = False,
    official_scores: bool = False,
    ends: Collection[int] = (),
) -> Outcome:
    """Mark the stages on the clock; with `checked`, hold the policy to its promises (this waits for the device).

    `ends`: tokens after which an answer is over; without them the request has exactly `new_tokens`.
    """
    with backend(attention):
        intake = VisualIntake(adapter, policy, prepared, clock, checked=checked, official_scores=official_scores)
        visual = intake.run()
        if policy.compress_tokens(prepared.scene) and not policy.identity:
            assert isinstance(visual, Tensor), "a compressing policy edits nothing before the decoder"
            prefilled = compress_then_read(adapter, policy, prepared, clock, visual, new_tokens, attention=attention)
        else:
            prefilled = Prefill(
                adapter,
                policy,
                prepared,
                clock,
                room=new_tokens,
                checked=checked,
                eager=attention == "eager",
                official_scores=official_scores,
            ).run(visual)
        kv_bytes, kv_lengths = prefilled.cache.bytes, prefilled.cache.lengths
        tokens = decode(adapter, policy, prefilled, clock, new_tokens, ends)
    outcome = Outcome(
        logits=prefilled.logits,
        tokens=tokens,
        per_layer=tuple(prefilled.per_layer),
        kv_bytes=kv_bytes,
        kv_lengths=kv_lengths,
        kept=[*intake.kept, *prefilled.stream.kept],
        used=intake.used | prefilled.used,
    )
    if checked:
        hold_to_promises(policy, prepared, outcome)
    return outcome


def hold_to_promises(policy: Policy, prepared: Prepared, outcome: Outcome) -> None:
    """Plan = observed, every declared need was used, and the result is a number."""
    plan = policy.schedule(prepared.scene)
    if not plan.covers(outcome.per_layer):
        raise BrokenPromiseError(
            f"{policy.name} planned {_short(plan.layers)} visual tokens per layer, but {_short(outcome.per_layer)} ran",
            "its `plan` and its decisions disagree",
        )
    unread = policy.needs - outcome.used if not policy.identity else frozenset[Need]()
    if unread and not policy.data_decided:
        names = ", ".join(sorted(need.name for need in unread if need not in _CONDITIONS))
        if names:
            raise BrokenPromiseError(f"{policy.name} declares {names} but does not read it", "remove it from `needs`")
    if not finite(outcome.logits):
        raise WorkloadError(f"{policy.name}: the model's output is not finite", "try --dtype float32, or other weights")


_CONDITIONS = frozenset({Need.TILES, Need.FRAMES, Need.SMALLER_INPUT, Need.EXTRA_LAYERS})  # nothing to read


def _short(counts: tuple[int, ...]) -> str:
    """4×576, 28×64"""
    runs: list[list[int]] = []
    for count in counts:
        if runs and runs[-1][1] == count:
            runs[-1][0] += 1
        else:
            runs.append([1, count])
    return ", ".join(f"{times}×{count}" for times, count in runs)
