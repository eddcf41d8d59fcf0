"""The gap on records where every share is known: no model ran, the times are made up."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from tests.records import make_environment, make_record
from tokprof import units
from tokprof.record import Arm, Ceilings, RunRecord, Samples, StageSamples
from tokprof.report import explain, gap, roofline_table

Stages = dict[str, float]
FLOPS_DENSE = {"vision": 100, "projector": 0, "selection": 0, "prefill": 790, "decode": 90, "head": 20}
FLOPS_POLICY = {**FLOPS_DENSE, "selection": 0, "prefill": 190}
TOKENS_DENSE, TOKENS_POLICY = [600] * 4, [150] * 4
NEW_TOKENS = 20


def samples(times: Stages, submit: Stages | None = None) -> Samples:
    submit = submit or {}
    return Samples(
        stages={
            stage: StageSamples(elapsed_ms=(ms,) * 5, submit_ms=(submit.get(stage, ms / 10),) * 5)
            for stage, ms in times.items()
        }
    )


def record(dense: Stages, policy: Stages, *, submit: Stages | None = None, device: str = "GPU") -> RunRecord:
    made = make_record("fastv", per_layer=TOKENS_POLICY, visual=600, depth=4, environment=make_environment(device))

    def arm(old: Arm, times: Stages, flops: dict[str, int], submitted: Stages | None = None) -> Arm:
        return old.model_copy(
            update={"samples": samples(times, submitted), "flops": {"exact": flops}, "bytes_moved": {}}
        )

    return made.model_copy(
        update={
            "inputs": made.inputs.model_copy(update={"new_tokens": NEW_TOKENS, "visual": 600}),
            "baseline": arm(made.baseline, dense, FLOPS_DENSE),
            "policy": arm(made.policy, policy, FLOPS_POLICY, submit),
        }
    )


DENSE = {"vision": 20.0, "prefill": 100.0, "first_decode": 2.0, "decode": 36.0}


def terms(found: gap.Decomposition) -> dict[str, float]:
    return {term.name: term.lost_ms for term in found.terms}


def test_every_term_is_what_was_put_in() -> None:
    """1000 FLOPs shrink to 400, of prefill's 791 to 191; prefill takes 5 ms more than that, selection 5 ms."""
    prefill_share = 191 / 791
    measured = {**DENSE, "prefill": 100 * prefill_share + 5, "select": 5.0}
    found = gap.decompose(record(DENSE, measured))
    assert found is not None
    assert found.flops_ratio == pytest.approx(2.5)
    assert found.dense_ms == pytest.approx(158)
    expected = {
        "vision tower, projector": (1 - 0.4) * 20,
        "selection": 5.0,
        "decode": (1 - 0.4) * 38,
        "prefill": (prefill_share - 0.4) * 100,
        "launch-bound": 0.0,
        "utilisation": 5.0,
        "remainder": 0.0,
    }
    assert terms(found) == pytest.approx(expected, abs=1e-9)
    assert sum(expected.values()) == pytest.approx(found.lost_ms)
    assert sum(found.in_ratio(term) for term in found.terms) == pytest.approx(found.gap)
    assert found.gap == pytest.approx(2.5 - found.speedup)


def test_a_policy_that_follows_its_flops_leaves_no_gap() -> None:
    """All time in prefill, FLOPs too."""
    only = {"prefill": 100.0}
    made = record(only, {"prefill": 25.0})
    flops = ({"prefill": 800}, {"prefill": 200})
    made = made.model_copy(
        update={
            "baseline": made.baseline.model_copy(update={"flops": {"exact": flops[0]}}),
            "policy": made.policy.model_copy(update={"flops": {"exact": flops[1]}}),
        }
    )
    found = gap.decompose(made)
    assert found is not None
    assert found.lost_ms == pytest.approx(0)
    assert all(value == pytest.approx(0) for value in terms(found).values())


