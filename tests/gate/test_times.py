"""Tier 2: four answers, each earned; and the noise that a machine has of its own."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.gate.made import BASE, answers, said, with_arm
from tests.records import make_environment, make_record
from tokprof.errors import RecordError
from tokprof.gate.calibration import IN_TURNS, calibrated, read_calibration, write_calibration
from tokprof.gate.checking import calibrate
from tokprof.gate.times import threshold_of
from tokprof.gate.verdicts import verdict
from tokprof.measure.verdict import judge, judge_in_turns
from tokprof.record import RunRecord, StageSamples


def test_the_same_time_passes() -> None:
    assert verdict([BASE], [make_record(seed=7, rounds=40)], tier=2).answer == "pass"


def test_five_percent_in_the_request_is_found() -> None:
    outcome = verdict([BASE], [make_record(policy_ms=52.5, seed=7, rounds=30)], tier=2)
    found = answers(outcome)
    assert found["request"] == found["request ÷ dense"] == found["prefill"] == "regressed"
    assert found["dense request"] == "pass"
    assert "p " in said(outcome, "request").detail and "threshold 3.0%" in said(outcome, "request").detail


def test_what_slows_the_unpruned_model_as_well_is_told_from_the_policy_only_in_one_job() -> None:
    slower = make_record(dense_ms=105, policy_ms=52.5, seed=7, rounds=30)
    apart = verdict([BASE], [slower], tier=2)
    assert answers(apart)["request ÷ dense"] == "pass" and apart.answer == "ambiguous"
    assert "the unpruned model may be slower as well" in said(apart, "request").detail
    together = verdict([BASE], [slower], tier=2, measured="in one job")
    assert answers(together)["request"] == answers(together)["dense request"] == "regressed"


def test_a_machine_that_became_noisy_is_not_the_policy_s_fault() -> None:
    """Dense is slower or not, nobody can say; what is beside it is slower, and its ratio to dense open."""
    noisy = make_record(dense_ms=106, policy_ms=53, noise=0.02, seed=7)
    rough = noisy.model_copy(update={"baseline": make_record(dense_ms=103, noise=0.2, seed=8).baseline})
    found = answers(verdict([BASE], [rough], tier=2))
    assert found["dense request"] == found["request ÷ dense"] == found["request"] == "ambiguous"
    assert answers(verdict([BASE], [rough], tier=2, measured="in one job"))["request"] == "regressed"


def test_a_machine_that_became_faster_does_not_hide_a_slowdown() -> None:
    """Everything 4 % faster but prefill, which is as fast as it was: slower by 4 %."""
    stages = {"vision": 9.8, "project": 0.98, "select": 1.0, "prefill": 24.5, "first_decode": 1.47, "decode": 12.25}
    quicker = {stage: 0.96 * ms for stage, ms in stages.items()}
    before = make_record(policy_stages=stages, noise=0.002, seed=1)
    same = make_record(dense_ms=96, policy_stages=quicker, noise=0.002, seed=2)
    hidden = make_record(dense_ms=96, policy_stages=quicker | {"prefill": 24.5}, noise=0.002, seed=3)
    assert verdict([before], [same], tier=2).answer == "pass"
    found = verdict([before], [hidden], tier=2)
    assert found.answer == "ambiguous" and "faster than it was" in said(found, "prefill").detail


def test_a_calibration_does_not_know_what_changes_overnight() -> None:
    """Eight runs in a minute that agree to a thousandth lower the threshold in turns, not one after the other."""
    runs, beside = ([[make_record(noise=0.0005, seed=seed + side)] for seed in range(8)] for side in (0, 100))
    known = calibrated(runs, beside)
    slower = make_record(policy_ms=50.7, noise=0.003, rounds=40, seed=9)
    for how, threshold in (("apart", "3.0%"), ("in one job", "3.0%"), ("in turns", "1.0%")):
        found = said(verdict([BASE], [slower], 2, known, how), "request")  # type: ignore[arg-type]
        assert f"threshold {threshold}" in found.detail and (found.answer == "pass") == (threshold == "3.0%")


def test_a_side_that_is_always_slower_does_not_make_a_threshold_too_low() -> None:
    runs, beside = ([[make_record(policy_ms=ms, noise=0.0005, seed=seed)] for seed in range(8)] for ms in (50.0, 51.0))
    ((metrics,),) = (cells.values() for cells in calibrated(runs, beside).values())
    assert threshold_of(metrics["request" + IN_TURNS], "in turns") == pytest.approx(0.06, rel=0.05)


def test_rounds_that_lie_close_by_luck_do_not_pass() -> None:
    wide = [10.0 + 0.2 * place for place in range(20)]
    close = [11.0, *[11.4 + 0.001 * place for place in range(18)], 15.0]
    judged = judge(wide, close, threshold=0.03)
    assert judged.scatter > 0.02 and not judged.rules_out_slowdown


def test_a_stage_that_got_slower_is_found_although_the_request_hides_it() -> None:
    stages = {"vision": 9.8, "project": 0.98, "select": 1.0, "prefill": 24.5, "first_decode": 1.47, "decode": 12.25}
    slower = {**stages, "vision": 9.8 * 1.08}
    outcome = verdict([make_record(policy_stages=stages, seed=1)], [make_record(policy_stages=slower, seed=9)], tier=2)
    assert answers(outcome)["vision"] == "regressed"
    assert "select" not in answers(outcome), "2 % of the request is judged with the request"


def test_a_faster_one_passes() -> None:
    assert verdict([BASE], [make_record(policy_ms=40, dense_ms=90, seed=7)], tier=2).answer == "pass"


def test_noise_that_hides_a_slowdown_is_ambiguous_not_pass() -> None:
    noisy = make_record(noise=0.15, seed=1), make_record(noise=0.15, policy_ms=52.5, seed=9)
    outcome = verdict([noisy[0]], [noisy[1]], tier=2)
    assert outcome.answer == "ambiguous" and outcome.exit_code == 3


def test_drift_makes_times_ambiguous() -> None:
    drifted = make_record(policy_ms=60, seed=7, baseline_again_ms=[110.0, 110.5, 111.0, 110.2, 110.7])
    outcome = verdict([BASE], [drifted], tier=2)
    assert answers(outcome)["request"] == "ambiguous"
    assert "drifted" in said(outcome, "request").detail


def test_other_clocks_make_times_ambiguous() -> None:
    def at(record: RunRecord, mhz: float) -> RunRecord:
        state = {"sm_clock_mhz": (mhz,) * 40}
        return record.model_copy(update={"environment": make_environment(rounds_state=state)})

    slowed = verdict([at(BASE, 1980)], [at(make_record(policy_ms=65, seed=7), 1400)], tier=2)
    assert answers(slowed)["request"] == "ambiguous" and "1400 MHz" in said(slowed, "request").detail
    assert verdict([at(BASE, 1980)], [at(make_record(seed=7, rounds=40), 1965)], tier=2).answer == "pass"


def test_in_turns_what_befell_both_cancels() -> None:
    """A machine whose speed wanders by a third: hopeless for times measured apart, clear between neighbours."""
    wander = [1 + 0.3 * math.sin(place / 3) for place in range(30)]

    def record(policy_ms: float, seed: int) -> RunRecord:
        made = make_record(policy_ms=policy_ms, rounds=30, seed=seed, baseline_again_ms=[130.0, 131.0, 129.0, 130.5])
        stages = {
            name: StageSamples(
                elapsed_ms=tuple(ms * mood for ms, mood in zip(stage.elapsed_ms, wander, strict=True)),
                submit_ms=stage.submit_ms,
            )
            for name, stage in made.policy.samples.stages.items()
        }
        return with_arm(made, samples=made.policy.samples.model_copy(update={"stages": stages}))

    before, same, slow = record(50.0, 1), record(50.0, 2), record(52.5, 3)
    for after, answer in ((same, "pass"), (slow, "regressed")):
        assert answers(verdict([before], [after], tier=2, measured="in turns"))["request"] == answer
        assert answers(verdict([before], [after], tier=2, measured="in one job"))["request"] == "ambiguous"


@pytest.mark.parametrize("noise,found", [(0.01, 100), (0.02, 90)])
def test_in_turns_five_percent_is_found_and_chance_is_not(noise: float, found: int) -> None:
    def judged(slower: float) -> list[str]:
        times = [
            [make_record(noise=noise, policy_ms=ms, seed=2 * i + side).policy.samples.total_ms() for side, ms in pair]
            for i in range(100)
            for pair in (((0, 50.0), (1, 50.0 * slower)),)
        ]
        return [judge_in_turns(before, after, threshold=0.02).change for before, after in times]

    assert judged(1.05).count("slower") >= found and judged(1.0).count("slower") == 0
    assert judged(1 / 1.05).count("faster") >= found


def test_in_turns_a_few_interrupted_rounds_change_nothing_and_few_pairs_show_nothing() -> None:
    before, after = [10.0, 10.1] * 10, [10.6, 10.5] * 10
    assert judge_in_turns(before, [*after[:-2], 31.0, 9.0], threshold=0.02).change == "slower"
    assert judge_in_turns(before[:9], after[:9], threshold=0.02).change == "ambiguous"
    wide, close = [10.0] * 20, [9.0, *[10.3 + 0.02 * place for place in range(18)], 12.0]
    assert judge_in_turns(wide, close, threshold=0.03).scatter > 0
    assert judge_in_turns(before, [], threshold=0.02).change == "ambiguous"


def test_few_rounds_decide_nothing() -> None:
    outcome = verdict([make_record(rounds=3)], [make_record(rounds=3, policy_ms=80, seed=5)], tier=2)
    assert answers(outcome)["request"] == "ambiguous" and "only 3 rounds" in said(outcome, "request").detail
    nine = make_record(rounds=9), make_record(rounds=9, policy_ms=80, seed=5)
    assert answers(verdict([nine[0]], [nine[1]], tier=2))["request"] == "regressed"
    found = said(verdict([nine[0]], [nine[1]], tier=2, measured="in turns"), "request")
    assert found.answer == "ambiguous" and found.detail == "only 9 rounds; at least 10 are needed"


def test_times_of_another_machine_are_incomparable() -> None:
    outcome = verdict([BASE], [make_record(environment=make_environment("NVIDIA A100 (made up)"))], tier=2)
    assert outcome.exit_code == 3 and answers(outcome)["times"] == "incomparable"
    assert answers(outcome)["tokens per layer"] == "pass"


def test_samples_of_zero_are_ambiguous() -> None:
    outcome = verdict([BASE], [make_record(policy_ms=0.0, noise=0.0)], tier=2)
    assert answers(outcome)["request"] == "ambiguous"


def test_calibration_raises_the_threshold(tmp_path: Path) -> None:
    runs = [[make_record(policy_ms=50 * factor, seed=i)] for i, factor in enumerate((1.0, 1.03, 0.97, 1.02, 0.98))]
    noise = calibrated(runs)
    path = tmp_path / "noise.json"
    write_calibration(path, {"another device": {}})
    write_calibration(path, noise)
    known = read_calibration(path)
    assert known == {"another device": {}, **noise}
    slower = make_record(policy_ms=53, seed=9, rounds=30)
    assert answers(verdict([BASE], [slower], tier=2))["request"] == "regressed"
    assert answers(verdict([BASE], [slower], tier=2, calibration=known))["request"] != "regressed"


@pytest.mark.parametrize("slower", [1.05, 1.0, 0.97])
def test_a_machine_that_may_hide_a_slowdown_never_passes(slower: float) -> None:
    """Runs of the same code 10 % apart: whatever is seen, 5 % may be behind it."""
    runs = [[make_record(policy_ms=50 * factor, seed=i)] for i, factor in enumerate((1.0, 1.1, 0.9, 1.08, 0.95))]
    quiet_head = make_record(policy_ms=50 * slower, noise=0.002, seed=9)
    outcome = verdict([make_record(noise=0.002, seed=1)], [quiet_head], tier=2, calibration=calibrated(runs))
    assert answers(outcome)["request"] == "ambiguous"
    assert answers(verdict([BASE], [make_record(policy_ms=20, seed=9)], 2, calibrated(runs)))["request"] == "pass"


def test_rounds_that_may_hide_a_slowdown_do_not_pass_by_luck() -> None:
    """5 % slower at a noise of 6 %: of hundreds of looks none says pass, although the medians are often close."""
    judged = [
        judge(make_record(noise=0.06, seed=2 * i).policy.samples.total_ms(), later, threshold=0.02)
        for i in range(300)
        for later in (make_record(noise=0.06, policy_ms=52.5, seed=2 * i + 1).policy.samples.total_ms(),)
    ]
    assert sum(found.slowdown is not None and found.slowdown.ratio < 1.02 for found in judged) > 20
    assert sum(found.rules_out_slowdown for found in judged) <= 1


def test_calibrating_measures_several_times() -> None:
    seeds = iter(range(100))

    def alone(cells: object, place: object) -> list[RunRecord]:
        return [make_record(seed=next(seeds))]

    found = calibrate([BASE.cell], lambda said: None, 4, alone, lambda *_: None)
    (metrics,) = found[BASE.environment.device.name].values()
    assert 0 < metrics["request"] < 0.02 and next(seeds) == 4
    assert not any(metric.endswith(IN_TURNS) for metric in metrics)


def test_calibrating_in_turns_tells_what_both_sides_share() -> None:
    """Runs 10 % apart, whose partners are as slow as they are."""
    moods = iter((1.0, 1.1, 0.9, 1.08, 0.95))

    def beside(*_: object) -> tuple[list[RunRecord], list[RunRecord]]:
        mood = next(moods)
        one, two = (make_record(policy_ms=50 * mood, dense_ms=100 * mood, seed=seed) for seed in (1, 2))
        return [one], [two]

    found = calibrate([BASE.cell], lambda said: None, 5, turns=beside)
    (metrics,) = found[BASE.environment.device.name].values()
    assert metrics["request"] > 0.05 and metrics["request" + IN_TURNS] < 0.01


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"kind": "tokprof.calibration"}', '{"kind": "tokprof.calibration", "devices": {"a": 3}}']
    + [
        json.dumps({"kind": "tokprof.calibration", "devices": {"a": {"b": {"request": bad}}}})
        for bad in (-1, True, "x", float("nan"), float("inf"))
    ],
)
def test_a_damaged_calibration_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "noise.json").write_text(text)
    with pytest.raises(RecordError, match=r"noise\.json"):
        read_calibration(tmp_path / "noise.json")


def test_one_interrupted_run_does_not_blind_the_gate() -> None:
    quiet = [[make_record(seed=seed)] for seed in range(7)]
    (known,) = next(iter(calibrated([*quiet, [make_record(policy_ms=80.0, dense_ms=160.0, seed=7)]]).values())).values()
    assert known["request"] < 0.02 and known["dense request"] < 0.02
