"""What to measure: flags or YAML become one frozen, validated `Recipe`; a recipe expands into cells.

A cell is one model, one method with its parameters and one workload: what one `RunRecord` holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Field(gt=0)


class Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Method(Value):
    """A method with the parameters that differ from its defaults (`keep` among them)."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class Workload(Value):
    """What the model is asked. Without pictures, the bundled ones; `image_size` makes synthetic ones, said aloud."""

    images: tuple[str, ...] = ()
    video: str | None = None
    image_size: tuple[int, int] | None = None  # (width, height) of a synthetic picture
    image_count: int = Field(1, ge=1, le=64)
    frames: int | None = Field(None, ge=1, le=4096)
    prompt: str | None = None
    anyres: Literal["native", "fixed"] = "native"
    batch: int = Field(1, ge=1, le=4096)
    new_tokens: int = Field(20, ge=1, le=100_000)
    seed: int = Field(0, ge=0, lt=1 << 63)
    scale: float = Field(1.0, gt=0, le=1)  # pictures are resized by this factor before the model's own processor

    @field_validator("prompt")
    @classmethod
    def _not_blank(cls, prompt: str | None) -> str | None:
        if prompt is not None and not prompt.strip():
            raise ValueError("the prompt is empty")
        return prompt

    @model_validator(mode="after")
    def _one_kind_of_picture(self) -> Workload:
        given = [name for name in ("images", "video", "image_size") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other")
        if self.images and self.image_count > 1:
            raise ValueError("image_count is for bundled and synthetic pictures; images lists its own")
        return self


class Setting(Value):
    """Where and how the model runs."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attention: Literal["sdpa", "flash", "eager"] = "sdpa"
    weights: str = "auto"  # auto, random, hub, or a folder
    scores: Literal["minimal", "eager"] = "minimal"  # eager: attention scores the official way, to show its cost


class Measurement(Value):
    """How long to measure: see docs/measuring.md."""

    rounds: int | None = Field(None, ge=2)  # exactly so many, instead of the stop rule
    min_rounds: int = Field(20, ge=2)
    min_seconds: float = Field(3.0, ge=0)
    timeout: float = Field(120.0, gt=0)
    warmup_rounds: int = Field(3, ge=1)
    seed: int = Field(0, ge=0, lt=1 << 63)
    parity: bool = True
    memory: bool = True
    activity: bool = True
    energy: bool = False
    accuracy: int = Field(0, ge=0)  # questions to ask, where the model can answer
    isolate: bool = False


class Cell(Value):
    model: str
    method: Method
    workload: Workload
    setting: Setting
    measurement: Measurement


class Row(Value):
    """Which row of a published table a method stands for: the names in tokprof/published."""

    method: str
    variant: str = ""
    tokens: int | None = None  # the budget as the paper labels it, where method and variant leave it open


class Published(Value):
    """The table that a recipe re-runs. `rows`: one per method of the recipe; None where the paper has none.

    `model`: whose part of the table; left out, the recipe's own model's.
    """

    paper: str
    table: str
    model: str = ""
    rows: tuple[Row | None, ...] = ()


class Recipe(Value):
    """A grid: every method under every workload. `title`, `source` and `published` are for reports."""

    title: str = ""
    source: str = ""
    models: tuple[str, ...]
    methods: tuple[Method, ...]
    workloads: tuple[Workload, ...] = (Workload(),)  # type: ignore[call-arg]
    setting: Setting = Setting()
    measurement: Measurement = Measurement()  # type: ignore[call-arg]
    published: Published | None = None
    match: tuple[Literal["layer-mean", "flops", "kv-bytes"], ...] = ()  # every method at the first one's budget

    @field_validator("models", "methods", "workloads")
    @classmethod
    def _not_empty(cls, listed: tuple[Any, ...]) -> tuple[Any, ...]:
        if not listed:
            raise ValueError("holds nothing")
        return listed

    def cells(self) -> Iterator[Cell]:
        for model in self.models:
            for workload in self.workloads:
                for method in self.methods:
                    yield Cell(
                        model=model,
                        method=method,
                        workload=workload,
                        setting=self.setting,
                        measurement=self.measurement,
                    )

    def on(self, model: str) -> Recipe:
        """Another model in its place, beside the same part of the same table."""
        table = self.published
        beside = table and table.model_copy(update={"model": table.model or self.models[0]})
        return self.model_copy(update={"models": (model,), "published": beside})
