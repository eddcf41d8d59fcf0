"""Is our loop Hugging Face's forward? If not, nothing else means anything."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tokprof.engine.attention import backend
from tokprof.engine.request import run_request
from tokprof.errors import ParityError
from tokprof.measure.clock import NoClock
from tokprof.models.adapter import Adapter, Prepared
from tokprof.policies.base import Policy

TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # of the largest logit


@dataclass(frozen=True)
class ParityResult:
    relative_error: float
    greedy_equal: bool


@torch.inference_mode()
def check_parity(
    adapter: Adapter, dense: Policy, prepared: Prepared, *, attention: str = "sdpa", new_tokens: int = 4
) -> ParityResult:
    """Last-position logits against the model's own forward, greedy tokens against its own `generate`.

    Greedy tokens are compared, not required: in half precision a tie may fall either way. The end of
    sequence is given an id that no token has, so that it is ignored here as it is in our own loop.
    """
    ours = run_request(adapter, dense, prepared, NoClock(), new_tokens, attention=attention, checked=True)
    inputs = adapter.forward_inputs(prepared)
    model = adapter.model
    with backend(attention):
        theirs = model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
        tokens = model.generate(  # type: ignore[operator]
            **inputs,
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=adapter.shape.decoder.vocab,
        )[:, -new_tokens:]
    scale = theirs.float().abs().max().clamp_min(1e-12)
    error = float((ours.logits.float() - theirs.float()).abs().max() / scale)
    result = ParityResult(error, bool((tokens == ours.tokens).all()))
    tolerance = TOLERANCE.get(theirs.dtype, 5e-2)
    if not error <= tolerance:
        raise ParityError(
            f"tokprof's loop and {type(model).__name__}.forward differ by {error:.1e} of the largest logit "
            f"(allowed: {tolerance:.0e})",
            "please report this with your transformers version; --no-parity measures all the same",
        )
    return result
