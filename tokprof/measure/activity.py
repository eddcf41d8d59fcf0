"""Kernel launches and host synchronisations per stage, counted in a pass of their own.

Synchronisations are counted the same way on every machine, by watching for operations that hand a
value from the device to the host: they cost nothing on a CPU, and what is found there would wait on
a GPU (where tensors that lie on the host all the while are not counted). Launches come from torch's
profiler on CUDA; on a CPU, where nothing is launched, operators that compute something are counted
instead. Both are exact and repeat to the digit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tokprof.measure.clock import NoClock
from tokprof.measure.sampling import Round
from tokprof.record import Activity

# operators whose result, or its size, the host has to know
WAITING_OPERATORS = {
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
}
WAITING_METHODS = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu}  # these never reach an operator on a CPU
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaMemcpyAsync", "cudaMemsetAsync", "cudaGraphLaunch")


class StageClock(NoClock):
    """A clock that only knows which stage is running."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = ""
        self.seen: dict[str, None] = {}

    def enter(self, stage: str) -> None:
        self.stage = stage
        self.seen[stage] = None


def activity_pass(run: Round, device: str) -> Activity:
    clock, syncs, operators = StageClock(), Counter[str](), Counter[str]()
    on_gpu = device.startswith("cuda")
    with _HandingOver(clock, syncs, on_gpu), _Operators(clock, syncs, operators, on_gpu):
        run(clock)
    launches = _cuda_launches(run) if on_gpu else dict(operators)
    return Activity(
        kernel_launches={stage: launches.get(stage, 0) for stage in clock.seen},
        host_syncs={stage: syncs[stage] for stage in clock.seen},
    )


def waits(tensor: Any, on_gpu: bool) -> bool:
    """Beside a GPU only its own tensors are waited for; without one, every tensor stands for one of its own."""
    return not on_gpu or getattr(tensor, "device", torch.device("cpu")).type != "cpu"


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, clock: StageClock, syncs: Counter[str], operators: Counter[str], on_gpu: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._clock, self._syncs, self._operators, self._on_gpu = clock, syncs, operators, on_gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        stage = self._clock.stage
        if func._schema.name in WAITING_OPERATORS or _picks_by_mask(func, args):
            self._syncs[stage] += waits(args[0], self._on_gpu)
        elif not _is_view(func):
            self._operators[stage] += 1
        return func(*args, **(kwargs or {}))


class _HandingOver(TorchFunctionMode):
    def __init__(self, clock: StageClock, syncs: Counter[str], on_gpu: bool) -> None:
        super().__init__()
        self._clock, self._syncs, self._on_gpu = clock, syncs, on_gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITING_METHODS and waits(args[0], self._on_gpu):
            self._syncs[self._clock.stage] += 1
        return func(*args, **(kwargs or {}))


def _picks_by_mask(func: Any, args: Any) -> bool:
    """tensor[mask]: how many it picks, the host has to know."""
    if func._schema.name not in ("aten::index", "aten::index_put", "aten::index_put_"):
        return False
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])


def _is_view(func: Any) -> bool:
    returned = func._schema.returns
    return bool(returned) and all(value.alias_info and not value.alias_info.is_write for value in returned)


class _RangeClock(StageClock):
    """Leaves the stages as ranges in the profiler's trace."""

    PREFIX = "tokprof:"

    def __init__(self) -> None:
        super().__init__()
        self._range: Any = None

    def enter(self, stage: str) -> None:
        self.finish()
        super().enter(stage)
        self._range = torch.profiler.record_function(self.PREFIX + stage)
        self._range.__enter__()

    def finish(self) -> None:
        if self._range is not None:
            self._range.__exit__(None, None, None)
        self._range = None


def _cuda_launches(run: Round) -> dict[str, int]:
    clock = _RangeClock()
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profiler:
        run(clock)
        clock.finish()
        torch.cuda.synchronize()
    events: Any = profiler.events()
    found = [
        (event.name, event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type.name == "CPU"  # the ranges are repeated on the device's own time line
    ]
    return launches_per_stage(found, _RangeClock.PREFIX)


def launches_per_stage(events: Iterable[tuple[str, float, float]], prefix: str) -> dict[str, int]:
    """Events as (name, start, end) on the host's time line; a launch belongs to the range it starts in."""
    listed = list(events)
    ranges = [(start, end, name[len(prefix) :]) for name, start, end in listed if name.startswith(prefix)]
    counts = Counter[str]()
    for name, start, _ in listed:
        if name.startswith(LAUNCHES):
            counts.update(stage for low, high, stage in ranges if low <= start < high)
    return dict(counts)
