"""Energy from the driver's counter, over a window long enough for it: it moves in steps of up to 0.1 s."""

from __future__ import annotations

import time
from collections.abc import Callable

from tokprof.measure.clock import Clock, CudaClock
from tokprof.measure.nvml import Gpu
from tokprof.measure.sampling import Round
from tokprof.record import Energy

WINDOW_SECONDS = 5.0
IDLE_READINGS = 10
IDLE_PAUSE_SECONDS = 0.1
MOST_REQUESTS = 100_000


def energy_pass(run: Round, device: str, batch: int, new_tokens: int) -> Energy | None:
    """Joules of whole requests on torch's device; None on a CPU and on a GPU that does not count them."""
    from tokprof.environment import open_device

    return measure_energy(run, CudaClock(), open_device(device), tokens=batch * new_tokens)


def measure_energy(
    run: Round,
    clock: Clock,
    gpu: Gpu | None,
    *,
    tokens: int,
    now: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Energy | None:
    """Requests one after the other for at least five seconds; `tokens`: generated per request.

    None where the device has no such counter, or where it fails on the way: never zero.
    """
    if gpu is None or gpu.energy_j() is None:
        return None
    idle = _idle_watts(gpu, pause)
    requests, began = 0, now()
    before = gpu.energy_j()
    while now() - began < WINDOW_SECONDS and requests < MOST_REQUESTS:
        run(clock)
        clock.read()  # waits for the device
        requests += 1
    after, window = gpu.energy_j(), now() - began
    if before is None or after is None or after <= before or window <= 0:
        return None
    return Energy(window_s=window, joules=after - before, requests=requests, tokens=tokens * requests, idle_watts=idle)


def _idle_watts(gpu: Gpu, pause: Callable[[float], None]) -> float | None:
    readings = []
    for _ in range(IDLE_READINGS):
        pause(IDLE_PAUSE_SECONDS)
        power = gpu.power_w()
        if power is None:
            return None
        readings.append(power)
    return min(readings)
