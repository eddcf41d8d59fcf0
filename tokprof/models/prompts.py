"""The text around the pictures: chat templates for models whose own files are not at hand. No torch."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass

from tokprof.models.catalog import Template

DEFAULT_PROMPT = "Describe the picture: which objects are there, and where are they?"

VICUNA_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions. "
)


@dataclass(frozen=True)
class Form:
    """A chat template with one turn. `before`, `after`: its tokens around pictures and prompt."""

    text: str
    before: int
    after: int
    around: tuple[str, str] = ("", "\n")  # text in front of and behind each placeholder


FORMS: dict[Template, Form] = {
    "vicuna": Form("USER: {visual}{prompt} ASSISTANT:", before=5, after=6),
    "vicuna-system": Form(VICUNA_SYSTEM + "USER: {visual}{prompt} ASSISTANT:", before=35, after=6),
    "mistral": Form("[INST] {visual}{prompt} [/INST]", before=5, after=5),
    "chatml": Form("<|im_start|>user {visual}{prompt}<|im_end|><|im_start|>assistant\n", before=3, after=5),
    "qwen-vl": Form(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "{visual}{prompt}<|im_end|>\n<|im_start|>assistant\n",
        before=15,
        after=6,
        around=("<|vision_start|>", "<|vision_end|>"),
    ),
}


def chat_text(template: Template, placeholder: str, visuals: int, prompt: str) -> str:
    """The whole prompt, one placeholder per picture or video."""
    form = FORMS[template]
    visual = visuals * f"{form.around[0]}{placeholder}{form.around[1]}"
    return form.text.format(visual=visual, prompt=prompt)


def estimated_length(prompt: str) -> int:
    """About how many tokens a prompt has: one for a short word or a sign, one for each six letters of a longer one."""
    return sum(math.ceil(len(piece) / 6) for piece in re.findall(r"\w+|[^\w\s]", prompt))


def estimated_text(template: Template, visuals: int, prompt: str) -> tuple[int, int]:
    """(tokens in front of the first picture, tokens behind it); what lies between pictures counts as behind."""
    form = FORMS[template]
    between = sum(1 for piece in form.around if piece)
    return form.before, form.after + (visuals - 1) * between + estimated_length(prompt)


def made_up_ids(count: int, below: int, seed: int) -> list[int]:
    """Token ids for a prompt that no tokenizer reads: seeded, ordinary ones."""
    draw = random.Random(seed)
    least = min(3, below - 1)
    return [draw.randrange(least, below) for _ in range(count)]
