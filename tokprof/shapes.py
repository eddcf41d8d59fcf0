"""The integers that token counts, FLOPs and KV bytes need. No torch.

A `ModelShape` describes an architecture; a `VisualLayout` describes the visual tokens of one
prompt, in the order in which the decoder sees them. Everything that tokprof plans before a run
is computed from these two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Newline = Literal["none", "row", "end", "start"]


@dataclass(frozen=True, kw_only=True)
class DecoderShape:
    """A Llama-like decoder: grouped-query attention and a feed-forward block of 2 or 3 matrices."""

    depth: int
    width: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    head_dim: int = 0
    ffn_matrices: int = 3
    tied_head: bool = False
    qkv_bias: bool = False

    def __post_init__(self) -> None:
        if not self.head_dim:
            object.__setattr__(self, "head_dim", self.width // self.heads)

    @property
    def query_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer's matrices: what one token multiplies with (norms and biases apart)."""
        attention = 2 * self.width * self.query_width + 2 * self.width * self.kv_width
        return attention + self.ffn_matrices * self.width * self.ffn

    @property
    def kv_values_per_token(self) -> int:
        """Numbers that one token leaves in one layer's cache (keys and values)."""
        return 2 * self.kv_width


@dataclass(frozen=True, kw_only=True)
class VisionShape:
    """A vision transformer. `layers_run` of its `depth` blocks produce the features the decoder gets."""

    kind: Literal["clip", "siglip", "qwen2vl", "qwen2.5vl"]
    depth: int
    layers_run: int
    width: int
    ffn: int
    heads: int
    image_px: int
    patch_px: int
    cls_token: bool
    ffn_matrices: int = 2
    temporal_patch: int = 1
    merge_side: int = 1  # patches merged side by side before the decoder (Qwen: 2)
    window_px: int = 0  # side of an attention window; 0: every block attends to the whole picture
    full_attention_blocks: tuple[int, ...] = ()  # with windows: the blocks that still see everything

    @property
    def side(self) -> int:
        """Patches along one side of a square tile."""
        return self.image_px // self.patch_px

    @property
    def patches(self) -> int:
        return self.side**2

    @property
    def tokens(self) -> int:
        """Tokens per tile inside the tower, CLS included."""
        return self.patches + int(self.cls_token)

    @property
    def patch_values(self) -> int:
        """Numbers in one patch: what the patch embedding multiplies."""
        return 3 * self.temporal_patch * self.patch_px**2

    @property
    def block_parameters(self) -> int:
        return 4 * self.width**2 + self.ffn_matrices * self.width * self.ffn


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    name: str
    family: str
    decoder: DecoderShape
    vision: VisionShape
    projector: tuple[tuple[int, int], ...]  # (inputs, outputs) of each linear layer
    tiling: Literal["single", "anyres", "anyres-max", "native", "video-frames"]
    grids_px: tuple[tuple[int, int], ...] = ()  # any-resolution grids (height, width)
    video_pool: int = 1  # OneVision pools each video frame by this side
    max_tiles: int = 0  # anyres-max: beyond so many tiles the stitched grid is resized
    rotary: Literal["rope", "mrope"] = "rope"
    videos: bool = False
    images: bool = True
    default_frames: int = 0
    min_pixels: int = 0
    max_pixels: int = 0


@dataclass(frozen=True, kw_only=True)
class Block:
    """Visual tokens on one rectangular grid in raster order.

    A thumbnail, the stitched tiles of an any-resolution picture, a whole picture, or a video frame.
    `tile_rows × tile_cols` passes of the vision tower, each `side × side` patches, are stitched to a
    grid; `top`/`left` rows/columns of it are cut away on both sides (unpadding); what is left has
    `rows × cols` tokens. `resampled`: the grid was interpolated or pooled, so that a token is no
    longer one patch. Where the tower runs at the picture's own size (one pass, patches merged to
    tokens), `side` is only the longer side. `newline="start"`: the frame's class token in front of it,
    which like a newline shows no place.
    """

    rows: int
    cols: int
    side: int
    image: int = 0
    frame: int = 0
    tile_rows: int = 1
    tile_cols: int = 1
    top: int = 0
    left: int = 0
    newline: Newline = "none"
    resampled: bool = False
    thumbnail: bool = False

    @property
    def patches(self) -> int:
        return self.rows * self.cols

    @property
    def newlines(self) -> int:
        return {"none": 0, "row": self.rows, "end": 1, "start": 1}[self.newline]

    @property
    def count(self) -> int:
        return self.patches + self.newlines

    @property
    def tiles(self) -> int:
        return self.tile_rows * self.tile_cols

    def tokens(self) -> Iterator[tuple[int, int]]:
        """(row, column) of each token in sequence order; a newline is (row, -1)."""
        if self.newline == "start":
            yield 0, -1
        for row in range(self.rows):
            for col in range(self.cols):
                yield row, col
            if self.newline == "row":
                yield row, -1
        if self.newline == "end":
            yield self.rows - 1, -1

    def patch(self, row: int, col: int) -> tuple[int, int]:
        """(tile, raster index within the tile) under a token; the nearest one when resampled."""
        if self.resampled:
            row = min((2 * row + 1) * self.tile_rows * self.side // (2 * self.rows), self.tile_rows * self.side - 1)
            col = min((2 * col + 1) * self.tile_cols * self.side // (2 * self.cols), self.tile_cols * self.side - 1)
        else:
            row, col = row + self.top, col + self.left
        tile = (row // self.side) * self.tile_cols + col // self.side
        return tile, (row % self.side) * self.side + col % self.side


@dataclass(frozen=True)
class VisualLayout:
    """The visual tokens of one prompt, in sequence order: its pictures' (or frames') blocks."""

    blocks: tuple[Block, ...]

    @cached_property
    def count(self) -> int:
        """All visual tokens, newline tokens included."""
        return sum(block.count for block in self.blocks)

    @cached_property
    def newlines(self) -> int:
        return sum(block.newlines for block in self.blocks)

    @property
    def patches(self) -> int:
        """Visual tokens that show something: all but the newline tokens."""
        return self.count - self.newlines

    @cached_property
    def tower_passes(self) -> int:
        return sum(block.tiles for block in self.blocks)

    @cached_property
    def images(self) -> int:
        return 1 + max((block.image for block in self.blocks), default=-1)

    @cached_property
    def image_counts(self) -> tuple[int, ...]:
        """Visual tokens of each image (or video), newline tokens included."""
        counts = [0] * self.images
        for block in self.blocks:
            counts[block.image] += block.count
        return tuple(counts)

    @cached_property
    def _places(self) -> list[tuple[int, int, int, int, int]]:
        """(block, row, col, tile, patch) per token; newline: col = tile = patch = -1."""
        places, first_tile = [], 0
        for index, block in enumerate(self.blocks):
            for row, col in block.tokens():
                tile, patch = (-1, -1) if col < 0 else block.patch(row, col)
                places.append((index, row, col, tile + first_tile if col >= 0 else -1, patch))
            first_tile += block.tiles
        return places

    def column(self, name: Literal["block", "row", "col", "tile", "patch"]) -> list[int]:
        """One number per visual token, in sequence order. `tile` counts tower passes over the prompt."""
        index = ("block", "row", "col", "tile", "patch").index(name)
        return [place[index] for place in self._places]
