"""Achieved FLOP/s per stage beside the device's bounds. No torch."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from tokprof import units
from tokprof.flops import roofline
from tokprof.flops.roofline import Limits, StageRoof
from tokprof.record import Arm, RunRecord
from tokprof.report import derived, gap
from tokprof.report.stacked import Stacked


def limits(record: RunRecord) -> Limits | None:
    environment = record.environment
    return roofline.limits(environment.ceilings, environment.device.name, record.model.dtype)


def stages(record: RunRecord, arm: Arm) -> list[StageRoof]:
    flops = gap.stage_flops(arm, record.inputs.new_tokens)
    return roofline.stages(gap.stage_times(arm), flops, arm.bytes_moved, limits(record))


def render(record: RunRecord) -> Iterator[RenderableType]:
    """Dense model and policy, stage by stage; without ceilings, only what was achieved."""
    roof = limits(record)
    yield Text(_title(roof), style="bold")
    bounds = ("of peak", "bound", "bound by", "time ÷ bound") if roof else ()
    table = Stacked("stage", ["time", "achieved", "FLOP/byte", *bounds])
    for side in (derived.Side(record, record.baseline, True), derived.Side(record, record.policy, False)):
        table.add(side.label, style="dim")
        for stage in stages(record, side.arm):
            cells = (*_achieved(stage), *(_bounds(stage) if roof else ()))
            table.add(f"  {stage.stage}", units.milliseconds(stage.elapsed_ms), *cells)
    yield table


def _achieved(stage: StageRoof) -> tuple[str, str]:
    if not stage.flops:
        return units.MISSING, units.MISSING
    return units.operations(stage.flops_per_s, "FLOP/s"), units.number(stage.intensity)


def _bounds(stage: StageRoof) -> tuple[str, str, str, str]:
    return (
        units.share(stage.of_peak) if stage.flops else units.MISSING,
        units.milliseconds(stage.bound_ms),
        stage.bound_by or units.MISSING,
        units.ratio(1 / stage.of_bound if stage.of_bound else None),
    )


def _title(found: Limits | None) -> str:
    if found is None:
        return "Stage by stage (this device's ceilings are unknown: `tokprof device` measures them)"
    peak, bandwidth = units.operations(found.flops_per_s, "FLOP/s"), units.number(found.bytes_per_s / 1e9)
    return f"Stage by stage, against {peak} and {bandwidth} GB/s ({found.source})"
