"""The same forward pass measured by tokprof and by torch.utils.benchmark, in turns in one process.

`python -m benchmarks.peer_timer [--rounds 40]`. The two agree where the interval of their ratio holds 1.
"""

from __future__ import annotations

import argparse

import torch
from torch.utils.benchmark import Timer

from tokprof.environment import machine_warnings, snapshot
from tokprof.measure.clock import HostClock
from tokprof.measure.stats import median, ratio_interval
from tokprof.models import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    adapter = load("demo", weights="auto", device="cpu", dtype="float32", attention="sdpa", seed=0)
    decoder = adapter.model.get_decoder()
    width = adapter.shape.decoder.width
    hidden = torch.randn(1, 256, width, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def forward() -> None:
        decoder(inputs_embeds=hidden, use_cache=False)

    # one thread on both sides: torch's timer sets it, and here it has to be asked for
    torch.set_num_threads(1)
    timer, clock = Timer("forward()", globals={"forward": forward}, num_threads=1), HostClock()
    ours, theirs = [], []
    for number in range(rounds):
        for side in (0, 1) if number % 2 else (1, 0):
            if side == 0:
                forward()
                forward()  # torch's timer warms up twice before it looks
                clock.enter("prefill")
                forward()
                ours.append(clock.read()["prefill"].elapsed_ms)
            else:
                theirs.append(timer.timeit(1).median * 1e3)
    interval = ratio_interval(ours, theirs)
    environment = snapshot("cpu")
    print(f"{environment.device.name}, torch {environment.libraries['torch']}, {rounds} rounds in turns")
    print(f"tokprof {median(ours):.3f} ms, torch.utils.benchmark {median(theirs):.3f} ms")
    print(f"ratio {interval.ratio:.4f} [{interval.low:.4f}, {interval.high:.4f}]: ", end="")
    print("they agree" if interval.contains_one else "they differ")
    for warning in machine_warnings(environment):
        print(f"warning: {warning}")


if __name__ == "__main__":
    main()
