"""What a policy may look at while it decides. Nothing is computed that it did not declare in `needs`."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from tokprof.errors import BrokenPromiseError
from tokprof.policies.planning import Scene

if TYPE_CHECKING:
    from torch import Tensor


class Need(Enum):
    """Something a view computes only for the policies that declare it."""

    CLS_ATTENTION = "the class token's attention row in the vision tower"
    SALIENCY = "the class token's attention, or the mean attention received where there is no such token"
    CLS_FEATURE = "the class token's own feature"
    PATCH_FEATURES = "the vision tower's features of the tokens, before the projector"
    PATCH_KEYS = "the vision tower's attention keys"
    TOWER_TOKENS = "merging tokens between the blocks of the vision tower"
    PROMPT_EMBEDDINGS = "the embeddings of the prompt's text"
    HIDDEN_BEFORE = "the hidden states one layer earlier"
    ROW_ATTENTION = "attention rows of a decoder layer"
    COLUMN_ATTENTION = "attention columns of a decoder layer, over all visual queries"
    DECODER_KEYS = "the attention keys of a decoder layer"
    DECODE_ATTENTION = "the attention of each generated token, and a cache that can be pruned while decoding"
    TILES = "a picture cut into a thumbnail and tiles"
    FRAMES = "a video of several frames"
    SMALLER_INPUT = "a picture that may be resized before the vision tower"
    EXTRA_LAYERS = "additional decoder layers beside the model's own"


# what official code reads off whole attention matrices
ATTENTION = frozenset({Need.CLS_ATTENTION, Need.SALIENCY, Need.ROW_ATTENTION, Need.COLUMN_ATTENTION})


class View:
    """Read-only; hands out only what its policy declared, and notes what was asked for."""

    def __init__(self, needs: frozenset[Need]) -> None:
        self._needs = needs
        self.used: set[Need] = set()

    def _use(self, need: Need) -> None:
        if need not in self._needs:
            raise BrokenPromiseError(
                f"the policy reads {need.value} without declaring it", f"add Need.{need.name} to its `needs`"
            )
        self.used.add(need)


class ImageView(View):
    """Between vision tower and decoder: the visual tokens of each sample, in sequence order.

    `tokens` are projected embeddings; for a policy with `before_projector` on a model that projects
    token by token, they are the tower's features, and only what is kept gets projected.
    `tile`, `block`, `row`, `col` are (present,) index tensors, alike for all samples.
    """

    scene: Scene
    tokens: Tensor  # (batch, present, width)
    tile: Tensor
    block: Tensor
    row: Tensor
    col: Tensor

    @property
    def features(self) -> Tensor:
        """The vision tower's features, (batch, present, vision width). Need.PATCH_FEATURES"""
        raise NotImplementedError

    def cls_attention(self, layer: int | None = None, *, logits: bool = False) -> Tensor:
        """The class token's attention per head, (batch, heads, present). Need.CLS_ATTENTION

        `layer`: a 0-based vision block; default the one whose output feeds the projector.
        `logits`: scaled scores instead of probabilities.
        """
        raise NotImplementedError

    def saliency(self, layer: int | None = None) -> Tensor:
        """(batch, present): mean over heads of the class token's attention; without a class token,
        the mean attention a patch receives from all patches. Need.SALIENCY"""
        raise NotImplementedError

    def patch_keys(self, layer: int | None = None) -> Tensor:
        """Keys of a vision block, heads side by side: (batch, present, vision width). Need.PATCH_KEYS"""
        raise NotImplementedError

    def cls_features(self) -> Tensor:
        """(batch, tiles, width), in the space of `tokens`. Need.CLS_FEATURE"""
        raise NotImplementedError

    @property
    def prompt(self) -> Tensor:
        """Embeddings of the text behind the first visual token, (batch, text after, width). Need.PROMPT_EMBEDDINGS"""
        raise NotImplementedError


class VisionView(View):
    """Inside a vision block, between attention and feed-forward: one row per tile, class token hidden.

    `sizes` (tiles, present): patches each token stands for. Need.TOWER_TOKENS
    """

    scene: Scene
    block: int
    tokens: Tensor  # (tiles, present, vision width)
    sizes: Tensor

    def keys(self) -> Tensor:
        """Mean over heads of this block's keys, (tiles, present, head dim)."""
        raise NotImplementedError


Rows = Literal["last", "instruction", "visual"]


class DecoderView(View):
    """At a stop: the visual tokens still present, in sequence order.

    `memory` lives for one prefill: a policy may leave tensors there for its later stops.
    """

    scene: Scene
    stop: int
    tokens: Tensor  # (batch, present, width)
    memory: dict[str, Any]

    @property
    def before(self) -> Tensor:
        """The same tokens one layer earlier, (batch, present, width). Need.HIDDEN_BEFORE"""
        raise NotImplementedError

    @property
    def prompt(self) -> Tensor:
        """Hidden states of the text behind the first visual token. Need.PROMPT_EMBEDDINGS"""
        raise NotImplementedError

    def attention(
        self,
        rows: Rows,
        *,
        layer: Literal["previous", "next"],
        weights: Tensor | None = None,
        columns: Literal["visual", "instruction"] = "visual",
        mean_heads: bool = True,
        over: Literal["sequence", "columns"] = "sequence",
    ) -> Tensor:
        """Mean over query rows of a layer's causal attention to the columns: (batch, columns).

        `rows`: the last token, the text behind the first visual token, or every visual token
        (the latter is Need.COLUMN_ATTENTION, the others Need.ROW_ATTENTION).
        `layer`: the layer that has just run (its queries, its cached keys), or the one about to run
        (its projections applied to the present hidden states).
        `weights`: (batch, rows), instead of a plain mean, or (batch, rows, columns).
        `mean_heads=False`: (batch, heads, columns).
        `over`: softmax over the whole sequence, or over the columns alone.
        """
        raise NotImplementedError

    def decay(self, rows: Rows) -> Tensor:
        """How rotary ids alone weaken attention with distance: (batch, rows, present).

        Scaled products of rotated vectors of ones at the rows' and the visual tokens' places. Needs
        as for `attention`.
        """
        raise NotImplementedError

    def keys(self, layer: Literal["previous", "next"]) -> Tensor:
        """Mean over key heads of the rotated keys, (batch, present, head dim). Need.DECODER_KEYS"""
        raise NotImplementedError


class CacheView(View):
    """At a decode step, before a layer that may read a pruned cache. Need.DECODE_ATTENTION"""

    step: int
    visual: int  # visual entries in the cache of the layer that has just run
    memory: dict[str, Any]

    def attention(self) -> Tensor:
        """Mean over heads of the current query's attention to them, (batch, visual)."""
        raise NotImplementedError
