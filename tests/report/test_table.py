from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.records import make_arm, make_environment, make_record, make_samples
from tests.report.golden import same_as_golden
from tokprof.recipe import Measurement
from tokprof.record import Accuracy, Activity, Energy, RunRecord
from tokprof.report import derived
from tokprof.report.columns import COLUMNS
from tokprof.report.columns import column as column_of
from tokprof.report.table import about_machine, render


def three() -> list[RunRecord]:
    asked = Accuracy(source="measured", task="demo questions", questions=40, correct=31)
    schedule = {"tau": 0.03, "layers": (16, 20, 24, 28)}
    return [
        make_record("todre", keep=0.1, policy_ms=40, parameters=schedule, warnings=["the GPU is shared: stop others"]),
        make_record("fastv", accuracy=asked),
        make_record("random", policy_ms=99.8, warnings=["weights are random: fidelity means nothing"]),
    ]


def printed(records: list[RunRecord], width: int, **options: object) -> str:
    console = Console(file=io.StringIO(), width=width, **options)  # type: ignore[arg-type]
    console.print(render(records, width=width))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("width", [80, 160])
def test_table_reads_as_it_was_looked_at(width: int) -> None:
    same_as_golden(f"table_{width}.txt", printed(three(), width))


@pytest.mark.parametrize("width", [48, 80, 100, 160, 240])
def test_every_figure_is_there_at_every_width_and_nothing_is_cut(width: int) -> None:
    text = printed(three(), width)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= width
    for row in derived.sides(three()):
        for column in COLUMNS:
            assert column.cell(row) in text, column.key


def test_no_escape_codes_in_a_pipe_and_no_colour_where_it_is_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" not in printed(three(), 80)
    coloured = printed(three(), 80, force_terminal=True, color_system="standard")
    plain = printed(three(), 80, force_terminal=True, color_system="standard", no_color=True)
    assert "\x1b[33m" in coloured and "\x1b[33m" not in plain


def test_markup_in_names_is_printed_not_obeyed() -> None:
    record = make_record("fastv", model="[red]./my[/red]<script>", warnings=["[bold]look"])
    text = printed([record], 160, force_terminal=True)
    assert "[red]./my[/red]<script>" in text and "[bold]look" in text


def test_an_interval_with_one_in_it_is_no_speed_up() -> None:
    same, faster = make_record(policy_ms=100.2, noise=0.02), make_record(policy_ms=50)
    assert derived.interval_text(derived.speedup(same)).startswith("≈ 1 [")  # type: ignore[arg-type]
    assert derived.interval_text(derived.speedup(faster)).startswith("2.0")  # type: ignore[arg-type]


def test_rows_of_one_method_are_told_apart_by_what_differs() -> None:
    records = [make_record("fastv", keep=0.25), make_record("fastv", keep=0.1), make_record("vtw", keep=0.5)]
    assert derived.short_labels(derived.sides(records)) == ["dense", "fastv keep=0.25", "fastv keep=0.1", "vtw"]


def test_different_inputs_never_share_a_table() -> None:
    one, other = make_record("fastv"), make_record("vtw", visual=576)
    text = printed([one, other, make_record("todre")], 160)
    assert text.count("sdpa attention") == 2
    assert [len(group) for group in derived.by_subject([one, other, make_record("todre")])] == [2, 1]


def test_derived_figures_follow_from_the_samples() -> None:
    record = make_record("fastv", dense_ms=100, policy_ms=50, noise=0.0)
    dense, policy = record.baseline, record.policy
    assert derived.total_ms(dense) == pytest.approx(100)
    assert derived.first_token_ms(dense) == pytest.approx(72)
    assert derived.step_ms(record, dense) == pytest.approx(25 / 18)
    assert derived.request_ms_at(record, dense, 1) == pytest.approx(72)
    assert derived.request_ms_at(record, dense, 101) == pytest.approx(72 + 100 * 25 / 18)
    assert derived.requests_per_s(record, policy) == pytest.approx(20)
    mean = policy.tokens.layer_mean
    assert derived.tokens_per_s(record, policy, "original") == pytest.approx(20 * (2880 + 40 + 20))
    assert derived.tokens_per_s(record, policy, "processed") == pytest.approx(20 * (mean + 40 + 20))
    assert derived.flops(policy, "hidivdrop") == policy.flops["hidivdrop"]["prefill"]


