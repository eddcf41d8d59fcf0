"""VTW: withdraw every visual token at one deep layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tokprof.errors import ParameterError
from tokprof.policies.base import DecoderView, Edit, Positions
from tokprof.policies.stages import Staged

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED_ETA = {"llava-1.5-7b": 0.003, "llava-1.5-13b": 0.0005, "llava-next-7b": 0.0001}


@dataclass(frozen=True, kw_only=True)
class VTW(Staged):
    """From layer K on, text alone (eq. 4): visual tokens have handed over what they know by then.

    `keep`: K as a share of the layers, which is the layer mean; published as 15 of 32. `layers`: K
    itself. `positions`: text keeps its rotary ids ("persistent", the code's `keep`), or is renumbered
    ("compacted"). `search_exit_layer` finds K on pictures as the authors do.
    """

    name: ClassVar[str] = "vtw"
    paper: ClassVar[str] = (
        "Boosting Multimodal LLMs with Visual Tokens Withdrawal for Rapid Inference, AAAI 2025, arXiv 2405.05803"
    )
    acts: ClassVar[str] = "decoder, early exit"

    keep: float = 15 / 32
    positions: Positions = "persistent"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("positions", ("persistent", "compacted"))

    @property
    def explicit(self) -> bool:
        return bool(self.layers)

    def stops(self, depth: int) -> tuple[int, ...]:
        return self.layers[:1] or (min(max(round(self.keep * depth), 1), depth - 1),)

    def reachable(self, depth: int) -> tuple[float, float]:
        return 0.0, 1.0

    def counts(self, visual: int, depth: int) -> tuple[int, ...]:
        return (0,)

    def edit_decoder(self, view: DecoderView) -> Edit:
        return Edit.drop_all()


def search_exit_layer(divergence: Mapping[int, float], eta: float, first: int = 5) -> int:
    """The smallest K ≥ `first` whose withdrawal changes the answer by at most `eta` (algorithm 1).

    `divergence`: for each K tried, the mean over pictures of `withdrawal_divergence`.
    """
    tried = {layer: value for layer, value in divergence.items() if layer >= first}
    reached = [layer for layer, value in tried.items() if value <= eta]
    if not reached:
        best = min(tried, key=lambda layer: tried[layer], default=None)
        hint = (
            "try more layers"
            if best is None
            else f"the least is {tried[best]:.3g}, at layer {best}: raise eta above it"
        )
        raise ParameterError(f"vtw: no layer from {first} on has a divergence of {eta:g} or less", hint)
    return min(reached)


def withdrawal_divergence(full: Tensor, withdrawn: Tensor) -> Tensor:
    """KL(withdrawn ‖ full) of the first answer token, per sample, from logits (batch, vocabulary)."""
    from_withdrawn = withdrawn.float().log_softmax(dim=-1)
    return (from_withdrawn.exp() * (from_withdrawn - full.float().log_softmax(dim=-1))).sum(dim=-1)
