"""Random: the control for every method with the same schedule. Its deciding costs next to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tokprof.errors import ParameterError
from tokprof.policies import build
from tokprof.policies.base import DecoderView, Edit, ImageView, Plan, Policy, Positions, Scene, segments
from tokprof.policies.shares import rounded

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Random(Policy):
    """Visual tokens by lot, in sequence order.

    `keep`: the share of visual tokens left, rounded; before the decoder (`mode="pre"`, default) or
    before the 0-based decoder layer `layer` (`mode="layer"`).
    `like`: another method's name. `keep` is then that method's, and tokens go where and when its plan
    says (where data decides: as few as it may drop); what is left later is a subset of what was left
    before. `seed`: the lots; alike for all samples of a batch, and on every device.
    """

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = "no paper; the usual control"
    acts: ClassVar[str] = "before the decoder, at one layer, or like another method"
    _other: ClassVar[Policy | None] = None

    keep: float = 0.25
    mode: Literal["pre", "layer"] = "pre"
    layer: int = 2
    like: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("mode", ("pre", "layer"))
        if self.like is not None:
            if self.like in (self.name, "dense"):
                raise ParameterError(f"random: like={self.like}", "the name of a method that drops tokens")
            other = build(self.like, keep=self.keep)
            object.__setattr__(self, "_other", other)
            object.__setattr__(self, "newlines", other.newlines)

    @property
    def identity(self) -> bool:
        return self._other.identity if self._other else self.keep >= 1.0

    @property
    def positions(self) -> Positions:
        return self._other.positions if self._other else "persistent"

    @property
    def edits_image(self) -> bool:
        return self._other is not None or self.mode == "pre"

    def check(self, scene: Scene) -> None:
        if self._other:
            self._other.check(scene)
            if self._other.image_scale(scene) != 1.0:
                raise ParameterError(
                    f"random: like={self.like} has no tokens to draw: it makes pictures smaller",
                    "the name of a method that drops tokens",
                )
        elif self.mode == "layer" and not 0 < self.layer < scene.depth:
            raise ParameterError(
                f"random: layer={self.layer} on a model of {scene.depth} layers", f"a layer from 1 to {scene.depth - 1}"
            )

    def entry_layer(self, depth: int) -> int:
        return self._other.entry_layer(depth) if self._other else 0

    def decoder_stops(self, depth: int) -> tuple[int, ...]:
        if self._other:
            return tuple(self._other.decoder_stops(depth))
        return (self.layer,) if self.mode == "layer" else ()

    def plan(self, scene: Scene) -> Plan:
        if self._other:
            return Plan(layers=self._other.plan(scene).layers)
        cut = self.layer if self.mode == "layer" else 0
        return Plan(layers=segments(scene.depth, [(0, scene.visual), (cut, rounded(self.keep, scene.visual))]))

    def edit_image(self, view: ImageView) -> Edit | None:
        return self._edit(view.tokens, view.scene, self.entry_layer(view.scene.depth))

    def edit_decoder(self, view: DecoderView) -> Edit | None:
        return self._edit(view.tokens, view.scene, view.stop)

    def _edit(self, tokens: Tensor, scene: Scene, layer: int) -> Edit | None:
        batch, present = tokens.shape[:2]
        count = self.plan(scene).layers[layer]
        if count == 0:
            return Edit.drop_all()
        if count >= present:
            return None
        return Edit.top(lots(present, self.seed + 1000 * layer, tokens).expand(batch, -1), count)


def lots(count: int, seed: int, like: Tensor) -> Tensor:
    """(count,) numbers in [0, 1) by integer hashing, on the device of `like`, the same on every device."""
    import torch

    word = 0xFFFFFFFF
    x = (torch.arange(count, device=like.device) + (seed * 0x9E3779B1 & word)) & word
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ (x >> shift)) * factor) & word
    return (x ^ (x >> 16)).float() / 2**32
