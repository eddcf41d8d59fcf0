"""What is known before a run, and what a policy says of it: integers only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from tokprof.shapes import ModelShape, VisualLayout

if TYPE_CHECKING:
    from tokprof.policies.base import Policy

Newlines = Literal["keep", "candidates", "drop"]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All that is known before a run, integers only.

    `visual` counts the tokens a policy chooses among; `fixed` the newline tokens that always stay
    with them (until every visual token goes). `text_after` counts the prompt's text tokens behind
    the first visual token.
    """

    model: ModelShape
    layout: VisualLayout
    text: int
    text_after: int
    batch: int = 1
    visual: int = 0
    fixed: int = 0

    @property
    def depth(self) -> int:
        return self.model.decoder.depth

    def seen_by(self, policy: Policy) -> Scene:
        """This scene with `visual` and `fixed` as the policy's way with newline tokens has them."""
        candidates = self.layout.count if policy.newlines == "candidates" else self.layout.patches
        fixed = self.layout.newlines if policy.newlines == "keep" else 0
        return replace(self, visual=candidates, fixed=fixed)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many visual tokens enter each decoder layer; exact unless `least` says that data decides.

    `layers` then is the most there can be. `projected`: tokens that pass the projector (None: every
    patch). `tower`: tokens per tile entering each vision block (None: all). `side_layers`: visual
    tokens entering each layer that runs beside the model's own. `cached_text`: where a method also
    forgets text. `read`: visual cache entries that each layer reads in a decode step, for methods that
    choose among them by the attention of the layer before (None: all).
    """

    layers: tuple[int, ...]
    least: tuple[int, ...] | None = None
    projected: int | None = None
    tower: tuple[int, ...] | None = None
    side_layers: tuple[int, ...] = ()
    cached_text: int | None = None  # text tokens left in each layer's cache; None: all of them
    read: tuple[int, ...] | None = None

    @property
    def exact(self) -> bool:
        return self.least is None

    @property
    def layer_mean(self) -> float:
        """Mean over decoder layers of the visual tokens that enter them: the papers' "average retained tokens"."""
        return sum(self.layers) / len(self.layers)

    def with_fixed(self, fixed: int) -> Plan:
        """Newline tokens stay as long as any other visual token does."""

        def add(counts: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(count + fixed if count else 0 for count in counts)

        return replace(
            self,
            layers=add(self.layers),
            least=self.least and add(self.least),
            side_layers=add(self.side_layers),
            read=self.read and add(self.read),
        )

    def covers(self, observed: Sequence[int]) -> bool:
        least = self.least or self.layers
        return len(observed) == len(self.layers) and all(
            low <= seen <= high for low, seen, high in zip(least, observed, self.layers, strict=True)
        )


@dataclass(frozen=True)
class Cost:
    """Matrix work of a decision, in multiply–accumulates for one sample."""

    name: str
    macs: int


def segments(depth: int, steps: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Tokens per layer from (first layer, count) steps in ascending order; a step beyond the depth is ignored."""
    layers = [0] * depth
    for first, count in steps:
        layers[first:] = [count] * max(depth - first, 0)
    return tuple(layers)
