"""What a model family must offer; the engine knows nothing else of a model.

An adapter holds one of Hugging Face's own models, unmodified. It runs the vision tower block by
block, says how tower patches become the decoder's visual tokens, and answers questions about the
tower's attention from the inputs of the few blocks that a policy watches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from tokprof.policies.base import Edit, Need, Scene
from tokprof.shapes import ModelShape, VisualLayout

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tokprof.models.decoder import Decoder
    from tokprof.recipe import Workload


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One request, on the device: token ids with a placeholder for every visual token, and pixels.

    All samples of a batch have the same layout: `visual_index` (visual,) and `text_index` (text,)
    hold the places in the sequence, ascending.
    """

    input_ids: Tensor  # (batch, sequence)
    visual_index: Tensor
    text_index: Tensor
    positions: Tensor  # rotary ids: (batch, sequence), or (3, batch, sequence)
    next_position: int  # rotary id of the first generated token
    tensors: dict[str, Tensor]  # what Hugging Face's forward takes beside the ids: pixel_values …
    scene: Scene
    places: dict[str, Tensor]  # tile, block, row, col, patch: (visual,) each, -1 at newline tokens
    description: str
    image_sizes: tuple[tuple[int, int], ...] = ()  # (width, height)
    frames: int = 0
    prompt: str = ""
    sha256: str = ""
    preprocess_ms: float = 0.0

    @property
    def batch(self) -> int:
        return int(self.input_ids.shape[0])

    @property
    def layout(self) -> VisualLayout:
        return self.scene.layout

    @cached_property
    def candidates(self) -> Tensor:
        """Which of the visual tokens show something, (patches,)."""
        return self._where(lambda column: column >= 0)

    @cached_property
    def newlines(self) -> Tensor:
        return self._where(lambda column: column < 0)

    def _where(self, wanted: Callable[[int], bool]) -> Tensor:
        chosen = [index for index, column in enumerate(self.layout.column("col")) if wanted(column)]
        return self.visual_index.new_tensor(chosen)


@dataclass(kw_only=True)
class VisionStates:
    """What is left of the vision tower's run. Tiles of all samples lie behind each other."""

    features: Tensor  # (tiles, patches, vision width), class token removed
    cls: Tensor | None = None  # (tiles, vision width)
    inputs: dict[int, Tensor] = field(default_factory=dict)  # watched block → hidden states entering it
    merged: bool = False  # a policy merged tokens inside the tower: patches are no longer a grid
    extras: dict[str, Any] = field(default_factory=dict)  # the family's own (rotary tables, grids …)


EditTower = Callable[[int, "Tensor", "Callable[[], Tensor]", "Tensor"], "Edit | None"]
"""(block, tokens, keys, sizes) → what the policy does inside this block."""


class Adapter(ABC):
    family: ClassVar[str]
    projects_by_token: ClassVar[bool]  # whether one patch becomes one visual token through the projector

    shape: ModelShape
    model: nn.Module
    decoder: Decoder
    weights: str  # where the weights come from, for people
    trained: bool
    attention: str = "sdpa"  # as it really runs: sdpa, eager, flash_attention_2, or flash-sdpa (torch's own kernel)
    notes: tuple[str, ...] = ()  # what the user should know about how the model was loaded
    processor: Any = None
    tokenizer: Any = None

    @abstractmethod
    def prepare(self, workload: Workload) -> Prepared:
        """Pictures and prompt → model inputs on the model's device (also when that is `meta`)."""

    @abstractmethod
    def encode(
        self,
        prepared: Prepared,
        watch: Collection[int] = (),
        stops: Collection[int] = (),
        edit: EditTower | None = None,
    ) -> VisionStates:
        """Run the tower block by block up to the features; keep what enters the watched blocks.

        Inside each block of `stops`, between attention and feed-forward, `edit` may merge tokens.
        """

    @abstractmethod
    def embed_visual(self, states: VisionStates, prepared: Prepared) -> Tensor:
        """Project and pack everything: (batch, visual, width) in sequence order, newline tokens included."""

    @abstractmethod
    def spread(self, per_patch: Tensor, prepared: Prepared) -> Tensor:
        """Numbers per tower patch → per visual token: (tiles, patches, …) → (batch, patches of the layout, …).

        Newline tokens have none. Where patches are merged or pooled, their numbers are averaged alike.
        """

    def project(self, features: Tensor) -> Tensor:
        """(…, vision width) → (…, width), for families that project token by token."""
        raise NotImplementedError

    def newline(self) -> Tensor:
        """The learned newline embedding, (width,), for families that have one."""
        raise NotImplementedError

    @abstractmethod
    def cls_attention(self, states: VisionStates, layer: int, *, logits: bool) -> Tensor:
        """(tiles, heads, patches): the class token's row of a watched block."""

    @abstractmethod
    def received_attention(self, states: VisionStates, layer: int) -> Tensor:
        """(tiles, patches): mean over heads and queries of the attention each patch receives, in chunks."""

    def whole_attention(self, states: VisionStates, layer: int) -> Tensor | None:
        """(tiles, heads, tokens, tokens) of a watched block, as official codes have it; None where there are none."""
        return None

    @abstractmethod
    def patch_keys(self, states: VisionStates, layer: int) -> Tensor:
        """(tiles, patches, vision width): keys of a watched block, heads side by side."""

    @abstractmethod
    def forward_inputs(self, prepared: Prepared) -> dict[str, Any]:
        """Keyword arguments of Hugging Face's forward and generate for the same request."""

    @property
    def default_watch(self) -> int:
        """The block whose output feeds the projector."""
        return self.shape.vision.layers_run - 1


def offered_needs(shape: ModelShape, layout: VisualLayout | None = None) -> frozenset[Need]:
    """What a model of this shape can give a policy; decided before any weight is loaded.

    With a layout, also what this prompt can give (tiles, frames).
    """
    needs = set(Need) - {Need.TILES, Need.FRAMES, Need.CLS_ATTENTION, Need.CLS_FEATURE, Need.TOWER_TOKENS}
    if shape.vision.cls_token:
        needs |= {Need.CLS_ATTENTION, Need.CLS_FEATURE}
    if shape.vision.kind in ("clip", "siglip"):
        needs.add(Need.TOWER_TOKENS)
    else:
        needs.discard(Need.PATCH_FEATURES)  # patches are merged on their way to the decoder
    blocks = layout.blocks if layout is not None else ()
    if shape.tiling in ("anyres", "anyres-max") and (layout is None or any(block.tiles > 1 for block in blocks)):
        needs.add(Need.TILES)
    if shape.videos and (layout is None or len({block.frame for block in blocks}) > 1):
        needs.add(Need.FRAMES)
    return frozenset(needs)
