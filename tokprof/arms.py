"""One side of a comparison: run it once with all promises checked, then turn samples into a record's arm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from tokprof.engine.request import Outcome, run_request
from tokprof.errors import BrokenPromiseError
from tokprof.flops.analytic import arm_bytes, arm_flops
from tokprof.measure.activity import activity_pass
from tokprof.measure.clock import Clock, NoClock
from tokprof.measure.energy import energy_pass
from tokprof.measure.memory import memory_pass
from tokprof.models.adapter import Adapter, Prepared
from tokprof.policies.base import Plan, Policy
from tokprof.recipe import Measurement
from tokprof.record import Activity, Arm, Fidelity, Memory, Samples, Tokens


@dataclass(frozen=True)
class ArmFacts:
    """A policy on prepared inputs, and what one checked request of it showed."""

    adapter: Adapter
    policy: Policy
    prepared: Prepared
    new_tokens: int
    official_scores: bool
    device: str
    outcome: Outcome
    plan: Plan

    @classmethod
    def checked(
        cls,
        adapter: Adapter,
        policy: Policy,
        prepared: Prepared,
        new_tokens: int,
        *,
        official_scores: bool,
        device: str,
    ) -> ArmFacts:
        outcome = run_request(
            adapter,
            policy,
            prepared,
            NoClock(),
            new_tokens,
            attention=adapter.attention,
            checked=True,
            official_scores=official_scores,
        )
        plan = policy.schedule(prepared.scene)
        return cls(adapter, policy, prepared, new_tokens, official_scores, device, outcome, plan)

    def round(self, clock: Clock) -> None:
        """One whole request, timed."""
        run_request(
            self.adapter,
            self.policy,
            self.prepared,
            clock,
            self.new_tokens,
            attention=self.adapter.attention,
            official_scores=self.official_scores,
        )

    @cached_property
    def activity(self) -> Activity:
        """Exact, and the same every time, so that the dense model's is counted once for all methods."""
        return activity_pass(self.round, self.device)

    @property
    def value_bytes(self) -> int:
        return torch.empty((), dtype=self.adapter.decoder.parameters_dtype()).element_size()

    def kv_planned_bytes(self) -> int:
        scene, decoder = self.prepared.scene, self.adapter.shape.decoder
        planned = self.outcome.per_layer if not self.plan.exact else self.plan.layers
        text = scene.text if self.plan.cached_text is None else self.plan.cached_text
        entries = sum(text + visual for visual in planned)
        return entries * decoder.kv_values_per_token * self.value_bytes * self.prepared.batch


def measured_arm(facts: ArmFacts, samples: Samples, measurement: Measurement) -> Arm:
    policy, scene = facts.policy, facts.prepared.scene
    observed = None if facts.plan.exact else facts.outcome.per_layer
    return Arm(
        method=policy.name,
        parameters=policy.parameters() if not policy.identity else {},
        tokens=Tokens(
            original=scene.layout.count,
            text=scene.text,
            per_layer=facts.outcome.per_layer,
            planned=facts.plan.layers,
            planned_least=facts.plan.least,
            newlines=scene.layout.newlines,
            published_mean=None if policy.identity else policy.published_mean(scene.seen_by(policy)),
        ),
        flops=arm_flops(policy, scene, facts.new_tokens, observed),
        bytes_moved=arm_bytes(policy, scene, facts.new_tokens, facts.value_bytes),
        samples=samples,
        memory=_memory(facts) if measurement.memory else None,
        energy=energy_pass(facts.round, facts.device, facts.prepared.batch, facts.new_tokens)
        if measurement.energy
        else None,
        activity=facts.activity if measurement.activity else None,
        generated=tuple(tuple(row) for row in facts.outcome.tokens.tolist()),
    )


def _memory(facts: ArmFacts) -> Memory:
    """Cache bytes from the tensors and from the plan have to agree, or one of them is wrong."""
    planned, observed = facts.kv_planned_bytes(), facts.outcome.kv_bytes
    if planned != observed:
        raise BrokenPromiseError(
            f"{facts.policy.name}: the cache holds {observed} bytes where the plan says {planned}",
            "its plan and what the engine kept disagree; please report this",
        )
    weights = sum(p.numel() * p.element_size() for p in facts.adapter.model.parameters())
    return memory_pass(
        facts.round, device=facts.device, weights_bytes=weights, kv_bytes=observed, kv_planned_bytes=planned
    )


def fidelity_between(dense: Outcome, policy: Outcome) -> Fidelity:
    """How far the pruned model's answers are from the unpruned model's, on the same inputs."""
    expected, found = dense.logits.double().log_softmax(-1), policy.logits.double().log_softmax(-1)
    divergence = (expected.exp() * (expected - found)).sum(-1).mean().clamp_min(0.0)
    return Fidelity(
        first_token_kl=float(divergence),
        top1_agreement=float((dense.logits.argmax(-1) == policy.logits.argmax(-1)).double().mean()),
        greedy_agreement=float((dense.tokens == policy.tokens).double().mean()),
        tokens=int(dense.tokens.numel()),
    )
