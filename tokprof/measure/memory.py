"""Memory in a pass of its own: the peak of every stage, and of the request.

On CUDA these are the allocator's counters, exact. On a CPU there is only the resident set of the
process, read every millisecond: it holds everything else of the process too, and what was freed may
stay resident; the record says which of the two it is.
"""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable

from tokprof.measure.clock import NoClock
from tokprof.measure.sampling import Round
from tokprof.record import Memory

READ_EVERY_S = 0.001


class PeakClock(NoClock):
    """A clock that reads a peak instead of the time, and starts it anew at each boundary."""

    def __init__(self, peak: Callable[[], int], restart: Callable[[], None]) -> None:
        super().__init__()
        self._peak, self._restart = peak, restart
        self._stage: str | None = None
        self.peaks: dict[str, int] = {}

    def enter(self, stage: str) -> None:
        self.finish()
        self._stage = stage

    def finish(self) -> None:
        """End the running stage; whatever ran before the first one counts for none."""
        if self._stage is not None:
            self.peaks[self._stage] = max(self.peaks.get(self._stage, 0), self._peak())
        self._stage = None
        self._restart()


def memory_pass(run: Round, device: str, *, weights_bytes: int, kv_bytes: int, kv_planned_bytes: int) -> Memory:
    """One whole request. `kv_bytes`: of the cache tensors, as the engine reported them."""
    if device.startswith("cuda"):
        peaks, reserved, used = _cuda_peaks(run, device)
    else:
        peaks, reserved, used = _resident_peaks(run), None, None
    return Memory(
        source="cuda" if device.startswith("cuda") else "rss",
        weights_bytes=weights_bytes,
        kv_bytes=kv_bytes,
        kv_planned_bytes=kv_planned_bytes,
        peak_allocated_bytes=max(peaks.values(), default=None),
        peak_reserved_bytes=reserved,
        nvml_used_bytes=used,
        stage_peak_bytes=peaks,
    )


def free_memory(device: str) -> None:
    """Give back what earlier work left behind, so that it does not count for the next."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return


def _cuda_peaks(run: Round, device: str) -> tuple[dict[str, int], int, int | None]:
    """The allocator counts on the host, so no stage has to be waited for."""
    import torch

    from tokprof.environment import open_device

    free_memory(device)
    reserved = 0

    def peak() -> int:
        nonlocal reserved
        reserved = max(reserved, torch.cuda.max_memory_reserved(device))
        return torch.cuda.max_memory_allocated(device)

    clock = PeakClock(peak, lambda: torch.cuda.reset_peak_memory_stats(device))
    run(clock)
    clock.finish()
    torch.cuda.synchronize(device)
    gpu = open_device(device)
    return clock.peaks, reserved, gpu.memory_used_bytes() if gpu else None


def _resident_peaks(run: Round) -> dict[str, int]:
    free_memory("cpu")
    with ResidentSet() as resident:
        clock = PeakClock(resident.peak, resident.restart)
        run(clock)
        clock.finish()
    return clock.peaks


class ResidentSet:
    """The highest resident set seen since `restart`, read by a thread of its own."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self._highest = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ResidentSet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def restart(self) -> None:
        self._highest = self._now()

    def peak(self) -> int:
        return max(self._highest, self._now())

    def _now(self) -> int:
        return int(self._process.memory_info().rss)

    def _watch(self) -> None:
        while not self._done.wait(READ_EVERY_S):
            self._highest = max(self._highest, self._now())
