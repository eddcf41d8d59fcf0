"""The tower's own objectives: words that come with pictures, never a map of what is where.

The pooled CLS token tells which caption belongs to which picture, as in CLIP. Where it looks is not
taught; it is what finding the right words happens to take. Of the patches of each quarter, some
patch has to say each word that is said about the quarter; which one, nobody says. Both heads are
thrown away after training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokprof.demo.words import ASPECTS


class CaptionHeads(nn.Module):
    """Bags of words are `(..., words)`: 1 where the word is said."""

    def __init__(self, width: int) -> None:
        super().__init__()
        words = sum(len(aspect) for aspect in ASPECTS)
        self.caption = nn.Sequential(nn.Linear(words, width), nn.GELU(), nn.Linear(width, width))
        self.picture = nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        rarely = nn.Linear(width, words)
        nn.init.constant_(rarely.bias, -5.0)
        self.quarter = nn.Sequential(nn.LayerNorm(width), rarely)

    def contrast(self, pooled: Tensor, said: Tensor, aspect: int | None) -> Tensor:
        """Symmetric InfoNCE; `aspect` limits the captions to colours, shapes or digits.

        Pictures whose captions are alike are equally right for each other.
        """
        if aspect is not None:
            said = said * _words_of(aspect).to(said)
        captions = functional.normalize(self.caption(said).float(), dim=1)
        pictures = functional.normalize(self.picture(pooled).float(), dim=1)
        scores = self.log_scale.clamp(max=4.0).exp() * pictures @ captions.T
        alike = (said[:, None] == said[None]).all(dim=2).float()
        target = alike / alike.sum(dim=1, keepdim=True)
        both = functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)
        return both / 2

    def quarters(self, patches: Tensor, said: Tensor) -> Tensor:
        """Which words fit each quarter; `said` is `(batch, 4, words)`."""
        side = int(patches.shape[1] ** 0.5)
        guesses = torch.unflatten(self.quarter(patches), 1, (2, side // 2, 2, side // 2)).float()
        guesses = guesses.logsumexp(dim=(2, 4)).flatten(1, 2)  # (batch, 4, words)
        each = functional.binary_cross_entropy_with_logits(guesses, said, reduction="none")
        return each.sum(dim=2).mean()


def _words_of(aspect: int) -> Tensor:
    """1 for the words of one aspect, 0 for all others."""
    marks = [torch.full((len(words),), float(number == aspect)) for number, words in enumerate(ASPECTS)]
    return torch.cat(marks)
