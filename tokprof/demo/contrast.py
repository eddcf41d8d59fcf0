"""The tower's own objective: tell which bag of words describes which picture, as CLIP does.

Only the pooled CLS token is asked, and only about the picture as a whole. Where the CLS looks is
never taught; it is what looking for the right words happens to take. The heads are thrown away.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokprof.demo.files import PAD


class CaptionContrast(nn.Module):
    """Symmetric InfoNCE between pooled pictures and bags of words."""

    def __init__(self, width: int, words: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.caption = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.picture = nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def forward(self, pooled: Tensor, words: Tensor) -> Tensor:
        said = (words != PAD).float().unsqueeze(2)
        bag = (self.words(words) * said).sum(dim=1)
        captions = functional.normalize(self.caption(bag).float(), dim=1)
        pictures = functional.normalize(self.picture(pooled).float(), dim=1)
        scores = self.log_scale.clamp(max=4.6).exp() * pictures @ captions.T
        target = torch.arange(len(scores), device=scores.device)
        both = functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)
        return both / 2
