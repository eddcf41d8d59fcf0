"""Which visual tokens a policy kept at each point of one request, and what the model then answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tokprof.engine.request import run_request
from tokprof.measure.clock import NoClock
from tokprof.policies.base import Edit, ImageView, Need, Policy
from tokprof.show import Stage

if TYPE_CHECKING:
    from tokprof.models.adapter import Adapter, Prepared


@dataclass(frozen=True)
class Choices:
    stages: tuple[Stage, ...]
    answer: str  # empty where the weights never learned to answer


def choices(adapter: Adapter, policy: Policy, prepared: Prepared, new_tokens: int = 12) -> Choices:
    """Of the first sample. Before the decoder, what the policy itself says it keeps; inside, what the engine saw."""
    watched, seen = _watched(policy)
    outcome = run_request(adapter, watched, prepared, NoClock(), new_tokens, attention=adapter.attention)
    total, stages = prepared.layout.count, []
    before, marked = _before(seen, watched, prepared)
    if before is not None:
        stages.append(Stage(f"before the decoder: {len(before)} of {total} tokens", before, marked))
    for stop, origin in outcome.kept:
        fixed = prepared.newlines.tolist() if policy.newlines == "keep" and origin.shape[1] else []
        kept = frozenset(index for index in [*origin[0].tolist(), *fixed] if index >= 0)
        merged = int((origin[0] < 0).sum())
        extra = f" and {merged} merged" if merged else ""
        stages.append(Stage(f"from layer {stop} on: {len(kept)} of {total} tokens{extra}", kept, marked))
    if not stages:
        entering = max(outcome.per_layer)
        fate = "" if entering == total else f", merged into {entering} that stand for no single patch"
        stages.append(Stage(f"all {total} tokens{fate}", frozenset(range(total))))
    answer = adapter.tokenizer.decode(outcome.tokens[0], skip_special_tokens=True).strip() if adapter.trained else ""
    return Choices(tuple(stages), answer)


def _watched(policy: Policy) -> tuple[Policy, list[tuple[Edit | None, int | None]]]:
    """The same policy, which leaves what it decides before the decoder where we can read it."""
    kind, seen = type(policy), list[tuple[Edit | None, int | None]]()
    if not policy.edits_image:
        return policy, seen

    def edit_image(self: Policy, view: ImageView) -> Edit | None:
        edit = kind.edit_image(self, view)
        seen.append((edit, _most_salient(self, view)))
        return edit

    watching = type(kind.__name__, (kind,), {"edit_image": edit_image})
    watched: Policy = watching(**policy.parameters())
    return watched, seen


def _most_salient(policy: Policy, view: ImageView) -> int | None:
    """The patch with the most attention (within the thumbnail where there is one): ToDRE's pivot, VisionZip's first."""
    if Need.SALIENCY not in policy.needs:
        return None
    saliency = view.saliency()[0].float()
    thumbnails = [index for index, block in enumerate(view.scene.layout.blocks) if block.thumbnail]
    if thumbnails:
        elsewhere = torch.isin(view.block, torch.tensor(thumbnails, device=view.block.device), invert=True)
        saliency = saliency.masked_fill(elsewhere, float("-inf"))
    return int(saliency.argmax())


def _before(
    seen: list[tuple[Edit | None, int | None]], policy: Policy, prepared: Prepared
) -> tuple[frozenset[int] | None, int | None]:
    if not seen or seen[0][0] is None or seen[0][0].keep is None:
        return None, None
    edit, marked = seen[0]
    assert edit is not None and edit.keep is not None
    every = range(prepared.layout.count)
    candidates = list(every) if policy.newlines == "candidates" else prepared.candidates.tolist()
    kept = {candidates[index] for index in edit.keep[0].tolist()}
    if policy.newlines == "keep":
        kept |= set(every) - set(candidates)
    return frozenset(kept), None if marked is None else candidates[marked]
