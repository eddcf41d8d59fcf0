"""FastV: drop the visual tokens that the last token of the prompt hardly looks at in an early layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from tokprof.policies.attention_costs import attention_macs
from tokprof.policies.base import Cost, DecoderView, Edit, Need, Newlines, Rows, Scene
from tokprof.policies.stages import Staged


@dataclass(frozen=True, kw_only=True)
class FastV(Staged):
    """One cut after K layers by the attention of layer K − 1: softmax(QKᵀ/√d), mean over heads.

    `keep`: the share of visual tokens left after the cut, rounded half to even as the code does;
    `layers`: K, published as 2 (the demo uses 3). The layer mean is (K + (L − K)·keep) / L.

    Trap: the paper speaks of the attention received "from all other tokens", the code takes the last
    query row, and its authors confirm that (issue 14). `query="last"` is the default; "all" averages
    every row from the first visual token on (rows before it see no visual token). Newline tokens are
    candidates like all others.
    """

    name: ClassVar[str] = "fastv"
    paper: ClassVar[str] = "An Image is Worth 1/2 Tokens After Layer 2, ECCV 2024, arXiv 2403.06764v3"
    acts: ClassVar[str] = "decoder, one cut after layer 2"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.ROW_ATTENTION})
    published_layers: ClassVar[tuple[int, ...]] = (2,)

    keep: float = 0.5
    newlines: Newlines = "candidates"
    query: Literal["last", "all"] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("query", ("last", "all"))
        if self.query == "all":
            object.__setattr__(self, "needs", self.needs | {Need.COLUMN_ATTENTION})

    def reachable(self, depth: int) -> tuple[float, float]:
        return 0.0, 1.0

    def counts(self, visual: int, depth: int) -> tuple[int, ...]:
        return (max(1, round(visual * self.keep)),)

    def edit_decoder(self, view: DecoderView) -> Edit:
        if self.query == "last":
            return Edit.top(view.attention("last", layer="previous"), self.left(view))
        visual = view.attention("visual", layer="previous") * view.tokens.shape[1]
        instruction = view.attention("instruction", layer="previous") * view.scene.text_after
        return Edit.top(visual + instruction, self.left(view))

    def costs(self, scene: Scene) -> list[Cost]:
        rows: tuple[Rows, ...] = ("last",) if self.query == "last" else ("visual", "instruction")
        return [
            Cost(f"attention of the {row} rows", attention_macs(scene, row, scene.visual, layer="previous"))
            for row in rows
        ]
