"""FastV, PyramidDrop, HiDivDrop and TwigVLM from their first stop to their last, against slow readings of the papers.

The view computes attention in single precision with tensors; the readings go through rows and heads
one by one in double precision and know nothing of `tokprof.policies`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.policies.views import FakeDecoderView, noise, single
from tokprof import policies
from tokprof.policies.base import Need, Policy, Scene

HEADS, SIZE, BEFORE, BEHIND, SIDE, DEPTH = 2, 4, 3, 4, 6, 32
VISUAL = SIDE * SIDE
Kept = list[tuple[int, list[int]]]  # (layers that have run, the visual tokens left)


class Projections:
    """Queries and keys of the whole prompt, (heads, places, size), for the layer before a stop and the one behind."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def at(self, layer: int) -> tuple[Tensor, Tensor]:
        places = BEFORE + VISUAL + BEHIND
        return tuple(1.5 * noise(HEADS, places, SIZE, seed=1000 * self.seed + 2 * layer + side) for side in (0, 1))  # type: ignore[return-value]


class AttentionView(FakeDecoderView):
    """Attention from projections, causal, of the tokens that are left; 0-based layer `stop` is the next one."""

    def __init__(self, policy: Policy, scene: Scene, stop: int, given: Projections, left: Sequence[int]) -> None:
        super().__init__(policy, scene, stop, present=len(left))
        self.given, self.left = given, torch.tensor([BEFORE + token for token in left])

    def attention(self, rows: Any, **asked: Any) -> Tensor:
        self._use(Need.COLUMN_ATTENTION if rows == "visual" else Need.ROW_ATTENTION)
        layer, over = asked.pop("layer"), asked.pop("over", "sequence")
        assert not asked, "more than these methods ask for"
        queries, keys = self.given.at(self.stop - (layer == "previous"))
        text = torch.arange(BEFORE), torch.arange(BEFORE + VISUAL, BEFORE + VISUAL + BEHIND)
        whole = torch.cat((text[0], self.left, text[1]))
        asking = {"last": whole[-1:], "instruction": text[1], "visual": self.left}[rows]
        columns = self.left if over == "columns" else whole
        logits = queries[:, asking] @ keys[:, columns].transpose(1, 2) / SIZE**0.5
        weights = logits.masked_fill(columns > asking[:, None], float("-inf")).softmax(-1)
        mean: Tensor = weights[..., torch.isin(columns, self.left)].mean(1).mean(0)
        return mean[None]


def decided(policy: Policy, given: Projections) -> Kept:
    """What the policy leaves, stop by stop."""
    scene, left, found = single(SIDE, depth=DEPTH, text=BEFORE + BEHIND, text_after=BEHIND), list(range(VISUAL)), []
    policy.check(scene.seen_by(policy))
    for stop in sorted(policy.decoder_stops(DEPTH)):
        edit = policy.edit_decoder(AttentionView(policy, scene, stop, given, left))
        assert edit is not None and edit.values is None and not edit.reordered
        left = [] if edit.keep is None else [left[index] for index in edit.keep[0].tolist()]
        found.append((stop, left))
    return found


def row(given: Projections, layer: int, asking: int, columns: Sequence[int]) -> list[float]:
    """softmax(q·k/√d) of one row over some columns, mean over heads."""
    queries, keys = (side.double().tolist() for side in given.at(layer))
    mean = [0.0] * len(columns)
    for head in range(HEADS):
        raised = []
        for column in columns:
            product = 0.0
            for query, key in zip(queries[head][asking], keys[head][column], strict=True):
                product += query * key
            raised.append(math.exp(product / math.sqrt(SIZE)))
        for index, value in enumerate(raised):
            mean[index] += value / sum(raised) / HEADS
    return mean


def sequence(left: Sequence[int]) -> list[int]:
    return [*range(BEFORE), *(BEFORE + token for token in left), *range(BEFORE + VISUAL, BEFORE + VISUAL + BEHIND)]


def last_row(given: Projections, layer: int, left: Sequence[int]) -> dict[int, float]:
    """What the last token of the prompt pays each visual token, of all that it pays."""
    places = sequence(left)
    paid = dict(zip(places, row(given, layer, places[-1], places), strict=True))
    return {token: paid[BEFORE + token] for token in left}


def best(scores: dict[int, float], count: int) -> list[int]:
    return sorted(sorted(scores, key=lambda token: -scores[token])[:count])


def fastv(given: Projections, share: float, every_row: bool) -> Iterator[tuple[int, list[int]]]:
    """Section 4: after layer K = 2 keep the share of tokens with the highest φ, taken from that layer's attention."""
    left = list(range(VISUAL))
    scores = last_row(given, 1, left)
    if every_row:
        places = sequence(left)
        scores = dict.fromkeys(left, 0.0)
        for index in range(BEFORE, len(places)):
            paid = row(given, 1, places[index], places[: index + 1])
            for token in left:
                if BEFORE + token < index + 1:
                    scores[token] += paid[BEFORE + token]
    yield 2, best(scores, round(share * VISUAL))


