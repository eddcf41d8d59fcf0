"""The machine a record was made on, and what about it may disturb a measurement."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokprof.measure.ceilings import stored_ceilings
from tokprof.measure.nvml import Gpu, MachineState, open_gpu
from tokprof.record import Device, Environment

LIBRARIES = ("torch", "transformers", "accelerate", "flash-attn", "triton", "nvidia-ml-py", "pillow", "numpy")
BUSY_LOAD = 0.5  # other work per core


def snapshot(device: str = "cpu", dtype: str | None = None) -> Environment:
    """Read once, before measuring. `device` as torch writes it: cpu, cuda, cuda:1."""
    processor = cpu_name()
    found = _gpu(device) if device.startswith("cuda") else _cpu(processor)
    commit, dirty = _git()
    return Environment(
        device=found,
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        cpu=processor,
        cores=_cores(),
        libraries=_libraries(),
        git_commit=commit,
        git_dirty=dirty,
        load_average=_load(),
        ceilings=stored_ceilings(found.name, dtype),
    )


def machine_warnings(environment: Environment) -> list[str]:
    """Each with its remedy."""
    device, found = environment.device, []
    if device.kind == "cpu":
        load = environment.load_average
        if load is not None and load > BUSY_LOAD * environment.cores:
            found.append(
                f"the machine is busy (load {load:.1f} on {environment.cores} cores): end other work, or expect "
                "wide intervals"
            )
        if device.threads is not None and device.threads > environment.cores:
            found.append(
                f"{device.threads} threads on {environment.cores} cores: set OMP_NUM_THREADS={environment.cores}"
            )
        return found
    if device.other_processes:
        found.append(
            f"{device.other_processes} other process(es) on the GPU: wait for them or choose another device "
            "(--device cuda:1)"
        )
    if device.throttle:
        found.append(f"the GPU is held back by: {', '.join(device.throttle)} (see nvidia-smi -q -d PERFORMANCE)")
    if device.temperature_c is not None and device.temperature_c >= 85:
        found.append(f"the GPU is at {device.temperature_c:.0f} °C: let it cool before measuring")
    if device.sm_clock_max_mhz is None:
        found.append("the driver tells nothing about clocks: rounds at low clocks cannot be set aside")
    return found


def state_reader(device: str) -> Callable[[], MachineState | None]:
    """The device's state after a round; None for ever on a CPU or without a driver's answer."""
    gpu = open_device(device)
    return gpu.state if gpu is not None else lambda: None


def open_device(device: str) -> Gpu | None:
    """The driver's view of torch's device."""
    if not device.startswith("cuda"):
        return None
    properties, index = _properties(device)
    uuid = getattr(properties, "uuid", None)
    return open_gpu(f"GPU-{uuid}" if uuid else None, index)


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _properties(device: str) -> tuple[Any, int]:
    import torch

    index = int(device.partition(":")[2] or torch.cuda.current_device())
    return torch.cuda.get_device_properties(index), index


def _in_use(device: str) -> bool:
    """Whether this process has memory on the device, and so is listed among its processes."""
    import torch

    return torch.cuda.memory_reserved(device) > 0


def _gpu(device: str) -> Device:
    import torch

    properties, _ = _properties(device)
    gpu = open_device(device)
    known: dict[str, Any] = {}
    if gpu is not None:
        state = gpu.state()
        known = {
            "driver": gpu.driver(),
            "sm_clock_mhz": gpu.sm_clock_mhz(),
            "sm_clock_max_mhz": gpu.sm_clock_max_mhz(),
            "power_w": state.power_w,
            "temperature_c": state.temperature_c,
            "throttle": state.throttle,
            "other_processes": gpu.other_processes(_in_use(device)),
        }
    return Device(
        kind="cuda",
        name=properties.name,
        memory_bytes=properties.total_memory,
        cuda=torch.version.cuda,
        capability=f"{properties.major}.{properties.minor}",
        **known,
    )


def _cpu(processor: str) -> Device:
    import psutil
    import torch

    return Device(
        kind="cpu",
        name=processor,
        memory_bytes=psutil.virtual_memory().total,
        threads=torch.get_num_threads(),
    )


def _cores() -> int:
    allowed = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def _libraries() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git() -> tuple[str | None, bool | None]:
    """The commit of the checkout this package runs from, and whether it was edited; None when installed."""
    package = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *words], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no", "."))
    except (OSError, subprocess.SubprocessError):
        return None, None
