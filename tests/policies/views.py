"""Views over given tensors, and small scenes: what policies see, without a model.

Every fake notes the needs it was asked for, as the real views do, and raises on undeclared ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tokprof.policies.base import CacheView, DecoderView, ImageView, Need, Policy, Scene, VisionView
from tokprof.shapes import Block, DecoderShape, ModelShape, VisionShape, VisualLayout

HEADS, WIDTH, VISION_WIDTH = 2, 8, 6


def model(
    *, side: int = 4, cls: bool = True, depth: int = 8, tiling: str = "single", videos: bool = False
) -> ModelShape:
    vision = VisionShape(
        kind="clip" if cls else "siglip",
        depth=5,
        layers_run=4,
        width=VISION_WIDTH,
        ffn=12,
        heads=HEADS,
        image_px=14 * side,
        patch_px=14,
        cls_token=cls,
    )
    decoder = DecoderShape(depth=depth, width=WIDTH, ffn=16, heads=HEADS, kv_heads=HEADS, vocab=32)
    return ModelShape(
        name="fake",
        family="fake",
        decoder=decoder,
        vision=vision,
        projector=((VISION_WIDTH, WIDTH), (WIDTH, WIDTH)),
        tiling=tiling,  # type: ignore[arg-type]
        videos=videos,
    )


def scene_of(*blocks: Block, batch: int = 1, text: int = 7, text_after: int = 4, **shape: Any) -> Scene:
    layout = VisualLayout(blocks)
    return Scene(
        model=model(side=blocks[0].side, **shape), layout=layout, text=text, text_after=text_after, batch=batch
    )


def single(side: int = 4, **more: Any) -> Scene:
    """One square picture of side × side tokens."""
    return scene_of(Block(rows=side, cols=side, side=side), **more)


def anyres(side: int = 4, tile_rows: int = 2, tile_cols: int = 2, top: int = 0, left: int = 0, **more: Any) -> Scene:
    """A thumbnail, then tiles stitched to a grid with `top` rows and `left` columns cut away on both sides."""
    return scene_of(*tiled(side, tile_rows, tile_cols, top, left), tiling="anyres", **more)


def tiled(side: int, tile_rows: int, tile_cols: int, top: int = 0, left: int = 0, image: int = 0) -> list[Block]:
    grid = Block(
        rows=tile_rows * side - 2 * top,
        cols=tile_cols * side - 2 * left,
        side=side,
        image=image,
        tile_rows=tile_rows,
        tile_cols=tile_cols,
        top=top,
        left=left,
        newline="row",
    )
    return [Block(rows=side, cols=side, side=side, image=image, thumbnail=True), grid]


def several(images: int = 2, side: int = 4, **more: Any) -> Scene:
    """Several square pictures in one prompt."""
    return scene_of(*(Block(rows=side, cols=side, side=side, image=image) for image in range(images)), **more)


def video(frames: int = 4, side: int = 3, **more: Any) -> Scene:
    """Frames of side × side tokens, one newline at the very end."""
    blocks = [Block(rows=side, cols=side, side=side, frame=frame) for frame in range(frames - 1)]
    last = Block(rows=side, cols=side, side=side, frame=frames - 1, newline="end")
    return scene_of(*blocks, last, videos=True, **more)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def places(policy: Policy, scene: Scene) -> dict[str, Tensor]:
    """tile, block, row, col of the tokens that the policy is shown."""
    columns = {name: torch.tensor(scene.layout.column(name)) for name in ("tile", "block", "row", "col")}
    shown = columns["tile"] >= 0
    return columns if policy.newlines == "candidates" else {name: column[shown] for name, column in columns.items()}


class FakeImageView(ImageView):
    """Everything random by seed unless given. `logits`: {layer: (batch, heads, present)}, None: the default layer."""

    def __init__(
        self,
        policy: Policy,
        scene: Scene,
        *,
        seed: int = 0,
        tokens: Tensor | None = None,
        logits: Mapping[int | None, Tensor] | None = None,
        saliency: Tensor | None = None,
        keys: Tensor | None = None,
        features: Tensor | None = None,
    ) -> None:
        super().__init__(policy.needs | policy.optional)
        self.scene = scene.seen_by(policy)
        batch, present, vision = scene.batch, self.scene.visual, scene.model.vision
        width = vision.width if policy.before_projector else scene.model.decoder.width
        self.tokens = noise(batch, present, width, seed=seed) if tokens is None else tokens
        self._logits = logits or {}
        self._present, self._seed, self._saliency = (batch, present), seed, saliency
        self._keys = noise(batch, present, vision.width, seed=seed + 1) if keys is None else keys
        self._features = noise(batch, present, vision.width, seed=seed + 2) if features is None else features
        self.cls = noise(batch, scene.layout.tower_passes, width, seed=seed + 3)
        self._prompt = noise(batch, scene.text_after, scene.model.decoder.width, seed=seed + 4)
        for name, column in places(policy, scene).items():
            setattr(self, name, column)

    @property
    def features(self) -> Tensor:
        self._use(Need.PATCH_FEATURES)
        return self._features

    def cls_attention(self, layer: int | None = None, *, logits: bool = False) -> Tensor:
        """Probabilities per tile; the class token's own key counts as one key of logit 0."""
        self._use(Need.CLS_ATTENTION)
        assert self.scene.model.vision.cls_token, "this model has no class token"
        return self._rows(layer) if logits else self._softmax(self._rows(layer))

    def _rows(self, layer: int | None) -> Tensor:
        if layer in self._logits:
            return self._logits[layer]
        batch, present = self._present
        drawn = 2 * noise(batch, self.scene.model.vision.heads, present, seed=self._seed + 10 + (layer or 0))
        return drawn.to(self.tokens.device)

    def _softmax(self, logits: Tensor) -> Tensor:
        raised = logits.exp()
        of_tile = (self.tile[:, None] == self.tile[None, :]).to(raised.dtype)
        return raised / ((raised[..., None, :] * of_tile).sum(dim=-1) + 1)  # no matrix product: the fake has no costs

    def saliency(self, layer: int | None = None) -> Tensor:
        self._use(Need.SALIENCY)
        return self._softmax(self._rows(layer)).mean(dim=1) if self._saliency is None else self._saliency

    def patch_keys(self, layer: int | None = None) -> Tensor:
        self._use(Need.PATCH_KEYS)
        return self._keys

    def cls_features(self) -> Tensor:
        self._use(Need.CLS_FEATURE)
        assert self.scene.model.vision.cls_token, "this model has no class token"
        return self.cls

    @property
    def prompt(self) -> Tensor:
        self._use(Need.PROMPT_EMBEDDINGS)
        return self._prompt


