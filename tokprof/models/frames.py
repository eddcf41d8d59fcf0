"""Video frames to pixels: Hugging Face's video processors want torchvision, which we do without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image


def frame_pixels(frames: Sequence[Image], size: tuple[int, int], processor: Any) -> Tensor:
    """(frames, 3, height, width): each resized to `size` (width, height), normalised as the processor does pictures."""
    import numpy
    from PIL.Image import Resampling

    resized = [numpy.asarray(frame.resize(size, Resampling.BICUBIC)) for frame in frames]
    pixels = torch.from_numpy(numpy.stack(resized)).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    return (pixels - mean) / deviation
