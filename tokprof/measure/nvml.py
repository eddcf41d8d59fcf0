"""What the driver says about a GPU. It observes and never changes a clock; whatever it cannot tell is None."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

LOW_CLOCK = 0.75  # of the default clock: below, a round says more of the device's mood than of the model

T = TypeVar("T")

THROTTLE_REASONS = {  # the bits of nvmlClocksEventReasons; being idle is none
    0x02: "application clocks",
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x10: "sync boost",
    0x20: "temperature",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}


@dataclass(frozen=True)
class MachineState:
    """What NVML says right after a round; None where it says nothing."""

    sm_clock_mhz: float | None = None
    default_clock_mhz: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    throttle: tuple[str, ...] = ()

    @property
    def slow(self) -> bool:
        if not self.sm_clock_mhz or not self.default_clock_mhz:
            return False
        return self.sm_clock_mhz < LOW_CLOCK * self.default_clock_mhz


class Gpu:
    """One device; every question may fail on its own, and then answers None."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._nvml, self._handle = library, handle
        self._default_clock = self._ask(
            lambda nvml, gpu: float(nvml.nvmlDeviceGetDefaultApplicationsClock(gpu, nvml.NVML_CLOCK_SM))
        )

    def _ask(self, question: Callable[[Any, Any], T]) -> T | None:
        # AttributeError: an older binding; the rest: a driver that answers nonsense or goes away half-way
        try:
            return question(self._nvml, self._handle)
        except (self._nvml.NVMLError, AttributeError, OSError, ValueError, TypeError):
            return None

    def state(self) -> MachineState:
        return MachineState(
            sm_clock_mhz=self.sm_clock_mhz(),
            default_clock_mhz=self._default_clock or self.sm_clock_max_mhz(),
            power_w=self.power_w(),
            temperature_c=self.temperature_c(),
            throttle=self.throttle(),
        )

    def sm_clock_mhz(self) -> int | None:
        return self._ask(lambda nvml, gpu: int(nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)))

    def sm_clock_max_mhz(self) -> int | None:
        return self._ask(lambda nvml, gpu: int(nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_SM)))

    def power_w(self) -> float | None:
        return self._ask(lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3)

    def temperature_c(self) -> float | None:
        found = self._ask(lambda nvml, gpu: float(nvml.nvmlDeviceGetTemperatureV(gpu, nvml.NVML_TEMPERATURE_GPU)))
        if found is None:  # a driver before CUDA 13; from CUDA 14 on, this one is gone
            found = self._ask(lambda nvml, gpu: float(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)))
        return found

    def throttle(self) -> tuple[str, ...]:
        bits = self._ask(lambda nvml, gpu: int(nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)))
        if bits is None:
            bits = self._ask(lambda nvml, gpu: int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))) or 0
        return tuple(words for bit, words in THROTTLE_REASONS.items() if bits & bit)

    def energy_j(self) -> float | None:
        """Joules since the driver was loaded; None where the device does not count them."""
        return self._ask(lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3)

    def memory_used_bytes(self) -> int | None:
        return self._ask(lambda nvml, gpu: int(nvml.nvmlDeviceGetMemoryInfo(gpu).used))

    def other_processes(self, ours_is_running: bool) -> int | None:
        """Compute processes beside this one. In a container our own number may be listed as another's."""
        pids = self._ask(lambda nvml, gpu: {entry.pid for entry in nvml.nvmlDeviceGetComputeRunningProcesses(gpu)})
        if pids is None:
            return None
        return len(pids) - (1 if os.getpid() in pids or (ours_is_running and pids) else 0)

    def driver(self) -> str | None:
        return self._ask(lambda nvml, gpu: _text(nvml.nvmlSystemGetDriverVersion()))


def open_gpu(uuid: str | None, index: int = 0) -> Gpu | None:
    """The device by its UUID (CUDA may number devices otherwise than the driver), else by index."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no driver, no permission: the same to us
        return None
    for find, name in ((pynvml.nvmlDeviceGetHandleByUUID, uuid), (pynvml.nvmlDeviceGetHandleByIndex, index)):
        if name is None:
            continue
        try:
            return Gpu(pynvml, find(name))
        except (pynvml.NVMLError, TypeError, ValueError):
            continue
    return None


def _text(answer: str | bytes) -> str:
    return answer.decode() if isinstance(answer, bytes) else answer