def pdrop(given: Projections, factor: float) -> Iterator[tuple[int, list[int]]]:
    """Section 3.2: after stages of 8 layers, λˢ of all tokens, by the last token in the layer about to run."""
    left = list(range(VISUAL))
    for stage, stop in enumerate((8, 16, 24), start=1):
        left = best(last_row(given, stop, left), int(VISUAL * factor**stage))
        yield stop, left


def twig(given: Projections, mean: float) -> Iterator[tuple[int, list[int]]]:
    """Section 3.2: R = (K·N + (K_f − K)·R')/L solved for R', rounded up; nothing visual from K_f = 24 on."""
    wanted = 0
    while 2 * VISUAL + 22 * wanted < 32 * mean * VISUAL - 1e-6:
        wanted += 1
    yield 2, best(last_row(given, 1, list(range(VISUAL))), wanted)
    yield 24, []


def pyramid(inject: int, filters: Sequence[int], leave: int, ratio: float) -> list[float]:
    """Share of the visual tokens in layers 1 … 32, HiDivDrop's section 3.1, `inject` being the first with any."""
    shares, present = [], 1.0
    for layer in range(1, 33):
        shares.append(present if inject <= layer <= leave else 0.0)
        present *= ratio if layer in filters else 1.0
    return shares


def hidivdrop(
    given: Projections, mean: float, inject: int, filters: Sequence[int], leave: int, own: bool
) -> Iterator[tuple[int, list[int]]]:
    """Each filter keeps N·ρⁱ by the last token's softmax over visual tokens alone, in its own layer or the next."""
    low, high = 0.0, 1.0
    while high - low > 1e-13:
        ratio = (low + high) / 2
        low, high = (ratio, high) if sum(pyramid(inject, filters, leave, ratio)) < 32 * mean else (low, ratio)
    left = list(range(VISUAL))
    for stage, layer in enumerate(filters, start=1):  # 1-based, so that after it as many layers have run
        columns = [BEFORE + token for token in left]
        paid = row(given, layer - 1 if own else layer, BEFORE + VISUAL + BEHIND - 1, columns)
        left = best(dict(zip(left, paid, strict=True)), max(1, round(VISUAL * high**stage)))
        yield layer, left
    yield leave, []


LAYERS: dict[str, Any] = {
    "P": (9, (10, 14, 16, 18), 25, True),
    "C": (10, (10, 14, 16, 18), 25, False),
    "mobilellama": (15, (16, 19, 22, 25), 28, True),
}
CASES: dict[str, tuple[Policy, Callable[[Projections], Iterator[tuple[int, list[int]]]]]] = {
    "fastv": (policies.build("fastv", keep=0.3), lambda given: fastv(given, 0.3, False)),
    "fastv, every row": (policies.build("fastv", keep=0.3, query="all"), lambda given: fastv(given, 0.3, True)),
    "pdrop": (policies.build("pdrop"), lambda given: pdrop(given, 0.5)),
    "pdrop, two thirds": (policies.build("pdrop", lambda_=2 / 3), lambda given: pdrop(given, 2 / 3)),
    "twigvlm": (policies.build("twigvlm", keep=0.25), lambda given: twig(given, 0.25)),
    "hidivdrop P": (policies.build("hidivdrop", keep=0.2), lambda given: hidivdrop(given, 0.2, *LAYERS["P"])),
    "hidivdrop C": (
        policies.build("hidivdrop", keep=0.2, preset="C"),
        lambda given: hidivdrop(given, 0.2, *LAYERS["C"]),
    ),
    "hidivdrop mobilellama": (
        policies.build("hidivdrop", keep=0.2, preset="mobilellama"),
        lambda given: hidivdrop(given, 0.2, *LAYERS["mobilellama"]),
    ),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("case", CASES)
def test_decisions_are_those_of_a_slow_reading(case: str, seed: int) -> None:
    policy, slow = CASES[case]
    assert decided(policy, Projections(seed)) == list(slow(Projections(seed)))


@pytest.mark.parametrize("preset", LAYERS)
@pytest.mark.parametrize("mean", [48 / 576, 80 / 576, 0.2])
def test_visual_tokens_enter_late_and_leave_early(preset: str, mean: float) -> None:
    """HiDivDrop's plan, layer by layer."""
    inject, filters, leave, _ = LAYERS[preset]
    policy, scene = policies.build("hidivdrop", keep=mean, preset=preset), single(24, depth=DEPTH)
    planned = policy.schedule(scene).layers
    low, high = 0.0, 1.0
    for _ in range(60):
        ratio = (low + high) / 2
        low, high = (ratio, high) if sum(pyramid(inject, filters, leave, ratio)) < 32 * mean else (low, ratio)
    expected = [max(round(576 * share), 1) if share else 0 for share in pyramid(inject, filters, leave, high)]
    assert planned == tuple(expected)


def test_a_twigs_layers_are_the_three_behind_its_stop() -> None:
    """What its attention is taken from: they run beside the model's own, on all visual tokens."""
    policy = policies.build("twigvlm", keep=0.25)
    plan = policy.schedule(single(SIDE, depth=DEPTH))
    assert (tuple(policy.side_layers(DEPTH)), policy.side_stop(DEPTH)) == ((2, 3, 4), 2)
    assert plan.side_layers == (VISUAL,) * 3
    assert plan.layers[:2] == (VISUAL,) * 2 and not any(plan.layers[24:])
