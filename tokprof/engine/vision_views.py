"""The views that policies look through before the decoder, over a real model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tokprof.models.adapter import Adapter, Prepared, VisionStates
from tokprof.policies.base import ImageView, Need, Policy, Scene, VisionView


class LiveVisionView(VisionView):
    def __init__(
        self, needs: frozenset[Need], scene: Scene, block: int, tokens: Tensor, keys: Any, sizes: Tensor
    ) -> None:
        super().__init__(needs)
        self._use(Need.TOWER_TOKENS)
        self.scene = scene
        self.block, self.tokens, self.sizes, self._keys = block, tokens, sizes, keys

    def keys(self) -> Tensor:
        keys: Tensor = self._keys()
        return keys


class LiveImageView(ImageView):
    """`tokens` are given by the engine, for it knows in which space they are wanted."""

    def __init__(
        self,
        policy: Policy,
        scene: Scene,
        adapter: Adapter,
        states: VisionStates,
        prepared: Prepared,
        tokens: Tensor,
        official: bool = False,
    ) -> None:
        super().__init__(policy.needs | policy.optional)
        self.scene, self.tokens = scene, tokens
        self._adapter, self._states, self._prepared = adapter, states, prepared
        self._with_newlines = policy.newlines == "candidates"
        self._projected = not (policy.before_projector and adapter.projects_by_token)
        for name in ("tile", "block", "row", "col"):
            setattr(self, name, self._shown(prepared.places[name]))
        self._maps = self._materialised() if official else {}

    def _materialised(self) -> dict[int, Tensor]:
        """Every block's whole attention, all kept at once: what `output_attentions=True` makes of a tower."""
        maps = {layer: self._adapter.whole_attention(self._states, layer) for layer in sorted(self._states.inputs)}
        return {layer: found for layer, found in maps.items() if found is not None}

    def _shown(self, per_token: Tensor) -> Tensor:
        return per_token if self._with_newlines else per_token[self._prepared.candidates]

    def _spread(self, per_patch: Tensor) -> Tensor:
        """Per patch → per shown token; a newline token that is shown gets zeros."""
        spread = self._adapter.spread(per_patch, self._prepared)  # (batch, patches, …)
        if not self._with_newlines:
            return spread
        every = spread.new_zeros((spread.shape[0], self.scene.layout.count, *spread.shape[2:]))
        return every.index_copy(1, self._prepared.candidates, spread)

    def _layer(self, layer: int | None) -> int:
        return self._adapter.default_watch if layer is None else layer

    @property
    def features(self) -> Tensor:
        self._use(Need.PATCH_FEATURES)
        return self._spread(self._states.features)

    def cls_attention(self, layer: int | None = None, *, logits: bool = False) -> Tensor:
        self._use(Need.CLS_ATTENTION)
        return self._cls_rows(layer, logits)

    def _cls_rows(self, layer: int | None, logits: bool) -> Tensor:
        layer = self._layer(layer)
        if layer in self._maps and not logits:
            rows = self._maps[layer][:, :, 0, 1:]
        else:
            rows = self._adapter.cls_attention(self._states, layer, logits=logits)
        return self._spread(rows.transpose(1, 2)).transpose(1, 2).float()

    def saliency(self, layer: int | None = None) -> Tensor:
        self._use(Need.SALIENCY)
        if self._adapter.shape.vision.cls_token:
            return self._cls_rows(layer, False).mean(dim=1)
        return self._spread(self._adapter.received_attention(self._states, self._layer(layer))).float()

    def patch_keys(self, layer: int | None = None) -> Tensor:
        self._use(Need.PATCH_KEYS)
        return self._spread(self._adapter.patch_keys(self._states, self._layer(layer)))

    def cls_features(self) -> Tensor:
        self._use(Need.CLS_FEATURE)
        assert self._states.cls is not None
        cls = self._states.cls.view(self._prepared.batch, -1, self._states.cls.shape[-1])
        return self._adapter.project(cls) if self._projected else cls

    @property
    def prompt(self) -> Tensor:
        self._use(Need.PROMPT_EMBEDDINGS)
        after = self._prepared.text_index[self._prepared.text_index.shape[0] - self.scene.text_after :]
        return self._adapter.decoder.embed(self._prepared.input_ids[:, after])
