"""What a run leaves behind: inputs, environment and raw samples. Derived numbers are never stored.

A result file holds one `RecordFile` with a list of `RunRecord`s, one per policy and setting; each
carries the dense baseline that was measured interleaved with it. docs/schema.md describes the fields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tokprof.atomic import write_text_atomically
from tokprof.errors import RecordError
from tokprof.recipe import Cell

SCHEMA_VERSION = 1
STAGES = ("preprocess", "vision", "project", "select", "compress", "prefill", "first_decode", "decode")
REQUEST_STAGES = STAGES[1:]  # what counts as the request; decoding and resizing pictures is shown apart
PREFILL_STAGES = ("vision", "project", "select", "compress", "prefill")  # until the first token

Count = Annotated[int, Field(ge=0, lt=10**24)]  # a float can still divide it


class Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StageSamples(Stored):
    """One entry per kept round. `submit_ms`: host time to queue the work; equal to `elapsed_ms` on a CPU."""

    elapsed_ms: tuple[float, ...]
    submit_ms: tuple[float, ...]


class Samples(Stored):
    stages: dict[str, StageSamples]
    first_run_ms: dict[str, float] = Field(default_factory=dict)  # the cold round, kept apart
    warmup_rounds: Count = 0
    set_aside: Count = 0  # rounds dropped because the device ran below its clock
    stop_reason: str = ""

    @model_validator(mode="after")
    def _same_rounds(self) -> Samples:
        lengths = {len(times) for stage in self.stages.values() for times in (stage.elapsed_ms, stage.submit_ms)}
        if len(lengths) > 1:
            raise ValueError("every stage needs one entry per round")
        return self

    @property
    def rounds(self) -> int:
        return min((len(stage.elapsed_ms) for stage in self.stages.values()), default=0)

    def total_ms(self, stages: Sequence[str] = REQUEST_STAGES) -> list[float]:
        """Per round, the time of the given stages together (those that were measured)."""
        chosen = [self.stages[name].elapsed_ms for name in stages if name in self.stages]
        return [sum(parts) for parts in zip(*chosen, strict=True)]


class Tokens(Stored):
    original: Count  # visual tokens of the unpruned prompt
    text: Count
    per_layer: tuple[Count, ...] = Field(min_length=1)  # observed, entering each decoder layer
    planned: tuple[Count, ...]
    planned_least: tuple[Count, ...] | None = None  # set where data decides
    newlines: Count = 0
    published_mean: float | None = None  # the layer mean as the method's paper counts it, where it counts otherwise

    @property
    def layer_mean(self) -> float:
        return sum(self.per_layer) / len(self.per_layer)

    @property
    def entering(self) -> int:
        """Visual tokens at the first layer that sees any."""
        return next((count for count in self.per_layer if count), 0)


class Memory(Stored):
    source: Literal["cuda", "rss"]  # the CUDA allocator, or the process's resident set on a CPU
    weights_bytes: Count
    kv_bytes: Count  # the cache tensors after prefill
    kv_planned_bytes: Count
    peak_allocated_bytes: Count | None = None
    peak_reserved_bytes: Count | None = None
    nvml_used_bytes: Count | None = None
    stage_peak_bytes: dict[str, Count] = Field(default_factory=dict)


class Energy(Stored):
    """From NVML's total-energy counter over a window; absent where the device has none."""

    window_s: float
    joules: float
    requests: Count
    tokens: Count
    idle_watts: float | None = None


class Fidelity(Stored):
    """Against the unpruned model on the same inputs."""

    first_token_kl: float
    top1_agreement: float
    greedy_agreement: float  # share of generated tokens equal, position by position
    tokens: Count


class Activity(Stored):
    """Counted in a pass of its own, per stage."""

    kernel_launches: dict[str, Count] = Field(default_factory=dict)
    host_syncs: dict[str, Count] = Field(default_factory=dict)


class Accuracy(Stored):
    """Answers to questions. `source`: where the numbers come from; not always this run."""

    source: str
    task: str
    questions: Count
    correct: Count | None = None
    score: float | None = None  # where only a score is known, in the task's own unit
    by_kind: dict[str, tuple[Count, Count]] = Field(default_factory=dict)  # kind → (correct, asked)


class Arm(Stored):
    """One side of a comparison: the dense model, or the model under a policy."""

    method: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    tokens: Tokens
    flops: dict[str, dict[str, Count]]  # convention → part → count, in the convention's own unit
    bytes_moved: dict[str, Count] = Field(default_factory=dict)  # stage → weights + cache + activations, per request
    samples: Samples
    memory: Memory | None = None
    energy: Energy | None = None
    fidelity: Fidelity | None = None
    activity: Activity | None = None
    accuracy: Accuracy | None = None
    generated: tuple[tuple[Count, ...], ...] = ()


