"""Dropping in stages inside the decoder: where the stops lie and how many tokens are left after each.

Papers publish stops for one depth. One rule carries them to every other: scaled in proportion and
rounded to the nearest layer (halves to even), each at least one layer behind its predecessor; a stop
that no longer fits before the last layer vanishes. Stops that a user gives are taken as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tokprof.errors import ParameterError, UnsupportedError
from tokprof.policies.base import DecoderView, Need, Plan, Policy, Scene, segments


def numbers(value: Any, method: str, parameter: str) -> tuple[float, ...]:
    """A list parameter as Python, YAML or the command line hand it in: (3, 17), [3, 17], "3,17" or 3."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        parts = [parts] if isinstance(parts, int | float) else list(parts)
        found = tuple(float(part) for part in parts if part != "")
        if not all(math.isfinite(number) for number in found):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ParameterError(
            f"{method}: {parameter}={value!r}", "numbers with commas between them, such as 3,17,22"
        ) from None
    return found


def integers(value: Any, method: str, parameter: str) -> tuple[int, ...]:
    found = numbers(value, method, parameter)
    if any(number != int(number) or number < 0 for number in found):
        raise ParameterError(
            f"{method}: {parameter}={value!r}", "whole numbers with commas between them, such as 3,17,22"
        )
    return tuple(int(number) for number in found)


def scaled(published: Sequence[int], of: int, depth: int, first: int = 1, last: int | None = None) -> tuple[int, ...]:
    """Stops published for `of` layers, on `depth` layers, within first … last."""
    last = depth - 1 if last is None else last
    stops: list[int] = []
    for stop in published:
        least = stops[-1] + 1 if stops else first
        stops.append(max(round(stop * depth / of), least))
    return tuple(stop for stop in stops if stop <= last)


def layer_share(depth: int, stops: Sequence[int], shares: Sequence[float], first: int = 0) -> float:
    """Layer mean as a share of all visual tokens: all from layer `first` on, `shares[i]` from `stops[i]` on."""
    total, at, share = 0.0, first, 1.0
    for stop, after in zip(stops, shares, strict=False):
        total += (stop - at) * share
        at, share = stop, after
    return (total + (depth - at) * share) / depth


def bisect(value: Callable[[float], float], target: float, low: float = 0.0, high: float = 1.0) -> float:
    """Where an increasing function reaches the target, to the last bit; the nearer end where it does not."""
    for _ in range(64):
        middle = (low + high) / 2
        if value(middle) < target:
            low = middle
        else:
            high = middle
    return high


@dataclass(frozen=True, kw_only=True)
class Staged(Policy):
    """A method that leaves a planned number of visual tokens at each of its stops.

    `layers`: the stops, in this model's layers; empty: the published ones, scaled to its depth.
    """

    published_layers: ClassVar[tuple[int, ...]] = ()
    published_depth: ClassVar[int] = 32

    layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        layers = integers(self.layers, self.name, "layers")
        if list(layers) != sorted(set(layers)):
            raise ParameterError(f"{self.name}: layers={layers}", "ascending layers, such as 3,17,22")
        object.__setattr__(self, "layers", layers)

    def stops(self, depth: int) -> tuple[int, ...]:
        return self.layers or scaled(self.published_layers, self.published_depth, depth)

    def counts(self, visual: int, depth: int) -> tuple[int, ...]:
        """Visual tokens left after each stop."""
        raise NotImplementedError

    def reachable(self, depth: int) -> tuple[float, float]:
        """The layer means that `keep` can ask for, as shares of all visual tokens."""
        stops = self.stops(depth)
        return layer_share(depth, stops, (0.0,) * len(stops)), 1.0

    @property
    def explicit(self) -> bool:
        """Whether parameters other than `keep` say how many tokens stay."""
        return False

    @property
    def identity(self) -> bool:
        return self.keep >= 1.0 and not self.explicit

    def check(self, scene: Scene) -> None:
        depth = scene.depth
        if Need.ROW_ATTENTION in self.needs and not scene.text_after:
            raise UnsupportedError(
                f"{self.name} asks what the text behind the picture looks at, and there is none",
                "put the question behind the picture",
            )
        stops = self.stops(depth)
        shown = ", ".join(map(str, stops)) or "none"
        if not stops or not 0 < stops[0] <= stops[-1] < depth:
            raise ParameterError(
                f"{self.name}: layers {shown} on a model of {depth} layers",
                f"layers from 1 to {depth - 1}",
            )
        low, high = self.reachable(depth)
        if not self.identity and not self.explicit and not low - 1e-9 <= self.keep <= high + 1e-9:
            raise ParameterError(
                f"{self.name}: keep={self.keep:g} is out of reach with stops at {shown} of {depth} layers",
                f"a layer mean from {low:.3g} to {high:.3g}, or other layers",
            )

    def decoder_stops(self, depth: int) -> tuple[int, ...]:
        return self.stops(depth)

    def plan(self, scene: Scene) -> Plan:
        steps = zip(self.stops(scene.depth), self.counts(scene.visual, scene.depth), strict=False)
        return Plan(layers=segments(scene.depth, [(self.entry_layer(scene.depth), scene.visual), *steps]))

    def left(self, view: DecoderView) -> int:
        """How many visual tokens the plan leaves at this stop."""
        scene = view.scene
        index = self.stops(scene.depth).index(view.stop)
        return self.counts(scene.visual, scene.depth)[index]
