"""Models: the contract (`adapter`), one file per family, and every known model by name (`catalog`)."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from tokprof.errors import ParameterError

if TYPE_CHECKING:
    import torch

    from tokprof.models.catalog import Entry
    from tokprof.models.huggingface import HuggingFaceAdapter

FAMILIES = {  # family → (our module, our class, Hugging Face's class)
    "llava": ("llava", "Llava", "LlavaForConditionalGeneration"),
    "llava_next": ("llava", "LlavaNext", "LlavaNextForConditionalGeneration"),
    "llava_onevision": ("llava_onevision", "LlavaOneVision", "LlavaOnevisionForConditionalGeneration"),
    "qwen2_vl": ("qwen2_vl", "Qwen2VL", "Qwen2VLForConditionalGeneration"),
    "qwen2_5_vl": ("qwen2_vl", "Qwen25VL", "Qwen2_5_VLForConditionalGeneration"),
    "video_llava": ("video_llava", "VideoLlava", "VideoLlavaForConditionalGeneration"),
}


def load(
    name: str | Entry,
    weights: str = "auto",
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    attention: str = "sdpa",
    seed: int = 0,
) -> HuggingFaceAdapter:
    """A model ready to run. `weights`: auto, random, hub or a folder; `attention`: sdpa, flash or eager.

    `adapter.notes` holds what a person should be told, such as a fall back to random weights.
    """
    import torch

    from tokprof.models.catalog import find
    from tokprof.models.files import processor_in, tokenizer_in
    from tokprof.models.weights import Wish, obtain

    entry = find(name) if isinstance(name, str) else name
    device, dtype = torch.device(device), dtype or torch.float32
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # events and synchronisation, too, mean the current device
    kernels, said = attention_kernels(attention, device.type, str(dtype))
    wish = Wish(weights=weights, device=device, dtype=dtype, attention=kernels, seed=seed)
    adapter_class, model_class = classes(entry.shape.family)
    loaded = obtain(entry, model_class, wish)
    processor = tokenizer = None
    if loaded.folder is not None:
        processor = processor_in(loaded.folder, adapter_class.processor_class())
        tokenizer = tokenizer_in(loaded.folder)
    adapter: HuggingFaceAdapter = adapter_class(loaded.entry, loaded.model, processor=processor, tokenizer=tokenizer)
    adapter.weights, adapter.trained, adapter.notes = loaded.source, loaded.trained, (*loaded.notes, *said)
    adapter.attention = "flash-sdpa" if attention == "flash" and kernels == "sdpa" else kernels
    return adapter


def classes(family: str) -> tuple[Any, Any]:
    """(our adapter, Hugging Face's model) of a family."""
    import transformers

    module, ours, theirs = FAMILIES[family]
    return getattr(importlib.import_module(f"{__name__}.{module}"), ours), getattr(transformers, theirs)


def attention_kernels(attention: str, device: str, dtype: str) -> tuple[str, tuple[str, ...]]:
    """Hugging Face's name for an attention backend; flash without its package is torch's own flash kernel."""
    if attention != "flash":
        return attention, ()
    if device == "cuda" and dtype == "torch.float32":
        raise ParameterError("no flash kernel on a GPU takes float32", "--dtype bfloat16, or --attention sdpa")
    if device == "cuda" and importlib.util.find_spec("flash_attn"):
        return "flash_attention_2", ()
    return "sdpa", ("torch's own flash kernel is used, since flash-attn is not installed (or not for this device)",)
