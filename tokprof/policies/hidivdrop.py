"""HiDivDrop: visual tokens enter late, are dropped along a concave pyramid, and leave early."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from tokprof.errors import ParameterError
from tokprof.policies.attention_costs import attention_at
from tokprof.policies.base import Cost, DecoderView, Edit, Need, Scene
from tokprof.policies.stages import Staged, bisect, integers, layer_share, scaled
from tokprof.shapes import ModelShape

# preset → (entry, filters, exit) as stops of 32 layers
PRESETS = {
    "P": (8, (10, 14, 16, 18), 25),
    "C": (9, (10, 14, 16, 18), 25),
    "mobilellama": (14, (16, 19, 22, 25), 28),
}
MOBILELLAMA = (2560, 32)  # width and depth of its decoder


@dataclass(frozen=True, kw_only=True)
class HiDivDrop(Staged):
    """Late injection, four filters and an early exit; text alone before and after.

    `keep`: layer mean, as a share; layers without visual tokens count zero. The paper's budgets are
    80, 64 and 48 of 576. It prints no counts per stage: they are *derived* as N·ρⁱ, rounded, with ρ
    solved for the budget. `tokens`: the counts left after each filter, instead.

    `preset` P reads section 3.1 word by word ("bypasses the initial L_inj − 1 layers", "discarded
    after L_exit", 1-based): layer 9 is the first with visual tokens, and a filter scores with its own
    queries and keys and prunes its output. C is the convention of PyramidDrop's code, on which the
    authors build: entry at stop 9, scores from the layer about to run. mobilellama is P with the
    layers published for MobileLLaMA-2.7B. auto takes these on a decoder of that width and depth (2560,
    32), and P on every other. `layers` (filters), `entry` and `exit` override, as stops of this model;
    `exit` may be "never". With `keep` 1 and a window (`entry` or `exit`) given, that window is all there
    is: every visual token within it, no filter (figure 7).

    Score: attention of the last text token to the visual tokens, softmax over these alone in fp32,
    mean over heads. In training DTop-K's mask learns through it (`dtopk.py`); its forward is this
    hard top-k. Rotary ids persist (table 5: renumbering costs 1.2 points).
    """

    name: ClassVar[str] = "hidivdrop"
    paper: ClassVar[str] = (
        "HiDivDrop, published as HiDrop: Hierarchical Vision Token Reduction, ICLR 2026, arXiv 2602.23699v1"
    )
    acts: ClassVar[str] = "decoder, late entry, four cuts, early exit"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.ROW_ATTENTION})
    training_based: ClassVar[bool] = True

    keep: float = 64 / 576
    preset: Literal["auto", "P", "C", "mobilellama"] = "auto"
    entry: int | None = None
    exit: int | Literal["never"] | None = None
    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("preset", ("auto", *PRESETS))
        tokens = integers(self.tokens, self.name, "tokens")
        if list(tokens) != sorted(tokens, reverse=True) or 0 in tokens:
            raise ParameterError(f"hidivdrop: tokens={tokens}", "counts that fall, such as 178,55,17,5")
        object.__setattr__(self, "tokens", tokens)
        if self.exit not in (None, "never") and not isinstance(self.exit, int):
            raise ParameterError(f"hidivdrop: exit={self.exit!r}", 'a layer such as 25, or "never"')
        if self._window_only:
            object.__setattr__(self, "needs", frozenset())

    def on(self, model: ModelShape) -> HiDivDrop:
        published = (model.decoder.width, model.decoder.depth) == MOBILELLAMA
        return replace(self, preset="mobilellama") if self.preset == "auto" and published else self

    @property
    def explicit(self) -> bool:
        return bool(self.tokens) or self._window_only

    @property
    def _window_only(self) -> bool:
        return self.keep >= 1 and not self.tokens and (self.entry, self.exit) != (None, None)

    @property
    def _preset(self) -> tuple[int, tuple[int, ...], int]:
        return PRESETS["P" if self.preset == "auto" else self.preset]

    @property
    def _layer(self) -> Literal["previous", "next"]:
        return "next" if self.preset == "C" else "previous"

    def entry_layer(self, depth: int) -> int:
        return round(self._preset[0] * depth / 32) if self.entry is None else self.entry

    def exit_layer(self, depth: int) -> int:
        """The depth itself: never."""
        if self.exit == "never":
            return depth
        if self.exit is not None:
            return self.exit
        return min(max(round(self._preset[2] * depth / 32), self.entry_layer(depth) + 1), depth - 1)

    def filters(self, depth: int) -> tuple[int, ...]:
        if self._window_only:
            return ()
        first, last = self.entry_layer(depth) + 1, self.exit_layer(depth) - 1
        return self.layers or scaled(self._preset[1], 32, depth, first, last)

    def stops(self, depth: int) -> tuple[int, ...]:
        return (*self.filters(depth), *(() if self.exit == "never" else (self.exit_layer(depth),)))

    def _share(self, depth: int, rho: float) -> float:
        shares = [rho**index for index in range(1, len(self.filters(depth)) + 1)]
        return layer_share(depth, self.stops(depth), [*shares, 0.0], self.entry_layer(depth))

    def reachable(self, depth: int) -> tuple[float, float]:
        return self._share(depth, 0.0), self._share(depth, 1.0)

    def check(self, scene: Scene) -> None:
        entry, filters, stops = self.entry_layer(scene.depth), self.filters(scene.depth), self.stops(scene.depth)
        if not 0 <= entry < scene.depth or list((entry, *stops)) != sorted({entry, *stops}):
            raise ParameterError(
                f"hidivdrop: layers {(entry, *stops)}",
                f"entry, then filters, then exit, in ascending order, from 0 to {scene.depth - 1}",
            )
        if self.tokens and len(self.tokens) != len(filters):
            raise ParameterError(f"hidivdrop: {len(self.tokens)} tokens for {len(filters)} filters", "one per filter")
        if stops:
            super().check(scene)

    def counts(self, visual: int, depth: int) -> tuple[int, ...]:
        if self.tokens:
            return (*(min(count, visual) for count in self.tokens), 0)
        rho = bisect(lambda ratio: self._share(depth, ratio), self.keep)
        return (*(max(1, round(visual * rho**stage)) for stage in range(1, len(self.filters(depth)) + 1)), 0)

    def edit_decoder(self, view: DecoderView) -> Edit:
        left = self.left(view)
        if not left:
            return Edit.drop_all()
        return Edit.top(view.attention("last", layer=self._layer, over="columns"), left)

    def costs(self, scene: Scene) -> list[Cost]:
        return attention_at(self.filters(scene.depth), scene, self.plan(scene), "last", layer=self._layer)
