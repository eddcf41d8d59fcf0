"""What HiDivDrop looks at to find its layers (figures 2, 4, 6 and 9): plain functions on tensors.

Hidden states and attention of all layers come in, curves over layers go out; somebody else records
the former and draws the latter.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import cosine_similarity


def intra_modal_similarity(states: Tensor) -> Tensor:
    """Figure 2, upper panel, S_intra: states (layers, samples, tokens of one modality, width) → (layers − 1,).

    Mean over samples and tokens of the cosine between a token's states at consecutive layers.
    """
    states = states.float()
    return cosine_similarity(states[:-1], states[1:], dim=-1).mean(dim=(1, 2))


def cross_modal_change(instruction: Tensor, reference: Tensor) -> Tensor:
    """Figure 2, lower panel, S_cross: 1 − mean cosine of an instruction's states with those beside another picture.

    instruction (layers, samples, tokens, width), reference (layers, tokens, width) → (layers,). The
    paper writes one vector H_ins per sample; this is all its tokens' states in one vector.
    """
    flat = instruction.float().flatten(2)
    return 1 - cosine_similarity(flat, reference.float().flatten(1)[:, None], dim=-1).mean(dim=1)


def ilvas(attention: Tensor, window: int, top: int) -> Tensor:
    """Figures 6 and 9, Inter-Layer Visual Attention Similarity: (layers, heads, visual) → (layers − window,).

    At layer l, the `top` visual tokens with the most attention (mean over heads) are compared with
    themselves at layer l + window: mean cosine of their vectors over heads. The paper leaves the
    query open; the last text token is what its filters use.
    """
    attention = attention.float()
    now, later = attention[: attention.shape[0] - window], attention[window:]
    most = now.mean(dim=1).sort(dim=-1, descending=True, stable=True).indices[:, :top]
    index = most[:, None].expand(-1, now.shape[1], -1)
    return cosine_similarity(now.gather(2, index), later.gather(2, index), dim=1).mean(dim=-1)


def local_maxima(curve: Sequence[float] | Tensor) -> list[int]:
    """Layers where a curve is above both neighbours: where ILVAS puts filters (a caption says "valleys")."""
    values = [float(value) for value in curve]
    return [at for at in range(1, len(values) - 1) if values[at - 1] < values[at] > values[at + 1]]


def local_minima(curve: Sequence[float] | Tensor) -> list[int]:
    """Where S_intra of the visual tokens has valleys, visual tokens should enter (layer 9 of 32)."""
    return local_maxima([-float(value) for value in curve])


def exit_plateau(quality: Sequence[float], tolerance: float) -> int | None:
    """Figure 4: the first exit layer from which on quality stays within `tolerance` of the last one's.

    `quality[k]`: any score, higher is better, with all visual tokens gone from layer k on.
    """
    if not quality:
        return None
    reached = len(quality) - 1
    while reached > 0 and quality[reached - 1] >= quality[-1] - tolerance:
        reached -= 1
    return reached


def concentration(attention: Tensor) -> Tensor:
    """Share of the attention on visual tokens that the heaviest 1, 2, … of them hold: (…, visual) → (…, visual)"""
    ordered = attention.float().sort(dim=-1, descending=True).values
    return ordered.cumsum(dim=-1) / ordered.sum(dim=-1, keepdim=True)
