"""No policy ever makes a tensor of prompt length × prompt length: every operator's output is looked at.

On the meta device, so that a prompt of 5,856 tokens costs nothing.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tokprof import policies
from tokprof.engine.request import run_request
from tokprof.errors import ParameterError, UnsupportedError
from tokprof.fit import check_fit
from tokprof.measure.clock import NoClock
from tokprof.models import load
from tokprof.models.adapter import Adapter, Prepared
from tokprof.models.catalog import Entry, two_layers
from tokprof.recipe import Workload
from tokprof.shapes import DecoderShape, ModelShape, VisionShape

LONG = 4000
DECODER = DecoderShape(depth=8, width=64, ffn=128, heads=4, kv_heads=4, vocab=256)
TOWER = VisionShape(
    kind="clip", depth=6, layers_run=5, width=32, ffn=64, heads=2, image_px=336, patch_px=14, cls_token=True
)


LONG_SHAPE = ModelShape(
    name="long",
    family="llava_next",
    decoder=DECODER,
    vision=TOWER,
    projector=two_layers(TOWER, DECODER),
    tiling="anyres",
    grids_px=((1008, 1008),),
)


class Shapes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.square: list[str] = []
        self.attention_rows = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, torch.Tensor) and sum(size >= LONG for size in tensor.shape) > 1:
                self.square.append(f"{func} → {tuple(tensor.shape)}")
        return found


@pytest.fixture(scope="module")
def long_prompt() -> tuple[Adapter, Prepared]:
    adapter = load(Entry(shape=LONG_SHAPE), "random", device="meta")
    return adapter, adapter.prepare(Workload(image_size=(1000, 1000)))  # type: ignore[call-arg]


@pytest.mark.parametrize("name", [name for name in policies.names() if name != "dense"])
def test_no_policy_needs_the_square(name: str, long_prompt: tuple[Adapter, Prepared]) -> None:
    adapter, prepared = long_prompt
    assert prepared.layout.count > LONG
    exits = {"exit_layer": "never"} if "exit_layer" in {f for f in policies.find(name).__dataclass_fields__} else {}
    policy = policies.build(name, keep=0.3, **exits)
    try:
        check_fit(policy, prepared.scene)
    except (UnsupportedError, ParameterError) as refusal:
        pytest.skip(refusal.message)
    with Shapes() as shapes:
        run_request(adapter, policy, prepared, NoClock(), 2)
    assert not shapes.square


def test_nor_does_one_whose_exit_the_data_decide() -> None:
    """With numbers, since the meta device has none to decide by."""
    adapter = load(Entry(shape=LONG_SHAPE), "random")
    prepared = adapter.prepare(Workload(image_size=(1000, 1000)))  # type: ignore[call-arg]
    policy = policies.build("todre", stages="2")
    assert policy.data_decided
    with Shapes() as shapes:
        outcome = run_request(adapter, policy, prepared, NoClock(), 1)
    assert outcome.per_layer[0] > LONG
    assert not shapes.square


def test_the_official_way_is_seen(long_prompt: tuple[Adapter, Prepared]) -> None:
    adapter, prepared = long_prompt
    with Shapes() as shapes:
        run_request(adapter, policies.build("fastv", keep=0.3), prepared, NoClock(), 2, official_scores=True)
    assert shapes.square
