"""What a request costs, from integers alone, under every convention by name. No torch.

`todre`      multiply–accumulates, T(4nd² + 2n²d + 2ndm): ToDRE (arXiv 2505.18757v1) eq. 1 and 2, after FastV.
             n is the whole input sequence; two feed-forward matrices; vision tower in full depth.
`hidivdrop`  multiply–accumulates, Σ_l (4n_l d² + 2n_l² d + 3n_l dm): HiDivDrop (arXiv 2602.23699) table 2,
             as PyramidDrop's code has it. Visual tokens of the decoder only; three feed-forward matrices.
`exact`      FLOPs, 2 per multiply–accumulate, of what the engine runs: grouped queries, the blocks of the
             vision tower that run, projector, selection, head. Equal to torch's counter (`--count`).

Parts that a convention does not know are absent from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tokprof.errors import UnknownNameError
from tokprof.flops import work
from tokprof.flops.traffic import stage_bytes
from tokprof.policies.base import Plan, Policy, Scene

Unit = Literal["MAC", "FLOP"]
Head = Literal["last", "all"]
PARTS = ("vision", "projector", "selection", "prefill", "decode", "head")


@dataclass(frozen=True, kw_only=True)
class Request:
    """All that the counts depend on. `selection`: the policy's own matrix work, for one sample;
    `compress`: tokens into which a first pass of prefill compresses the picture, if there is such a pass.

    `causal`: a dense attention kernel computes the full square, a causal one half of it.
    `head`: logits of the last prompt position, as every generating engine needs, or of all of them.
    """

    scene: Scene
    plan: Plan
    selection: int = 0
    compress: int = 0
    new_tokens: int = 20
    causal: work.Causal = "full"
    head: Head = "last"

    @property
    def steps(self) -> int:
        """Decode steps: prefill itself yields the first new token."""
        return self.new_tokens - 1

    @property
    def prompt_positions(self) -> int:
        """Positions of the prompt that the head sees."""
        return 1 if self.head == "last" else self.passes[-1][-1]

    @property
    def passes(self) -> list[tuple[int, ...]]:
        """Text and visual tokens entering each decoder layer, for each pass of prefill."""
        scene = self.scene
        if self.compress:
            first = scene.text - scene.text_after + scene.layout.count + self.compress
            return [(length,) * scene.depth for length in (first, scene.text_after)]
        return [tuple(scene.text + visual for visual in self.plan.layers)]

    @property
    def visual(self) -> tuple[int, ...]:
        """Visual tokens computed in each decoder layer during prefill."""
        if self.compress:
            return (self.scene.layout.count + self.compress,) * self.scene.depth
        return self.plan.layers


@dataclass(frozen=True)
class Work:
    """Counts of one request under one convention. `layers`: prefill, decoder layer by decoder layer."""

    convention: str
    unit: Unit
    parts: Mapping[str, int]
    layers: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.parts.values())


def request(
    policy: Policy,
    scene: Scene,
    new_tokens: int,
    *,
    observed_layers: Sequence[int] | None = None,
    causal: work.Causal = "full",
    head: Head = "last",
) -> Request:
    """A request under a policy; layers as observed in a run where given, else as the policy plans them."""
    plan = policy.schedule(scene)
    if observed_layers is not None:
        plan = replace(plan, layers=tuple(observed_layers), least=None)
    costs = [] if policy.identity else policy.costs(scene.seen_by(policy))
    return Request(
        scene=scene,
        plan=plan,
        selection=sum(cost.macs for cost in costs),
        compress=0 if policy.identity else policy.compress_tokens(scene),
        new_tokens=new_tokens,
        causal=causal,
        head=head,
    )


def exact(asked: Request) -> Work:
    scene, plan = asked.scene, asked.plan
    factor = 2 * scene.batch
    if asked.compress:
        layers = (work.two_pass_macs(scene, asked.compress, asked.causal),) * scene.depth
    else:
        layers = work.prefill_macs(scene, plan.layers, asked.causal)
    macs = {
        "vision": work.vision_macs(scene.model.vision, scene.layout, plan.tower),
        "projector": work.projector_macs(scene, plan),
        "selection": asked.selection + sum(work.prefill_macs(scene, plan.side_layers, asked.causal)),
        "prefill": sum(layers),
        "decode": work.decode_macs(scene, plan, asked.steps),
        "head": work.head_macs(scene.model.decoder, asked.prompt_positions + asked.steps),
    }
    parts = {part: factor * macs[part] for part in PARTS}
    return Work("exact", "FLOP", parts, tuple(factor * count for count in layers))


def prefill_flops(asked: Request) -> int:
    """Prefill with the head on the prompt, as `exact` counts them."""
    head = work.head_macs(asked.scene.model.decoder, asked.prompt_positions)
    return exact(asked).parts["prefill"] + 2 * asked.scene.batch * head


def step_flops(asked: Request) -> int:
    """The first decode step and the head on its one position, as `exact` counts them."""
    macs = work.decode_macs(asked.scene, asked.plan, 1) + work.head_macs(asked.scene.model.decoder, 1)
    return 2 * asked.scene.batch * macs


def todre(asked: Request) -> Work:
    scene = asked.scene
    decoder, vision = scene.model.decoder, scene.model.vision
    layers = tuple(
        scene.batch * sum(equation_1(n, decoder.width, decoder.ffn) for n in passes)
        for passes in zip(*asked.passes, strict=True)
    )
    tower = sum(equation_1(n, vision.width, vision.ffn) for n in work.tower_lengths(vision, scene.layout))
    read = work.read_lengths(scene, asked.plan)
    decode = sum(equation_2(n, decoder.width, decoder.ffn, asked.new_tokens) for n in read)
    parts = {
        "vision": scene.batch * vision.depth * tower,
        "prefill": sum(layers),
        "decode": scene.batch * decode,
    }
    return Work("todre", "MAC", parts, layers)


def hidivdrop(asked: Request) -> Work:
    decoder = asked.scene.model.decoder
    layers = tuple(
        asked.scene.batch * equation_1(visual, decoder.width, decoder.ffn, matrices=3) for visual in asked.visual
    )
    return Work("hidivdrop", "MAC", {"prefill": sum(layers)}, layers)


def equation_1(n: int, d: int, m: int, *, matrices: int = 2) -> int:
    """4nd² + 2n²d + 2ndm: one layer on n tokens of width d with a feed-forward width of m."""
    return 4 * n * d**2 + 2 * n**2 * d + matrices * n * d * m


def equation_2(n: int, d: int, m: int, outputs: int) -> int:
    """4Ld² + 2Ldm + dL(2n + L − 1): one layer while L tokens are generated after n."""
    return 4 * outputs * d**2 + 2 * outputs * d * m + d * outputs * (2 * n + outputs - 1)


CONVENTIONS: dict[str, Callable[[Request], Work]] = {"todre": todre, "hidivdrop": hidivdrop, "exact": exact}


def count(convention: str, asked: Request) -> Work:
    if convention not in CONVENTIONS:
        raise UnknownNameError("FLOPs convention", convention, CONVENTIONS)
    return CONVENTIONS[convention](asked)


def arm_flops(
    policy: Policy, scene: Scene, new_tokens: int, observed_layers: Sequence[int] | None = None
) -> dict[str, dict[str, int]]:
    """What a record stores for one side of a comparison: convention → part → count in the convention's unit."""
    asked = request(policy, scene, new_tokens, observed_layers=observed_layers)
    return {name: dict(convention(asked).parts) for name, convention in CONVENTIONS.items()}


def arm_bytes(policy: Policy, scene: Scene, new_tokens: int, bytes_per_value: int) -> dict[str, int]:
    """Stage → bytes that have to move between memory and processor at least; see `traffic`."""
    return stage_bytes(request(policy, scene, new_tokens), bytes_per_value)
