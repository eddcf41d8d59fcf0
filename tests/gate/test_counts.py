"""Tier 1: counts are equal or they are not."""

from __future__ import annotations

from tests.gate.made import BASE, answers, said, with_arm
from tests.records import make_environment, make_record
from tokprof.gate.outputs import markdown
from tokprof.gate.verdicts import verdict
from tokprof.record import Activity


def test_the_same_passes_on_any_machine() -> None:
    elsewhere = make_record(environment=make_environment("CPU of a laptop"), policy_ms=900)
    outcome = verdict([BASE], [elsewhere], tier=1)
    assert outcome.answer == "pass" and outcome.exit_code == 0
    assert any("launches not compared" in note for note in outcome.notes)


def test_one_token_more_in_one_layer_regresses() -> None:
    layers = list(BASE.policy.tokens.per_layer)
    layers[17] += 1
    outcome = verdict([BASE], [make_record(per_layer=layers)], tier=1)
    found = answers(outcome)
    assert outcome.exit_code == 1
    assert found["tokens per layer"] == found["FLOPs (exact)"] == found["KV bytes"] == "regressed"
    assert found["dense tokens per layer"] == "pass"
    assert said(outcome, "tokens per layer").after == "2×2880, 15×720, 1×721, 14×720"
    assert "renew the baseline" in markdown(outcome)


def test_one_synchronisation_more_regresses_and_is_named() -> None:
    assert BASE.policy.activity is not None
    more = Activity(
        kernel_launches=BASE.policy.activity.kernel_launches, host_syncs={"prefill": 0, "decode": 0, "select": 1}
    )
    outcome = verdict([BASE], [with_arm(BASE, activity=more)], tier=1)
    assert answers(outcome)["host syncs"] == "regressed"
    assert said(outcome, "host syncs").after == "1 (select 1)"


def test_another_dtype_leaves_bytes_out_with_a_note() -> None:
    model = BASE.model.model_copy(update={"dtype": "float32"})
    outcome = verdict([BASE], [BASE.model_copy(update={"model": model})], tier=1)
    assert "KV bytes" not in answers(outcome)
    assert any("bfloat16 → float32" in note for note in outcome.notes)


def test_tokens_that_data_decides_count_only_for_the_same_data() -> None:
    tokens = BASE.policy.tokens.model_copy(update={"planned_least": (0,) * 32})
    decided = with_arm(BASE, tokens=tokens)
    other = decided.model_copy(update={"inputs": decided.inputs.model_copy(update={"sha256": "1" * 64})})
    assert "tokens per layer" in answers(verdict([decided], [decided], tier=1))
    outcome = verdict([decided], [other], tier=1)
    assert "tokens per layer" not in answers(outcome)
    assert any("data decides" in note for note in outcome.notes)


def test_a_convention_that_is_gone_is_not_silence() -> None:
    flops = {name: parts for name, parts in BASE.policy.flops.items() if name != "todre"}
    outcome = verdict([BASE], [with_arm(BASE, flops=flops)], tier=1)
    assert said(outcome, "FLOPs (todre)").after == "missing" and outcome.exit_code == 1


def test_a_cell_that_is_gone_is_incomparable_and_a_new_one_a_note() -> None:
    outcome = verdict([BASE, make_record(keep=0.1)], [BASE, make_record(keep=0.5)], tier=1)
    assert outcome.answer == "incomparable" and outcome.exit_code == 3
    assert any("keep=0.5" in note and "new" in note for note in outcome.notes)


def test_looking_at_nothing_is_not_passing() -> None:
    assert verdict([], [], tier=1).exit_code == 3
