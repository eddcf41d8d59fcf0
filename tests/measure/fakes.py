"""A machine for tests: time passes only where a round says so, and the device's mood is scripted."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tokprof.measure.clock import Clock, FakeClock
from tokprof.measure.nvml import MachineState
from tokprof.measure.sampling import Round

COST = {"vision": 0.2, "prefill": 0.5, "decode": 0.3}  # share of the request


class FakeMachine:
    """Virtual time in ms; `speed(now_s)` multiplies every duration, as a warming device would."""

    def __init__(self, noise: float = 0.01, seed: int = 0, speed: Callable[[float], float] = lambda now: 1.0) -> None:
        self.now_ms, self.noise, self.speed = 0.0, noise, speed
        self.draw = random.Random(seed)
        self.clock: Clock = FakeClock(lambda: self.now_ms)
        self.mhz: Callable[[], float] = lambda: 1980.0
        self.log: list[str] = []

    def now(self) -> float:
        return self.now_ms / 1e3

    def state(self) -> MachineState:
        return MachineState(sm_clock_mhz=self.mhz(), default_clock_mhz=1980.0, power_w=300.0, temperature_c=50.0)

    def pause(self, seconds: float) -> None:
        self.now_ms += 1e3 * seconds
        self.log.append("pause")

    def round(self, name: str, request_ms: float, extra: dict[str, float] | None = None) -> Round:
        """A request of `request_ms`; `extra` adds milliseconds to a stage."""

        def run(clock: Clock) -> None:
            self.log.append(name)
            slower = self.speed(self.now()) * self.draw.lognormvariate(0.0, self.noise)
            for stage, share in COST.items():
                clock.enter(stage)
                self.now_ms += (share * request_ms + (extra or {}).get(stage, 0.0)) * slower

        return run


class NVMLError(Exception):
    pass


class FakeNvml:
    """A driver that fails for every call named in `fails`, or from the n-th call on."""

    NVMLError = NVMLError
    NVML_CLOCK_SM = NVML_TEMPERATURE_GPU = 0

    def __init__(
        self,
        machine: FakeMachine,
        watts: float = 300.0,
        fails: tuple[str, ...] = (),
        dies: int = 10**9,
        mhz: float = 1200,
    ) -> None:
        self.machine, self.watts, self.fails, self.left, self.mhz = machine, watts, fails, dies, mhz

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def answer(*_: Any) -> Any:
            self.left -= 1
            if name in self.fails or self.left < 0:
                raise NVMLError(name)
            return {
                "nvmlDeviceGetTotalEnergyConsumption": self.machine.now_ms * self.watts,
                "nvmlDeviceGetPowerUsage": 75_000,
                "nvmlDeviceGetClockInfo": self.mhz,
                "nvmlDeviceGetMaxClockInfo": 1980,
                "nvmlDeviceGetDefaultApplicationsClock": 1600,
                "nvmlDeviceGetTemperature": 40,
                "nvmlDeviceGetTemperatureV": 40,
                "nvmlDeviceGetCurrentClocksEventReasons": 4,
                "nvmlDeviceGetCurrentClocksThrottleReasons": 4,
                "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=123),
                "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=-1), SimpleNamespace(pid=-2)],
                "nvmlSystemGetDriverVersion": b"570.1",
            }[name]

        return answer
