"""Achieved FLOP/s per stage beside what the device allows: max(FLOPs / peak, bytes / bandwidth). No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

STAGES = ("vision", "project", "select", "prefill", "decode")


@dataclass(frozen=True)
class Datasheet:
    """Dense tensor-core peak at 16 bits and memory bandwidth, from the maker's data sheet; never reached."""

    flops_per_s: float
    bytes_per_s: float


# Longest name first: "A100-SXM4-80GB" holds both. 32-bit peaks are not listed: they depend on TF32.
DATASHEETS = {
    "H200": Datasheet(989e12, 4.8e12),
    "H100 PCIe": Datasheet(756e12, 2.0e12),
    "H100": Datasheet(989e12, 3.35e12),
    "A100-SXM4-80GB": Datasheet(312e12, 2.039e12),
    "A100 80GB PCIe": Datasheet(312e12, 1.935e12),
    "A100": Datasheet(312e12, 1.555e12),
    "L40S": Datasheet(362e12, 0.864e12),
    "RTX 4090": Datasheet(165e12, 1.008e12),
    "RTX 3090": Datasheet(71e12, 0.936e12),
}
SIXTEEN_BITS = ("bfloat16", "float16")


class Ceilings(Protocol):
    """What a record says about its device."""

    @property
    def flops_per_s(self) -> float: ...
    @property
    def bytes_per_s(self) -> float: ...
    @property
    def source(self) -> str: ...


@dataclass(frozen=True)
class Limits:
    flops_per_s: float
    bytes_per_s: float
    source: str  # "measured", or "datasheet: …"


@dataclass(frozen=True)
class StageRoof:
    """One stage of a request. `bound_ms` is the least time that FLOPs and bytes allow."""

    stage: str
    elapsed_ms: float
    flops: float
    bytes: int
    bound_ms: float | None
    bound_by: Literal["compute", "memory", ""]
    of_peak: float | None

    @property
    def flops_per_s(self) -> float:
        return self.flops / (self.elapsed_ms / 1e3)

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte."""
        return self.flops / self.bytes if self.bytes else None

    @property
    def of_bound(self) -> float | None:
        """1 where the stage runs as fast as the device allows."""
        return self.bound_ms / self.elapsed_ms if self.bound_ms is not None else None


def limits(measured: Ceilings | None, device: str, dtype: str) -> Limits | None:
    """Measured ceilings where there are any, else the data sheet's, else nothing."""
    if measured is not None:
        return Limits(measured.flops_per_s, measured.bytes_per_s, measured.source)
    if dtype in SIXTEEN_BITS:
        for name, sheet in DATASHEETS.items():
            if name in device:
                return Limits(sheet.flops_per_s, sheet.bytes_per_s, f"datasheet: {name}, {dtype}")
    return None


def stages(
    times_ms: Mapping[str, float], flops: Mapping[str, float], moved: Mapping[str, int], roof: Limits | None
) -> list[StageRoof]:
    """Every stage that took time; both kinds of decode step count as `decode`."""
    bytes_of = {**moved, "decode": moved.get("decode", 0) + moved.get("first_decode", 0)}
    return [
        _stage(stage, times_ms[stage], flops.get(stage, 0.0), bytes_of.get(stage, 0), roof)
        for stage in STAGES
        if times_ms.get(stage, 0.0) > 0
    ]


def _stage(stage: str, elapsed_ms: float, flops: float, moved: int, roof: Limits | None) -> StageRoof:
    if roof is None or not (flops or moved):
        return StageRoof(stage, elapsed_ms, flops, moved, None, "", None)
    compute_ms, memory_ms = 1e3 * flops / roof.flops_per_s, 1e3 * moved / roof.bytes_per_s
    return StageRoof(
        stage,
        elapsed_ms,
        flops,
        moved,
        max(compute_ms, memory_ms),
        "compute" if compute_ms >= memory_ms else "memory",
        flops / (elapsed_ms / 1e3) / roof.flops_per_s,
    )
