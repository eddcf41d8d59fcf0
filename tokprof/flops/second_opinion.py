"""fvcore's count of the same request: another implementation, another unit, its own blind spots.

fvcore traces operators and counts multiply–accumulates; it knows no fused attention, so that a
handlers tell it, and what it reports is doubled to FLOPs.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tokprof.engine.request import run_request
from tokprof.errors import UnsupportedError
from tokprof.measure.clock import NoClock
from tokprof.models.adapter import Adapter, Prepared
from tokprof.policies.base import Policy

CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten.conv2d, torch.ops.aten.conv3d)


class _Request(nn.Module):
    """The whole request as one module, so that it can be traced."""

    def __init__(self, adapter: Adapter, policy: Policy, prepared: Prepared, new_tokens: int) -> None:
        super().__init__()
        self.model = adapter.model
        self._asked = (adapter, policy, prepared, NoClock(), new_tokens)

    def forward(self, ids: Tensor) -> Tensor:
        adapter, policy, prepared, clock, new_tokens = self._asked
        return run_request(adapter, policy, prepared, clock, new_tokens).tokens


class _OffTheRecord(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs each operator in another thread, which is not tracing.

    Where tracing is on, shapes are tensors, and the meta device's kernels cannot live with that. So
    the trace never sees what a convolution is made of; fvcore's own formula is applied to it here.
    """

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._thread, self.convolution_macs = thread, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = self._thread.submit(_below_autograd, func, args, kwargs or {}).result()
        if func._overloadpacket in CONVOLUTIONS:
            sizes = self._thread.submit(lambda: [list(tensor.shape) for tensor in (*args[:2], result)]).result()
            self.convolution_macs += _fvcore_convolution(*sizes)
        return result


def _below_autograd(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    views = torch._C.DispatchKeySet(torch._C.DispatchKey.ADInplaceOrView)
    with torch._C._AutoDispatchBelowAutograd(), torch._C._ExcludeDispatchKeyGuard(views):
        return func(*args, **kwargs)


def fvcore_flops(adapter: Adapter, policy: Policy, prepared: Prepared, new_tokens: int) -> float:
    """Total FLOPs of a request, 2 per multiply–accumulate."""
    try:
        from fvcore.nn import FlopCountAnalysis
    except ImportError as error:
        raise UnsupportedError(
            "fvcore is not installed", "pip install 'tokprof[fvcore]', or leave out --fvcore"
        ) from error
    request = _Request(adapter, policy, prepared, new_tokens)
    analysis = FlopCountAnalysis(request, (prepared.input_ids,))
    for operator, handler in HANDLERS.items():
        analysis.set_op_handle(operator, handler)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with ThreadPoolExecutor(1) as thread, _OffTheRecord(thread) as mode:
        return 2.0 * float(analysis.total() + mode.convolution_macs)


def _fvcore_convolution(pixels: list[int], weight: list[int], result: list[int]) -> int:
    from fvcore.nn.jit_handles import conv_flop_count

    return int(conv_flop_count(pixels, weight, result))


def _shape(value: Any) -> list[int]:
    shape: list[int] = value.type().sizes()
    return shape


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """QKᵀ and AV, as a full square."""
    queries, keys = _shape(inputs[0]), _shape(inputs[1])
    return 2 * prod(queries) * keys[-2]


def _matrix_vector_macs(inputs: list[Any], outputs: list[Any]) -> int:
    return prod(_shape(inputs[0]))


def _product_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """An outer product adds nothing up; see `counted`."""
    left, right = _shape(inputs[0]), _shape(inputs[1])
    return 0 if left[-1] == 1 else prod(left) * (right[-1] if len(right) > 1 else 1)


def _nothing(inputs: list[Any], outputs: list[Any]) -> int:
    """fvcore counts some norms and interpolations and misses others; nobody else counts any."""
    return 0


HANDLERS = {
    "aten::scaled_dot_product_attention": _attention_macs,
    "aten::matmul": _product_macs,
    "aten::mv": _matrix_vector_macs,
    "aten::layer_norm": _nothing,
    "aten::upsample_bilinear2d": _nothing,
}