@pytest.mark.parametrize(("submit_ms", "bound"), [(29.0, True), (60.0, True), (10.0, False)])
def test_launch_bound_is_told_from_low_utilisation(submit_ms: float, bound: bool) -> None:
    measured = {**DENSE, "prefill": 30.0}
    found = gap.decompose(record(DENSE, measured, submit={"prefill": submit_ms}))
    assert found is not None
    excess = 30.0 - 100 * 191 / 791
    assert terms(found)["launch-bound"] == pytest.approx(excess if bound else 0)
    assert terms(found)["utilisation"] == pytest.approx(0 if bound else excess)


def test_a_cpu_is_never_launch_bound() -> None:
    found = gap.decompose(record(DENSE, {**DENSE, "prefill": 30.0}, submit={"prefill": 30.0}, device="CPU (made up)"))
    assert found is not None and terms(found)["launch-bound"] == 0


def test_the_remainder_is_shown_and_not_spread() -> None:
    found = gap.decompose(record(DENSE, {**DENSE, "prefill": 100 * 191 / 791, "vision": 27.0}))
    assert found is not None
    assert terms(found)["remainder"] == pytest.approx(7.0)
    assert found.terms[-1].name == "remainder"


def test_ceiling_is_the_request_without_prefill() -> None:
    made = record(DENSE, {**DENSE, "prefill": 30.0})
    assert gap.ceiling(made, 1) == pytest.approx(120 / 20)
    assert gap.ceiling(made, 20) == pytest.approx(158 / 58)
    assert gap.ceiling(made, 128) == pytest.approx((120 + 127 * 2) / (20 + 127 * 2))


def test_ceiling_lets_decode_profit_from_a_cache_of_text_only() -> None:
    made = record(DENSE, {**DENSE, "prefill": 30.0})
    assert made.baseline.memory is not None
    cache = made.baseline.memory.kv_bytes
    baseline = made.baseline.model_copy(update={"bytes_moved": {"first_decode": 2 * cache}})
    tokens = baseline.tokens
    visual = tokens.original / (tokens.original + tokens.text)
    step = 2 * (1 - visual / 2)
    ceiling = gap.ceiling(made.model_copy(update={"baseline": baseline}), 128)
    assert ceiling == pytest.approx((120 + 127 * 2) / (20 + 127 * step))


def test_no_policy_beats_its_ceiling() -> None:
    made = record(DENSE, {"vision": 20.0, "prefill": 0.0, "first_decode": 2.0, "decode": 36.0})
    found, limit = gap.decompose(made), gap.ceiling(made)
    assert found is not None and limit is not None
    assert found.speedup <= limit + 1e-9


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"prefill": 30.0}, gap.OutputRange(1, None, None)),
        ({"prefill": 30.0, "decode": 54.0}, gap.OutputRange(1, 71, 58)),  # 3 ms a step instead of 2
        ({"prefill": 99.0}, gap.OutputRange(1, None, 0)),
        ({"prefill": 110.0, "decode": 18.0}, gap.OutputRange(12, None, 0)),
        ({"prefill": 110.0}, gap.OutputRange(0, 0, 0, wins=False)),
    ],
)
def test_output_lengths_at_which_a_policy_wins(policy: Stages, expected: gap.OutputRange) -> None:
    found = gap.winning_outputs(record(DENSE, {**DENSE, **policy}))
    if expected.notable is None:
        assert found is not None and found.last is None
        at_5_percent = (120 - 1.05 * 50) / (1.05 * 2 - 2)
        assert found.notable == 1 + int(at_5_percent)
    else:
        assert found is not None and (found.first, found.last, found.wins) == (
            expected.first,
            expected.last,
            expected.wins,
        )


def test_fewest_visual_tokens_is_where_selection_eats_the_saving() -> None:
    """Prefill costs 100 ms for 640 tokens and 30 ms for 190; selection costs 7 ms whatever the prompt."""
    text = 40
    measured = {**DENSE, "prefill": 100 * (150 + text) / (600 + text), "select": 7.0}
    found = gap.fewest_visual_tokens(record(DENSE, measured))
    saved_per_token = 100 / (600 + text) * (1 - 150 / 600)
    assert found == int(7.0 / saved_per_token) + 1


