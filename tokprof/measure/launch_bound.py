"""Stages in which the device waits for the host: fewer tokens cannot make them faster."""

from __future__ import annotations

from tokprof.measure.stats import median
from tokprof.record import REQUEST_STAGES, Samples

LAUNCH_BOUND = 0.9  # host time to queue a stage, as a share of the time the device takes
WORTH_SAYING = 0.05  # share of the request


def launch_bound_stages(samples: Samples) -> dict[str, float]:
    """Stage → submit time ÷ elapsed time, where the host's queueing takes as long as the device.

    Only for a device that runs behind the host; on a CPU submitting is doing.
    """
    request = median(samples.total_ms()) if samples.rounds else 0.0
    bound = {}
    for stage, times in samples.stages.items():
        if stage not in REQUEST_STAGES or not times.elapsed_ms:
            continue
        elapsed, submit = median(times.elapsed_ms), median(times.submit_ms)
        if elapsed > WORTH_SAYING * request and submit >= LAUNCH_BOUND * elapsed:
            bound[stage] = submit / elapsed
    return bound


def launch_bound_warning(method: str, samples: Samples) -> str | None:
    stages = launch_bound_stages(samples)
    if not stages:
        return None
    return (
        f"{method}: the host takes as long to queue {', '.join(stages)} as the device to run it (launch-bound), so "
        "fewer tokens cannot help there: raise --batch, use a longer input, or a faster host"
    )