class ModelFacts(Stored):
    name: str
    family: str
    weights: str  # "random (seed 0)", "hub …", "local …", "bundled, trained"
    trained: bool
    parameters: int
    dtype: str
    attention: str
    depth: int
    width: int
    training_based: bool = False  # the method needs weights trained with it, and these are not


class Inputs(Stored):
    description: str
    image_sizes: tuple[tuple[int, int], ...] = ()  # (width, height)
    frames: int = 0
    prompt: str = ""
    text: int
    visual: int
    batch: int
    new_tokens: int
    tower_passes: int
    sha256: str
    preprocess_ms: float | None = None  # reading and resizing the pictures; not part of a request


class Device(Stored):
    kind: Literal["cpu", "cuda"]
    name: str
    memory_bytes: int | None = None
    driver: str | None = None
    cuda: str | None = None
    capability: str | None = None
    sm_clock_mhz: int | None = None
    sm_clock_max_mhz: int | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    throttle: tuple[str, ...] = ()
    other_processes: int | None = None
    threads: int | None = None


class Ceilings(Stored):
    """What the device can do at most; `source` says measured or datasheet."""

    source: str
    flops_per_s: float
    bytes_per_s: float
    dtype: str


class Environment(Stored):
    device: Device
    os: str
    python: str
    cpu: str
    cores: int
    libraries: dict[str, str]
    git_commit: str | None = None
    git_dirty: bool | None = None
    load_average: float | None = None
    ceilings: Ceilings | None = None
    rounds_state: dict[str, tuple[float, ...]] = Field(default_factory=dict)  # NVML per round: sm_clock_mhz, power_w …


class Parity(Stored):
    checked: bool
    relative_error: float | None = None
    greedy_equal: bool | None = None


class RunRecord(Stored):
    schema_version: int = SCHEMA_VERSION
    tokprof_version: str
    created: str  # UTC, ISO 8601
    key: str  # hash of the cell: equal settings, equal key
    cell: Cell
    model: ModelFacts
    inputs: Inputs
    environment: Environment
    parity: Parity
    baseline: Arm
    policy: Arm
    baseline_again_ms: tuple[float, ...] = ()  # dense request times after all rounds, for drift
    warnings: tuple[str, ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)  # short hashes of tokprof, method, model and picture files


class Failure(Stored):
    """A cell that could not be measured, with its reason."""

    key: str
    cell: Cell
    reason: str
    hint: str = ""
    sources: dict[str, str] = Field(default_factory=dict)


class RecordFile(Stored):
    kind: Literal["tokprof.records"] = "tokprof.records"
    schema_version: int = SCHEMA_VERSION
    records: tuple[RunRecord, ...] = ()
    failures: tuple[Failure, ...] = ()
    checksum: str | None = None  # of all the rest, whatever its layout; a file without one is read as well


def cell_key(cell: Cell) -> str:
    """Equal for equal settings, whatever the order in which they were written."""
    text = json.dumps(cell.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_records(path: Path, records: Sequence[RunRecord], failures: Sequence[Failure] = ()) -> None:
    write_text_atomically(path, records_as_json(records, failures))


def records_as_json(records: Sequence[RunRecord], failures: Sequence[Failure] = ()) -> str:
    file = RecordFile(records=tuple(records), failures=tuple(failures))
    checksum = _checksum(json.loads(file.model_dump_json()))
    return file.model_copy(update={"checksum": checksum}).model_dump_json(indent=1) + "\n"


def _checksum(raw: dict[str, Any]) -> str:
    text = json.dumps({name: value for name, value in raw.items() if name != "checksum"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_records(path: Path) -> RecordFile:
    """Read a result file; anything but a valid one is a RecordError that says what to do."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordError(f"no file {path}", "tokprof run … --json FILE writes one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}", "is it a result file of tokprof?") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not JSON: {error}", "it may have been cut off: measure again") from error
    if not isinstance(raw, dict) or raw.get("kind") != "tokprof.records":
        raise RecordError(f"{path} is not a result file of tokprof", "tokprof run … --json FILE writes one")
    version = raw.get("schema_version")
    if version != SCHEMA_VERSION:
        hint = "update tokprof" if isinstance(version, int) and version > SCHEMA_VERSION else "measure again"
        raise RecordError(f"{path} has schema version {version!r}; this tokprof reads {SCHEMA_VERSION}", hint)
    try:
        file = RecordFile.model_validate_json(json.dumps(raw))
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RecordError(f"{path}: {where}: {first['msg']}", "it was edited or damaged: measure again") from error
    if file.checksum is not None and file.checksum != _checksum(raw):
        raise RecordError(f"{path} is not as it was written", "it was edited or damaged: measure again")
    return file