def test_never_worth_it() -> None:
    assert gap.fewest_visual_tokens(record(DENSE, {**DENSE, "prefill": 110.0})) is None


def test_paragraph_says_what_the_numbers_say() -> None:
    text = explain.paragraph(record(DENSE, {**DENSE, "prefill": 100 * 191 / 791 + 5, "select": 5.0}))
    assert "2.50× fewer FLOPs" in text
    assert "would take 63.2 ms" in text
    assert "22.8 ms go to decoding" in text and "12.0 ms go to the vision tower" in text
    assert "At 20 new tokens no prefill pruner can beat 2.72× here" in text
    assert explain.sentence(record(DENSE, {**DENSE, "prefill": 30.0})).count("\n") == 0


def test_paragraph_of_a_policy_that_loses() -> None:
    text = explain.paragraph(record(DENSE, {**DENSE, "prefill": 110.0}))
    assert "slower" in text and "does not win at any output length" in text


def test_a_record_without_flops_says_so() -> None:
    empty = record(DENSE, DENSE)
    empty = empty.model_copy(update={"policy": empty.policy.model_copy(update={"flops": {}})})
    assert "holds no times or no FLOPs" in explain.paragraph(empty)
    assert explain.sentence(empty) == ""


def test_signs_and_plurals() -> None:
    assert [units.signed(value, units.share) for value in (-0.174, 0.174, -1e-9)] == ["−17.4 %", "+17.4 %", "0.0 %"]
    assert [units.counted(number, "thread") for number in (0, 1, 1200)] == ["0 threads", "1 thread", "1,200 threads"]


def test_table_has_one_minus_sign() -> None:
    console = Console(width=100, record=True, file=StringIO())
    found = gap.decompose(record(DENSE, {**DENSE, "prefill": 20.0}))
    assert found is not None
    console.print(explain.table(found))
    row = next(line for line in console.export_text().splitlines() if line.startswith("prefill "))
    assert row.split()[1].startswith("−") and row.split()[3].startswith("−") and "-" not in row


def test_table_sums_to_the_gap_in_print() -> None:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(explain.render([record(DENSE, {**DENSE, "prefill": 30.0, "select": 1.0})]))
    shown = console.export_text()
    assert "remainder" in shown and "sum" in shown
    assert max(len(line) for line in shown.splitlines()) <= 100


def test_roofline_bounds_from_measured_ceilings() -> None:
    ceilings = Ceilings(source="measured", flops_per_s=1e6, bytes_per_s=1e3, dtype="bfloat16")
    made = record(DENSE, DENSE)
    made = made.model_copy(
        update={
            "environment": made.environment.model_copy(update={"ceilings": ceilings}),
            "baseline": made.baseline.model_copy(
                update={"bytes_moved": {"prefill": 2, "first_decode": 1, "decode": 4}}
            ),
        }
    )
    stages = {stage.stage: stage for stage in roofline_table.stages(made, made.baseline)}
    prefill, decode = stages["prefill"], stages["decode"]
    assert prefill.flops_per_s == pytest.approx(791 / 0.1)
    assert prefill.of_peak == pytest.approx(7.91e-3)
    assert (prefill.bound_by, prefill.bound_ms) == ("memory", pytest.approx(2.0))
    assert (decode.bytes, decode.bound_ms) == (5, pytest.approx(5.0))
    assert decode.intensity == pytest.approx((90 + 19) / 5)
    assert stages["vision"].bound_by == "compute"


def test_datasheets_are_marked_and_only_for_16_bits() -> None:
    made = record(DENSE, DENSE, device="NVIDIA A100-SXM4-80GB")
    found = roofline_table.limits(made)
    assert found is not None and found.source.startswith("datasheet: A100-SXM4-80GB")
    fp32 = made.model_copy(update={"model": made.model.model_copy(update={"dtype": "float32"})})
    assert roofline_table.limits(fp32) is None