class FakeVisionView(VisionView):
    def __init__(
        self,
        policy: Policy,
        scene: Scene,
        block: int,
        tokens: Tensor,
        keys: Tensor | None = None,
        sizes: Tensor | None = None,
    ) -> None:
        super().__init__(policy.needs | policy.optional)
        self._use(Need.TOWER_TOKENS)
        self.scene = scene.seen_by(policy)
        self.block, self.tokens = block, tokens
        self.sizes = torch.ones(tokens.shape[:2]) if sizes is None else sizes
        self._keys = noise(*tokens.shape[:2], tokens.shape[2] // HEADS, seed=block) if keys is None else keys

    def keys(self) -> Tensor:
        return self._keys


class FakeDecoderView(DecoderView):
    """`attentions`: {rows: (batch, present)} or {(rows, columns): …}; the rest random by seed."""

    def __init__(
        self,
        policy: Policy,
        scene: Scene,
        stop: int,
        *,
        seed: int = 0,
        present: int | None = None,
        tokens: Tensor | None = None,
        before: Tensor | None = None,
        prompt: Tensor | None = None,
        keys: Tensor | None = None,
        attentions: Mapping[Any, Tensor] | None = None,
        memory: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(policy.needs | policy.optional)
        self.scene, self.stop = scene.seen_by(policy), stop
        self.memory = {} if memory is None else memory
        count = self.scene.visual if present is None else present
        decoder, batch = scene.model.decoder, scene.batch
        self.tokens = noise(batch, count, decoder.width, seed=seed) if tokens is None else tokens
        self._before = noise(*self.tokens.shape, seed=seed + 1) if before is None else before
        self._prompt = noise(batch, scene.text_after, decoder.width, seed=seed + 2) if prompt is None else prompt
        self._keys = noise(*self.tokens.shape[:2], decoder.head_dim, seed=seed + 3) if keys is None else keys
        self._attentions, self._seed = attentions or {}, seed
        self.asked: list[dict[str, Any]] = []

    @property
    def before(self) -> Tensor:
        self._use(Need.HIDDEN_BEFORE)
        return self._before

    @property
    def prompt(self) -> Tensor:
        self._use(Need.PROMPT_EMBEDDINGS)
        return self._prompt

    def attention(self, rows: Any, **asked: Any) -> Tensor:
        self._use(Need.COLUMN_ATTENTION if rows == "visual" else Need.ROW_ATTENTION)
        self.asked.append({"rows": rows, **asked})
        columns = asked.get("columns", "visual")
        for key in ((rows, columns), rows):
            if key in self._attentions:
                return self._attentions[key]
        count = self.tokens.shape[1] if columns == "visual" else self.scene.text_after
        per_head = noise(self.tokens.shape[0], self.scene.model.decoder.heads, count, seed=self._seed + 20).softmax(-1)
        return per_head.mean(dim=1) if asked.get("mean_heads", True) else per_head

    def decay(self, rows: Any) -> Tensor:
        self._use(Need.COLUMN_ATTENTION if rows == "visual" else Need.ROW_ATTENTION)
        asking = {"last": 1, "instruction": self.scene.text_after, "visual": self.tokens.shape[1]}[rows]
        products = 0.5 + noise(self.tokens.shape[0], asking, self.tokens.shape[1], seed=self._seed + 30).abs()
        return products.to(self.tokens.device)

    def keys(self, layer: Any) -> Tensor:
        self._use(Need.DECODER_KEYS)
        return self._keys


class FakeCacheView(CacheView):
    def __init__(self, policy: Policy, step: int, attention: Tensor, memory: dict[str, Any] | None = None) -> None:
        super().__init__(policy.needs | policy.optional)
        self.step, self.visual = step, int(attention.shape[1])
        self.memory = {} if memory is None else memory
        self._attention = attention

    def attention(self) -> Tensor:
        self._use(Need.DECODE_ATTENTION)
        return self._attention
