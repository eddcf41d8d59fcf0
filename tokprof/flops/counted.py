"""The real modules' operations, counted on the meta device: no weights, no data, any laptop.

The engine's own loop runs over Hugging Face's modules under torch's FlopCounterMode. A clock that reads
the counter instead of the time attributes the work to stages, so nothing in the engine knows of it.
Attention is watched from outside as well: a call of which the counter sees nothing is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from tokprof.engine.request import run_request
from tokprof.errors import ParityError, UnsupportedError
from tokprof.flops.analytic import PARTS
from tokprof.measure.clock import Clock
from tokprof.models.adapter import Adapter, Prepared
from tokprof.policies.base import Policy

PART_OF_STAGE = {
    "vision": "vision",
    "project": "projector",
    "select": "selection",
    "compress": "prefill",
    "prefill": "prefill",
    "first_decode": "decode",
    "decode": "decode",
}
MATRIX_WORDS = ("mm", "mv", "matmul", "dot", "conv", "attention", "linear", "einsum", "cdist", "addr", "outer")


@dataclass(frozen=True)
class Counted:
    """FLOPs per part, 2 per multiply–accumulate, as torch counts them: attention as a full square.

    `masked`: of `parts`, what a causal kernel would not compute. `without_formula`: operators that the
    counter takes for free, with their calls; `unknown_matrix_work`: those among them that should not be.
    """

    parts: Mapping[str, int]
    masked: Mapping[str, int]
    without_formula: Mapping[str, int]
    attention_calls: int
    per_layer: tuple[int, ...]

    def causal(self, causal: str) -> dict[str, int]:
        """Parts under either reading of causal attention."""
        return {part: count - (self.masked[part] if causal == "half" else 0) for part, count in self.parts.items()}

    @property
    def unknown_matrix_work(self) -> dict[str, int]:
        names = self.without_formula
        return {name: names[name] for name in names if any(word in name.split("_") for word in MATRIX_WORDS)}


class CountingClock(Clock):
    """Tells multiply–accumulates instead of time: at every mark, the work so far goes to the stage that ends."""

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()
        self._counter, self._stage, self._seen = counter, "", 0
        self.parts: Counter[str] = Counter()
        self.masked: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return int(self._counter.get_total_flops())

    @property
    def part(self) -> str:
        return PART_OF_STAGE[self._stage]

    def enter(self, stage: str) -> None:
        self.settle()
        self._stage = stage

    def settle(self, part: str | None = None) -> None:
        """Book what has been counted since the last time."""
        if self._stage:
            self.parts[part or self.part] += self.total - self._seen
        self._seen = self.total

    def _mark(self) -> float:
        return float(self.total)

    _host_ms = _mark

    def _between_ms(self, first: float, second: float) -> float:
        return second - first


class _AttentionWatch(TorchFunctionMode):
    """Sees every fused-attention call before it dissolves into kernels the counter may not know."""

    def __init__(self, clock: CountingClock) -> None:
        super().__init__()
        self._clock, self.calls = clock, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        before = self._clock.total
        result = func(*args, **kwargs)
        self.calls += 1
        queries, keys = (args[0], args[1]) if len(args) > 1 else (kwargs["query"], kwargs["key"])
        if self._clock.total == before:
            raise ParityError(
                f"torch counts nothing for attention of {tuple(queries.shape)}",
                "a total without attention means nothing",
            )
        if kwargs.get("is_causal"):
            self._clock.masked[self._clock.part] += masked_flops(queries.shape, keys.shape)
        return result


class _OperatorWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operators for which the counter has no formula."""

    def __init__(self, known: set[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known, self.calls = known, Counter[str]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func._overloadpacket not in self._known:
            self.calls[func._overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def masked_flops(queries: tuple[int, ...], keys: tuple[int, ...]) -> int:
    """What lies above the diagonal of QKᵀ and AV: (batch, heads, queries, head dim), as many keys as queries."""
    batch, heads, rows, head_dim = queries
    assert rows == keys[2], "is_causal aligns queries and keys at the upper left: only a square has one meaning"
    return 4 * batch * heads * head_dim * (rows * (rows - 1) // 2)


def _matrix_vector(matrix: tuple[int, ...], *_: Any, **__: Any) -> int:
    return 2 * prod(matrix)


def _batches(left: tuple[int, ...], right: tuple[int, ...], *_: Any, **__: Any) -> int:
    """An outer product adds nothing up: some transformers write a rotary table so, others element by element."""
    return 0 if left[-1] == 1 else 2 * prod(left) * right[-1]


EXTRA_FORMULAS = {
    torch.ops.aten.mv: _matrix_vector,
    torch.ops.aten.dot: _matrix_vector,
    torch.ops.aten.bmm: _batches,
}


def count(adapter: Adapter, policy: Policy, prepared: Prepared, new_tokens: int) -> Counted:
    """Run one request of a model on the meta device and count it."""
    if policy.data_decided:
        raise UnsupportedError(
            f"{policy.name} decides by its data how many tokens stay: without data there is nothing to count",
            "fix the decision with one of its parameters, or read the bounds of its plan (leave out --count)",
        )
    counter = FlopCounterMode(display=False, custom_mapping=EXTRA_FORMULAS)
    clock = CountingClock(counter)
    attention = _AttentionWatch(clock)
    operators = _OperatorWatch({*flop_registry, *EXTRA_FORMULAS})
    with operators, counter, attention, _head_apart(adapter.decoder.head, clock):
        outcome = run_request(adapter, policy, prepared, clock, new_tokens)
        clock.settle()
    return Counted(
        parts={part: clock.parts[part] for part in PARTS},
        masked={part: clock.masked[part] for part in PARTS},
        without_formula=dict(sorted(operators.calls.items())),
        attention_calls=attention.calls,
        per_layer=outcome.per_layer,
    )


@contextmanager
def _head_apart(head: torch.nn.Module, clock: CountingClock) -> Iterator[None]:
    """The language-model head runs inside two stages; its work is booked on its own line."""
    before = head.register_forward_pre_hook(lambda *_: clock.settle())
    after = head.register_forward_hook(lambda *_: clock.settle("head"))
    try:
        yield
    finally:
        before.remove()
        after.remove()


def residual(exact: int, counted: int) -> float:
    """How far the formula is from the count, as a share of the count."""
    if exact == counted:
        return 0.0
    return (exact - counted) / counted if counted else float("inf")
