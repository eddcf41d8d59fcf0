"""One clock per round: marks where a stage begins, read after a single synchronisation at the end.

Stages may alternate (selection happens in the middle of prefill); a stage's time is the sum of its
stretches, and all stages together are the whole round: nothing is lost between them.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class StageTime:
    elapsed_ms: float
    submit_ms: float  # host time to queue the stage's work


class Clock(ABC):
    """`enter(stage)` begins a stage and ends the one before; `read()` ends the round."""

    runs_behind: ClassVar[bool] = False  # whether the device works while the host queues what comes next

    def __init__(self) -> None:
        self._marks: list[tuple[str, Any, float]] = []

    def enter(self, stage: str) -> None:
        self._marks.append((stage, self._mark(), self._host_ms()))

    def read(self) -> dict[str, StageTime]:
        """Time per stage since the first `enter`; empties the clock."""
        self._marks.append(("", self._mark(), self._host_ms()))
        self._wait()
        times: dict[str, StageTime] = {}
        for (stage, mark, host), (_, next_mark, next_host) in zip(self._marks, self._marks[1:], strict=False):
            before = times.get(stage, StageTime(0.0, 0.0))
            elapsed, submit = self._between_ms(mark, next_mark), next_host - host
            times[stage] = StageTime(before.elapsed_ms + elapsed, before.submit_ms + submit)
        self._marks = []
        return times

    @abstractmethod
    def _mark(self) -> Any: ...

    @abstractmethod
    def _host_ms(self) -> float: ...

    @abstractmethod
    def _between_ms(self, first: Any, second: Any) -> float: ...

    def _wait(self) -> None:  # noqa: B027 (only a device that runs behind the host has to wait)
        """Wait until every mark has been reached."""


class HostClock(Clock):
    """For a CPU, where submitting is doing."""

    def _mark(self) -> float:
        return time.perf_counter_ns() / 1e6

    _host_ms = _mark

    def _between_ms(self, first: float, second: float) -> float:
        return second - first


class CudaClock(Clock):
    """CUDA events on the current stream."""

    runs_behind = True

    def _mark(self) -> Any:
        import torch

        make_event: Any = torch.cuda.Event
        event = make_event(enable_timing=True)
        event.record()
        return event

    def _host_ms(self) -> float:
        return time.perf_counter_ns() / 1e6

    def _between_ms(self, first: Any, second: Any) -> float:
        return float(first.elapsed_time(second))

    def _wait(self) -> None:
        self._marks[-1][1].synchronize()


class FakeClock(Clock):
    """For tests: time passes only where `now_ms` says so."""

    def __init__(self, now_ms: Callable[[], float], host_ms: Callable[[], float] | None = None) -> None:
        super().__init__()
        self._now, self._host = now_ms, host_ms or now_ms

    def _mark(self) -> float:
        return self._now()

    def _host_ms(self) -> float:
        return self._host()

    def _between_ms(self, first: float, second: float) -> float:
        return second - first


class NoClock(Clock):
    """Where nobody asks for time: parity, fidelity, counting."""

    def enter(self, stage: str) -> None:
        pass

    def _mark(self) -> float:
        return 0.0

    _host_ms = _mark

    def _between_ms(self, first: float, second: float) -> float:
        return 0.0
