"""Where visual tokens enter, thin out and leave without harm: the papers' layer diagnostics on given pictures.

One unpruned request per picture, watched at every layer, gives HiDivDrop's similarities and VTW's
attention; one request per layer with every visual token withdrawn there gives VTW's divergence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from tokprof import policies
from tokprof.diagnostics import ilvas, intra_modal_similarity, local_maxima
from tokprof.engine.request import run_request
from tokprof.errors import ParameterError
from tokprof.measure.clock import NoClock
from tokprof.models.adapter import Adapter, Prepared
from tokprof.policies.base import DecoderView, Edit, Need, Policy
from tokprof.policies.vtw import search_exit_layer, withdrawal_divergence


@dataclass(frozen=True)
class Diagnosis:
    """One number per stop 1 … depth − 1 (after so many layers), on the mean over pictures."""

    stops: tuple[int, ...]
    visual_change: tuple[float, ...]  # 1 − S_intra of the visual tokens across the layer that has just run
    text_change: tuple[float, ...]
    visual_attention: tuple[float, ...]  # share of the last token's attention that lies on visual tokens
    ilvas: tuple[float | None, ...]
    withdrawal: tuple[float, ...]  # KL(withdrawn ‖ full) of the first answer token

    @property
    def entry_stops(self) -> list[int]:
        """Valleys of the visual tokens' similarity: where they begin to matter."""
        return [self.stops[at] for at in local_maxima(self.visual_change)]

    @property
    def filter_stops(self) -> list[int]:
        known = [value for value in self.ilvas if value is not None]
        return [self.stops[at] for at in local_maxima(known)]

    def exit_stop(self, eta: float, first: int) -> int | str:
        """VTW's exit layer, or why there is none."""
        try:
            return search_exit_layer(dict(zip(self.stops, self.withdrawal, strict=True)), eta, first)
        except ParameterError as error:
            return f"{error.message}; {error.hint}"


@dataclass(frozen=True, kw_only=True)
class Observer(Policy):
    """Keeps everything and notes what it sees at every stop."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ROW_ATTENTION, Need.PROMPT_EMBEDDINGS})

    seen: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    @property
    def identity(self) -> bool:
        return False

    def decoder_stops(self, depth: int) -> Iterable[int]:
        return range(1, depth)

    def edit_decoder(self, view: DecoderView) -> Edit | None:
        attention = view.attention("last", layer="previous", mean_heads=False)
        self.seen.append((view.tokens, view.prompt, attention))
        return None


def diagnose(adapter: Adapter, requests: Sequence[Prepared], *, window: int = 4, top: int = 50) -> Diagnosis:
    depth = adapter.shape.decoder.depth
    stops = tuple(range(1, depth))
    found = [_look(adapter, prepared, stops, window, top) for prepared in requests]
    means = [
        tuple(sum(values) / len(values) for values in zip(*series, strict=True)) for series in zip(*found, strict=True)
    ]
    visual, text, attention, similar, withdrawn = means
    padded = (*similar, *((None,) * (len(stops) - len(similar))))
    return Diagnosis(stops, (0.0, *visual), (0.0, *text), attention, padded, withdrawn)


def _look(adapter: Adapter, prepared: Prepared, stops: Sequence[int], window: int, top: int) -> tuple[list[float], ...]:
    observer = Observer()
    full = run_request(adapter, observer, prepared, NoClock(), 1).logits
    visual, text, attention = (torch.stack(states).float() for states in zip(*observer.seen, strict=True))
    per_head = attention[:, 0]  # (stops, heads, visual), the first sample's
    withdrawn = [
        float(withdrawal_divergence(full, run_request(adapter, _exit(stop), prepared, NoClock(), 1).logits).mean())
        for stop in stops
    ]
    similar = ilvas(per_head, min(window, len(stops) - 1), min(top, per_head.shape[-1])).tolist()
    return (
        (1 - intra_modal_similarity(visual)).tolist(),
        (1 - intra_modal_similarity(text)).tolist(),
        attention.sum(-1).mean((1, 2)).tolist(),
        similar,
        withdrawn,
    )


def _exit(stop: int) -> Policy:
    return policies.build("vtw", layers=(stop,))