def test_what_was_not_measured_is_a_dash_never_a_zero() -> None:
    record = make_record("fastv")
    bare = make_arm("fastv", [9], original=9, samples=make_samples(stages={"prefill": 1.0}))
    bare = bare.model_copy(update={"memory": None, "activity": None, "flops": {}})
    row = derived.Side(record.model_copy(update={"policy": bare}), bare, False)
    cells = {column.key: column.cell(row) for column in COLUMNS}
    for key in ("flops", "flops_ratio", "vision_ms", "per_token_ms", "peak_bytes", "kv_bytes", "top1", "accuracy"):
        assert cells[key] == "–", key
    assert (cells["select_flops"], cells["syncs"]) == ("–", "–")


def test_the_overhead_of_deciding_is_shown() -> None:
    record = make_record("dycoke")
    waits = Activity(kernel_launches={}, host_syncs={"select": 2, "prefill": 0, "decode": 3})
    policy = record.policy.model_copy(update={"activity": waits})
    dense, row = derived.sides([record.model_copy(update={"policy": policy})])
    shown = {key: (column_of(key).value(dense), column_of(key).value(row)) for key in ("select_flops", "syncs")}
    assert shown == {"select_flops": (None, policy.flops["exact"]["selection"]), "syncs": (0, 5)}
    for width in (80, 160):
        text = printed([row.record], width)
        assert "select FLOPs" in text and "3.00 GFLOP" in text and "syncs" in text


def test_energy_is_shown_per_request_and_per_token_or_said_not_to_be_supported() -> None:
    asked = make_record(measurement=Measurement(energy=True))  # type: ignore[call-arg]
    assert "energy: not supported here" in printed([asked], 200) and "J/request" not in printed([asked], 200)
    assert "energy" not in printed([make_record()], 200)
    used = Energy(window_s=5.1, joules=900.0, requests=30, tokens=600, idle_watts=75.0)
    shown = printed([asked.model_copy(update={"policy": asked.policy.model_copy(update={"energy": used})})], 200)
    assert "J/request" in shown and "J/token" in shown and "not supported" not in shown
    assert "energy: over 5.1 s of requests or more, the device idle at 75 W" in shown
    assert column_of("joules_per_request").value(derived.Side(asked, asked.policy, False)) is None
    measured = asked.policy.model_copy(update={"energy": used})
    assert column_of("joules_per_request").value(derived.Side(asked, measured, False)) == 30.0
    assert column_of("joules_per_token").value(derived.Side(asked, measured, False)) == 1.5


def test_a_processor_is_said_to_be_one() -> None:
    assert about_machine(make_record(environment=make_environment("CPU x"))).startswith("CPU x")
    environment = make_environment("CPU x")
    epyc = environment.model_copy(update={"device": environment.device.model_copy(update={"name": "AMD EPYC"})})
    assert about_machine(make_record(environment=epyc)).startswith("CPU: AMD EPYC")


def test_the_dense_row_is_the_middle_one_and_a_moody_machine_is_said() -> None:
    def beside(*dense_ms: float) -> list[RunRecord]:
        return [make_record(keep=0.1 * place, dense_ms=ms, noise=0.0) for place, ms in enumerate(dense_ms, 1)]

    moody = beside(130.0, 100.0, 110.0)
    assert derived.sides(moody)[0].record is moody[2]
    assert "the dense request took from 100 ms to 130 ms" in " ".join(printed(moody, 160).split())
    assert "changed its speed" not in printed(beside(100.0, 104.0), 160)
