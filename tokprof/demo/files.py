"""The model folder: configuration, tokenizer and processor, in Hugging Face's own formats.

`LlavaNextForConditionalGeneration` at a size a laptop trains: pictures of 192 pixels, cut into a
2x2 grid of 96-pixel tiles beside one 96-pixel overview, patches of 8 pixels. The language model
sees 144 overview tokens, 24 rows of 24 tile tokens and a newline token after each row: 744.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)

from tokprof.demo.words import VOCABULARY

PICTURE_PX = 192
TILE_PX = 96
PATCH_PX = 8
GRID_PINPOINTS = [
    [TILE_PX, 2 * TILE_PX],
    [2 * TILE_PX, TILE_PX],
    [2 * TILE_PX, 2 * TILE_PX],
    [3 * TILE_PX, TILE_PX],
    [TILE_PX, 3 * TILE_PX],
]
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
PAD, BOS, EOS, UNKNOWN, IMAGE = range(len(SPECIAL_TOKENS))
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "USER: "
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %} "
    "{% else %}"
    "ASSISTANT: "
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %}"
    "{{ eos_token }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def prompt_text(question: str) -> str:
    """The chat template's text of one question about one picture, without the `<s>` in front."""
    return f"USER: <image>\n{question} ASSISTANT:"


def build_vocabulary() -> dict[str, int]:
    """Special tokens, the demo's words, then single characters so that any ASCII text encodes."""
    letters = string.ascii_lowercase + string.digits
    pieces = [*SPECIAL_TOKENS, *VOCABULARY, *letters, *string.punctuation]
    pieces += [f"##{letter}" for letter in letters]
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer whose every demo word is one token."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece(build_vocabulary(), unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
        model_max_length=2048,
        padding_side="left",
    )


def build_image_processor() -> LlavaNextImageProcessorPil:
    return LlavaNextImageProcessorPil(
        size={"shortest_edge": TILE_PX},
        crop_size={"height": TILE_PX, "width": TILE_PX},
        image_grid_pinpoints=GRID_PINPOINTS,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def build_processor() -> LlavaNextProcessor:
    return LlavaNextProcessor(
        image_processor=build_image_processor(),
        tokenizer=build_tokenizer(),
        patch_size=PATCH_PX,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def build_overview_processor() -> LlavaProcessor:
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": TILE_PX},
            crop_size={"height": TILE_PX, "width": TILE_PX},
            image_mean=[0.5, 0.5, 0.5],
            image_std=[0.5, 0.5, 0.5],
        ),
        tokenizer=build_tokenizer(),
        patch_size=PATCH_PX,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def vision_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=TILE_PX,
        patch_size=PATCH_PX,
        projection_dim=128,
    )


def text_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(build_vocabulary()),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        tie_word_embeddings=False,
    )


def model_config() -> LlavaNextConfig:
    return LlavaNextConfig(
        vision_config=vision_config(),
        text_config=text_config(),
        image_token_index=IMAGE,
        image_grid_pinpoints=GRID_PINPOINTS,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=(TILE_PX // PATCH_PX) ** 2,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        tie_word_embeddings=False,
    )


def build_model(seed: int) -> LlavaNextForConditionalGeneration:
    """The untrained model; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaNextForConditionalGeneration(model_config())
        torch.nn.init.normal_(model.model.image_newline, std=0.02)
    return model


def parameter_count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def write_folder(folder: Path, model: LlavaNextForConditionalGeneration, provenance: dict[str, Any]) -> None:
    """Write everything `from_pretrained` reads, weights rounded to fp16, and where they are from."""
    _write(folder, model, build_processor(), provenance)


def write_overview_folder(folder: Path, model: LlavaNextForConditionalGeneration, provenance: dict[str, Any]) -> None:
    """The same weights without tiles: LLaVA-1.5's class, 96-pixel pictures, 144 visual tokens."""
    config = LlavaConfig(
        vision_config=vision_config(),
        text_config=text_config(),
        image_token_index=IMAGE,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=(TILE_PX // PATCH_PX) ** 2,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        tie_word_embeddings=False,
    )
    smaller = LlavaForConditionalGeneration(config)
    weights = model.state_dict()
    weights.pop("model.image_newline")
    smaller.load_state_dict(weights)
    _write(folder, smaller, build_overview_processor(), provenance)


def _write(folder: Path, model: PreTrainedModel, processor: ProcessorMixin, provenance: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(folder)
    rounded = type(model)(model.config).half()
    rounded.load_state_dict(model.state_dict())
    rounded.generation_config.max_new_tokens = 8
    rounded.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    _load_as_float32(folder / "config.json")
    facts = {**provenance, "parameters": parameter_count(model)}
    (folder / "provenance.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _load_as_float32(config_file: Path) -> None:
    """Half precision saves space on disk; a CPU computes faster, and more exactly, in float32."""
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    config_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
