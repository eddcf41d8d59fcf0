"""Formula against count, part by part, for methods on one model. Torch is loaded only to count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokprof.errors import ParameterError, UnsupportedError
from tokprof.flops.analytic import PARTS, exact, request
from tokprof.flops.planning import Case, Prompt
from tokprof.models.catalog import Entry

if TYPE_CHECKING:
    from tokprof.models.adapter import Adapter, Prepared
    from tokprof.policies.base import Policy
    from tokprof.recipe import Workload

TOLERANCE = 0.001


@dataclass(frozen=True)
class Residuals:
    """One method: FLOPs by formula and as counted, and the operators that count as nothing."""

    label: str
    exact: Mapping[str, int]
    counted: Mapping[str, int]
    without_formula: Mapping[str, int]
    unknown_matrix_work: Mapping[str, int]
    second_opinion: float | None = None  # fvcore's total, in FLOPs

    def residual(self, part: str) -> float:
        """How far the formula is from the count, as a share of the count."""
        if self.exact[part] == self.counted[part]:
            return 0.0
        return (self.exact[part] - self.counted[part]) / self.counted[part] if self.counted[part] else float("inf")

    @property
    def worst(self) -> float:
        return max(abs(self.residual(part)) for part in PARTS)

    @property
    def agrees(self) -> bool:
        return self.worst <= TOLERANCE and not self.unknown_matrix_work


@dataclass(frozen=True)
class Uncounted:
    """A method whose data decide: only the bounds of its plan are known, in FLOPs."""

    label: str
    least: int
    most: int


def residuals(
    entry: Entry, prompt: Prompt, cases: Sequence[Case], *, second_opinion: bool = False
) -> list[Residuals | Uncounted]:
    """Every case on the model's real modules, built once on the meta device."""
    import torch

    from tokprof.models import load

    adapter = load(entry, "random", device="meta", dtype=torch.bfloat16)
    return [residual_of(adapter, case, prompt, second_opinion=second_opinion) for case in cases]


def uncounted(case: Case) -> Uncounted:
    most = exact(case.asked).total
    return Uncounted(case.label, exact(case.least).total if case.least else most, most)


def residual_of(adapter: Adapter, case: Case, prompt: Prompt, *, second_opinion: bool = False) -> Residuals | Uncounted:
    from tokprof.flops.counted import count

    if case.policy.data_decided:
        return uncounted(case)
    prepared = prepare(adapter, case.policy, prompt)
    asked = request(case.policy, prepared.scene, prompt.new_tokens, causal=case.asked.causal)
    counted = count(adapter, case.policy, prepared, prompt.new_tokens)
    opinion = None
    if second_opinion:
        from tokprof.flops.second_opinion import fvcore_flops

        opinion = fvcore_flops(adapter, case.policy, prepared, prompt.new_tokens)
    return Residuals(
        label=case.label,
        exact=exact(asked).parts,
        counted=counted.causal(asked.causal),
        without_formula=counted.without_formula,
        unknown_matrix_work=counted.unknown_matrix_work,
        second_opinion=opinion,
    )


def prepare(adapter: Adapter, policy: Policy, prompt: Prompt) -> Prepared:
    """The prompt as the engine takes it: a picture of the asked size, and words for the asked number of text tokens."""
    prepared = adapter.prepare(_workload(adapter, prompt, 1.0))
    scale = 1.0 if policy.identity else policy.image_scale(prepared.scene)
    return prepared if scale == 1.0 else adapter.prepare(_workload(adapter, prompt, scale))


def _workload(adapter: Adapter, prompt: Prompt, scale: float) -> Workload:
    from tokprof.recipe import Workload

    picture = {"image_size": prompt.size, "frames": prompt.frames, "batch": prompt.batch, "scale": scale}
    fixed = prompt.visual is not None and adapter.shape.tiling == "anyres"
    words = 1
    for _ in range(2):  # the template adds its own tokens: ask once, then for as many words as are missing
        workload = Workload(
            prompt=" ".join(["a"] * words),
            anyres="fixed" if fixed else "native",
            new_tokens=prompt.new_tokens,
            **picture,  # type: ignore[arg-type]
        )
        scene = adapter.prepare(workload).scene
        words += prompt.text - scene.text
        if words < 1:
            raise ParameterError(
                f"--text {prompt.text} with --count", f"at least {scene.text}, which the chat template needs"
            )
    if prompt.visual is not None and scene.layout.count != prompt.visual:
        raise UnsupportedError(
            f"{adapter.shape.name} has no picture of exactly {prompt.visual:,} tokens to count",
            f"give --image-size, or --visual {scene.layout.count}",
        )
    return workload
