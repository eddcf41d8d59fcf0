"""What all families share: one of Hugging Face's models, its processor, and how a request becomes tensors."""

from __future__ import annotations

import hashlib
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from tokprof.errors import WorkloadError
from tokprof.models.adapter import Adapter, Prepared, VisionStates
from tokprof.models.catalog import Entry
from tokprof.models.decoder import Decoder
from tokprof.models.prompts import chat_text, estimated_text, made_up_ids
from tokprof.shapes import VisualLayout
from tokprof.workload import Request, request_of, scene

if TYPE_CHECKING:
    from tokprof.recipe import Workload


class HuggingFaceAdapter(Adapter):
    """`processor` turns pictures into pixels; without a `tokenizer` the prompt's ids are made up, which is said."""

    video_token: ClassVar[bool] = False  # whether videos have a placeholder of their own

    def __init__(self, entry: Entry, model: nn.Module, *, processor: Any = None, tokenizer: Any = None) -> None:
        self.entry, self.shape, self.model = entry, entry.shape, model.eval()
        self.tokenizer = tokenizer
        self.processor = processor
        if processor is None:
            self.processor = self.processor_class()(**self.processor_options())
        self.weights, self.trained = "random", False
        self.notes: tuple[str, ...] = ()  # what a person should know about how it was loaded
        whole: Any = model
        self.config: Any = whole.config
        self.inner: Any = whole.model
        self.decoder = Decoder(whole.model.language_model, whole.lm_head)

    @staticmethod
    @abstractmethod
    def processor_class() -> Any:
        """Hugging Face's image processor for this family, the one over Pillow."""

    @abstractmethod
    def processor_options(self) -> dict[str, Any]:
        """Its options where no file tells them: from the shape alone."""

    @abstractmethod
    def pixels(self, request: Request) -> dict[str, Tensor]:
        """What Hugging Face's forward takes beside the ids, on the CPU in fp32; samples behind each other."""

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return self.decoder.parameters_dtype()

    @property
    def ends(self) -> frozenset[int]:
        """Tokens after which an answer is over."""
        generation: Any = getattr(self.model, "generation_config", None)
        told = getattr(generation, "eos_token_id", None)
        own = told if isinstance(told, list) else [told]
        return frozenset(token for token in (*own, getattr(self.tokenizer, "eos_token_id", None)) if token is not None)

    def prepare(self, workload: Workload) -> Prepared:
        began = time.perf_counter()
        return self.prepare_request(request_of(workload, self.entry), workload.seed, began)

    def prepare_request(self, request: Request, seed: int = 0, began: float | None = None) -> Prepared:
        """`seed`: of made-up prompts. `began`: when the reading of the pictures did, on the host's clock."""
        began = time.perf_counter() if began is None else began
        tensors = self.pixels(request)
        rows, said = self._token_ids(request, seed)
        prepared = self._assemble(request, tensors, rows, said)
        prepared_ms = (time.perf_counter() - began) * 1e3
        return self._moved(prepared, prepared_ms)

    def _assemble(self, request: Request, tensors: dict[str, Tensor], rows: list[list[int]], said: str) -> Prepared:
        ids, batch = rows[0], len(rows)
        assert all(len(row) == len(ids) for row in rows), "prompts of a batch differ in length"
        placeholder = self.placeholder(request.video)
        visual = [index for index, token in enumerate(ids) if token == placeholder]
        text = [index for index, token in enumerate(ids) if token != placeholder]
        assert len(visual) == request.layout.count, "placeholders and visual tokens differ"
        positions, after_last = self.positions(ids, request)
        return Prepared(
            input_ids=torch.tensor(rows),
            visual_index=torch.tensor(visual),
            text_index=torch.tensor(text),
            positions=positions.unsqueeze(-2).expand(*positions.shape[:-1], batch, -1).contiguous(),
            next_position=after_last,
            tensors=tensors,
            scene=scene(self.entry, request.layout, visual[0], len(text) - visual[0], batch),
            places=self.places(request.layout),
            description=f"{request.description}; {said}",
            image_sizes=request.sizes,
            frames=len(request.samples[0]) if request.video else 0,
            prompt=request.prompt,
            sha256=_digest(rows, tensors),
        )

    def _moved(self, prepared: Prepared, prepared_ms: float) -> Prepared:
        """The same on the model's device, floating-point numbers in the model's dtype."""
        device, dtype = self.device, self.dtype

        def there(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)

        fields = {name: getattr(prepared, name) for name in prepared.__dataclass_fields__}
        for name in ("input_ids", "visual_index", "text_index", "positions"):
            fields[name] = there(fields[name])
        for name in ("tensors", "places"):
            fields[name] = {key: there(value) for key, value in fields[name].items()}
        fields["preprocess_ms"] = prepared_ms
        return Prepared(**fields)

    def places(self, layout: VisualLayout) -> dict[str, Tensor]:
        return {name: torch.tensor(layout.column(name)) for name in ("tile", "block", "row", "col", "patch")}

    def positions(self, ids: list[int], request: Request) -> tuple[Tensor, int]:
        """Rotary ids of one sample, (sequence,) or (3, sequence), and the one of the first generated token."""
        return torch.arange(len(ids)), len(ids)

    def placeholder(self, video: bool) -> int:
        name = "video_token_id" if video and self.video_token else "image_token_id"
        token: int = getattr(self.config, name)
        return token

    def _token_ids(self, request: Request, seed: int) -> tuple[list[list[int]], str]:
        """Each sample's ids with a placeholder for every visual token, and a word on where they come from."""
        placeholder = self.placeholder(request.video)
        counts = list(request.layout.image_counts)
        if self.tokenizer is None:
            before, after = estimated_text(self.entry.template, request.visuals, request.prompt)
            made_up = made_up_ids(before + after, self._ordinary_ids(), seed)
            ids = self.with_markers([*made_up[:before], *(sum(counts) * [placeholder]), *made_up[before:]], request)
            return [ids] * len(request.samples), f"about {before + after} text tokens, made up (no tokenizer at hand)"
        encoded = {prompt: self.encoded(prompt, request.visuals, request.video) for prompt in {*request.prompts}}
        spread = {prompt: self._spread_out(ids, request) for prompt, ids in encoded.items()}
        return [
            spread[prompt] for prompt in request.prompts
        ], f"{len(encoded[request.prompt]) - request.visuals} text tokens"

    def _spread_out(self, encoded: list[int], request: Request) -> list[int]:
        """One placeholder per picture → one per visual token."""
        placeholder = self.placeholder(request.video)
        if encoded.count(placeholder) != request.visuals:
            raise WorkloadError(
                f"the prompt shows {encoded.count(placeholder)} pictures instead of {request.visuals}",
                "leave placeholders such as <image> out of the prompt",
            )
        left = iter(request.layout.image_counts)
        return [token for each in encoded for token in (next(left) * [each] if each == placeholder else [each])]

    def with_markers(self, ids: list[int], request: Request) -> list[int]:
        """Made-up ids in which whatever must stand around the pictures stands there."""
        return ids

    def _ordinary_ids(self) -> int:
        """Ids below this one are no placeholders."""
        special = [value for name, value in vars(self.config).items() if name.endswith(("_token_id", "_token_index"))]
        return min([self.shape.decoder.vocab, *(value for value in special if isinstance(value, int) and value > 2)])

    def encoded(self, prompt: str, visuals: int, video: bool = False) -> list[int]:
        """The chat template's tokens, one placeholder per picture or video."""
        tokenizer, placeholder = self.tokenizer, self.placeholder(video)
        word = tokenizer.convert_ids_to_tokens(placeholder)
        text = chat_text(self.entry.template, word, visuals, prompt)
        if tokenizer.chat_template:
            kind = "video" if video else "image"
            content = [*(visuals * [{"type": kind}]), {"type": "text", "text": prompt}]
            rendered = tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            if word in rendered:  # a template for text alone leaves the pictures out
                text = rendered
        begins = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
        ids: list[int] = tokenizer(text, add_special_tokens=not begins)["input_ids"]
        return ids

    def forward_inputs(self, prepared: Prepared) -> dict[str, Any]:
        """For Hugging Face's forward; where it has no such way of tiling, it is handed finished embeddings."""
        mask = torch.ones_like(prepared.input_ids)
        if self.foreign_to_forward(prepared):
            return {"inputs_embeds": self.embeddings(prepared), "attention_mask": mask}
        return {"input_ids": prepared.input_ids, "attention_mask": mask, **prepared.tensors}

    def foreign_to_forward(self, prepared: Prepared) -> bool:
        return False

    def embeddings(self, prepared: Prepared) -> Tensor:
        """The decoder's input, (batch, sequence, width), nothing dropped."""
        visual = self.embed_visual(self.encode(prepared), prepared)
        text = self.decoder.embed(prepared.input_ids)
        return text.index_copy(1, prepared.visual_index, visual.to(text.dtype))

    def by_sample(self, per_tile: Tensor, prepared: Prepared) -> Tensor:
        """(tiles of all samples, patches, …) → (batch, patches of a sample's tiles, …)."""
        return per_tile.reshape(prepared.batch, -1, *per_tile.shape[2:])

    def merged_tokens(self, states: VisionStates, prepared: Prepared) -> Tensor:
        """Tokens that were merged inside the tower, tile by tile: no grid, hence no newlines."""
        return self.by_sample(self.project(states.features), prepared)


def _digest(rows: list[list[int]], tensors: dict[str, Tensor]) -> str:
    different = [ids for index, ids in enumerate(rows) if ids not in rows[:index]]
    digest = hashlib.sha256("".join(map(repr, different)).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
