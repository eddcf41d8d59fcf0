from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.records import make_record
from tokprof import units
from tokprof.cli import build_app
from tokprof.errors import TokprofError
from tokprof.profiler import profile
from tokprof.recipe import Measurement, Method, Recipe, Setting, Workload
from tokprof.record import write_records
from tokprof.report import explain, gap

NEXT = ["flops", "--model", "llava-next-7b"]


def answer(*arguments: str, width: int = 100) -> str:
    result = CliRunner(env={"COLUMNS": str(width), "NO_COLOR": "1"}).invoke(build_app(), arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def data(*arguments: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(answer(*arguments, "--json"))
    return found


def test_neither_torch_nor_transformers_is_loaded() -> None:
    code = (
        "import sys, atexit\n"
        "sys.argv = 'tokprof flops --model llava-next-7b --method todre --keep 0.1'.split()\n"
        "atexit.register(lambda: print('LOADED', *sys.modules))\n"
        "from tokprof.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = result.stdout.rsplit("LOADED", 1)[1].split()
    assert not {"torch", "transformers", "numpy"} & set(loaded)


def test_the_papers_constant_2880_tokens() -> None:
    found = data(*NEXT, "--visual", "2880", "--text", "0", "--new-tokens", "1")
    flops = found["methods"][0]["flops"]  # type: ignore[index]
    assert flops["todre"]["parts"]["prefill"] / 1e12 == pytest.approx(16.67, abs=0.005)
    assert flops["todre"]["unit"] == "MAC" and flops["exact"]["unit"] == "FLOP"
    assert flops["exact"]["parts"]["prefill"] / 1e12 == pytest.approx(41.65, abs=0.005)


def test_several_methods_and_budgets_at_once() -> None:
    found = data(*NEXT, "--method", "fastv,random", "--keep", "0.1,0.25", "--image-size", "640x480")
    assert found["visual"] == 2340
    assert [row["method"] for row in found["methods"]] == ["dense", "fastv", "fastv", "random", "random"]  # type: ignore[union-attr, attr-defined]
    assert [row["parameters"].get("keep") for row in found["methods"][1:]] == [0.1, 0.25, 0.1, 0.25]  # type: ignore[index]


def test_tables_name_parts_conventions_and_units() -> None:
    shown = answer(*NEXT, "--method", "fastv", "--keep", "0.1")
    for word in ("todre:", "hidivdrop:", "exact:", "vision", "projector", "selection", "prefill", "decode", "head"):
        assert word in shown
    assert "TMAC" in shown and "TFLOP" in shown and "KV cache" in shown
    assert max(len(line) for line in shown.splitlines()) <= 100


def test_compare_gives_one_line_per_method() -> None:
    arguments = (*NEXT, "--method", "fastv,v2drop", "--keep", "0.25", "--compare")
    lines = answer(*arguments, width=160).splitlines()
    assert sum(line.startswith(("fastv", "v2drop", "dense")) for line in lines) == 3
    narrow = answer(*arguments, width=80)
    assert max(len(line) for line in narrow.splitlines()) <= 80
    cells = {cell for line in lines if line.startswith(("fastv", "v2drop")) for cell in line.split()}
    assert cells <= set(narrow.split()), "80 columns show the same figures as 160"


def test_per_layer_shows_the_tokens_each_layer_sees() -> None:
    shown = answer(
        *NEXT, "--method", "fastv", "--keep", "0.1", "--visual", "2880", "--per-layer", "--convention", "exact"
    )
    assert "0–1 " in shown and "2–31" in shown and "2,880" in shown and "288" in shown


def test_one_is_not_a_plural() -> None:
    shown = answer("flops", "--model", "llava-1.5-7b", "--new-tokens", "2", "--explain")
    assert "1 tower pass)" in shown and "(1 step over" in shown
    assert "5 tower passes)" in answer(*NEXT, "--visual", "2880", "--explain")


def test_explain_puts_the_numbers_in() -> None:
    shown = answer(*NEXT, "--visual", "2880", "--text", "0", "--explain", "--convention", "todre")
    assert "32 · (4·2880·4096² + 2·2880²·4096 + 2·2880·4096·11008)" in shown


@pytest.mark.parametrize("method", ["dense", "fastv", "hidivdrop", "voco_llama", "twigvlm"])
@pytest.mark.parametrize("convention", ["todre", "hidivdrop", "exact"])
def test_the_printed_formula_gives_the_printed_number(method: str, convention: str) -> None:
    keep = () if method == "dense" else ("--keep", "0.25")
    arguments = ("flops", "--model", "llava-1.5-7b", "--method", method, *keep, "--convention", convention)
    shown = answer(*arguments, "--explain", width=200).split(f"{method}", 1)[-1].rsplit(", by ", 1)[-1]
    terms = [line.split(": ", 1)[1] for line in shown.splitlines() if line.strip().startswith("prefill, layers")]
    python = [term.replace("·", "*").replace("²", "**2").replace(",", "") for term in terms]
    row = data(*arguments)["methods"][-1]  # type: ignore[index]
    assert sum(eval(term) for term in python) == row["flops"][convention]["parts"]["prefill"]


def test_ranges_where_data_decide() -> None:
    arguments = (*NEXT, "--method", "todre", "--keep", "0.1")
    shown = answer(*arguments, "--convention", "exact", width=200)
    row = data(*arguments)["methods"][1]["flops"]["exact"]  # type: ignore[index]
    low, high = units.number(row["total_least"] / 1e12), units.number(row["total"] / 1e12)
    assert f"{low} … {high}" in shown
    assert f"{units.number(row['total_least'] / 2e12)} … {units.number(row['total'] / 2e12)}" in shown
    fixed = (*arguments, "--set", "exit_layer=16")
    assert " … " not in answer(*fixed)
    assert data(*fixed)["methods"][1]["flops"]["exact"]["total_least"] is None  # type: ignore[index]


def test_explain_and_compare_say_in_place_that_data_decide() -> None:
    arguments = (*NEXT, "--method", "todre,fastv", "--keep", "0.1")
    explained = answer(*arguments, "--explain", "--per-layer", "--convention", "exact", width=200)
    row = data(*arguments)["methods"][1]["flops"]["exact"]  # type: ignore[index]
    low, high = units.operations(row["total_least"]), units.operations(row["total"])
    assert f"total: at most {high}, at least {low}" in explained
    assert explained.count("todre keep=0.1 at most, ") == 2 and "fastv keep=0.1 at most" not in explained
    lines = {line.split(" ")[0]: line for line in answer(*arguments, "--compare", width=200).splitlines() if line}
    assert f"{low} … {high}" in lines["todre"]
    assert lines["todre"].count("× … ") == 5 and " … " not in lines["fastv"]


def test_layer_mean_tokens_solve_keep() -> None:
    found = data("flops", "--model", "llava-1.5-7b", "--method", "fastv", "--tokens", "192")
    assert found["methods"][1]["layer_mean"] == pytest.approx(192, rel=0.01)  # type: ignore[index]


def test_smaller_pictures_are_counted_smaller() -> None:
    found = data(*NEXT, "--method", "downsample", "--keep", "0.2", "--image-size", "672x672")
    dense, small = (row["flops"]["exact"]["parts"]["vision"] for row in found["methods"])  # type: ignore[union-attr, attr-defined]
    assert small < dense


def test_what_is_shrunk_to_a_single_tile_was_asked_for() -> None:
    found = data("flops", "--model", "llava-onevision-0.5b", "--method", "downsample", "--keep", "0.25")
    assert found["methods"][1]["layer_mean"] == 27**2 + 21 * 28  # type: ignore[index]  # thumbnail, one tile, newlines


def test_published_figures_and_their_verdicts() -> None:
    shown = answer("flops", "--published")
    assert "not reproducible: " in shown and "reproduced to the printed digits" in shown
    assert len(json.loads(answer("flops", "--published", "--json"))) == 16


def test_count_shows_no_residual_for_the_demo_model() -> None:
    found = data("flops", "--model", "demo", "--method", "fastv,todre", "--keep", "0.5", "--new-tokens", "2", "--count")
    dense, fastv, todre = found["counted"]  # type: ignore[misc]
    for row in (dense, fastv):
        assert all(abs(value) <= 0.001 for value in row["residual"].values())
    assert todre["counted"] is None and todre["least"] < todre["most"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which model"),
        (["--model", "llava-next-8b"], "no model 'llava-next-8b'"),
        (["--model", "demo", "--method", "fastvv"], "no method 'fastvv'"),
        (["--model", "demo", "--method", "fastv", "--keep", "0"], "keep=0"),
        (["--model", "demo", "--method", "fastv", "--keep", "1.5"], "keep=1.5"),
        (["--model", "demo", "--method", "fastv", "--keep", "much"], "'much' is not a number"),
        (["--model", "demo", "--method", "fastv", "--keep", "0.5", "--tokens", "9"], "both say how much"),
        (["--model", "demo", "--method", "fastv", "--tokens", "0"], "--tokens 0"),
        (["--model", "demo", "--method", "fastv", "--tokens", "99999"], "cannot reach 99999"),
        (["--model", "demo", "--keep", "0.5"], "which method"),
        (["--model", "demo", "--method", "fastv", "--set", "nonsense=1"], "no parameter 'nonsense'"),
        (["--model", "demo", "--visual", "0"], "--visual 0"),
        (["--model", "demo", "--visual", "-5"], "--visual -5"),
        (["--model", "demo", "--text", "-1"], "--text -1"),
        (["--model", "demo", "--batch", "0"], "--batch 0"),
        (["--model", "demo", "--new-tokens", "0"], "--new-tokens 0"),
        (["--model", "llava-next-7b", "--visual", "100000000000"], "--visual 100000000000"),
        (["--model", "qwen2-vl-7b", "--visual", str(10**15)], "--visual 1000000000000000"),
        (["--model", "qwen2-vl-7b", "--frames", "1000000000"], "--frames 1000000000"),
        *((["--model", "demo", flag, str(10**30)], flag) for flag in ("--visual", "--text", "--batch", "--new-tokens")),
        (["--model", "demo", "--image-size", "0x480"], "not a size in pixels"),
        (["--model", "demo", "--image-size", "640"], "not a size in pixels"),
        (["--model", "demo", "--image-size", "640x480", "--visual", "99"], "--visual and --image-size"),
        (["--model", "demo", "--frames", "4"], "takes no videos"),
        (["--model", "demo", "--convention", "exakt"], "no FLOPs convention 'exakt'"),
        (["--model", "demo", "--causal", "both"], "--causal 'both'"),
        (["--model", "demo", "--head", "none"], "--head 'none'"),
        (["--model", "demo", "--fvcore"], "second opinion"),
        (["--model", "demo", "--count", "--head", "all"], "last position only"),
        (["--model", "qwen2-vl-7b", "--image-size", "20000x20"], "too narrow"),
        (["--model", "qwen2-vl-7b", "--method", "fastervlm", "--keep", "0.5"], "does not offer"),
    ],
)
def test_mistakes_get_one_line_and_a_way_out(arguments: list[str], message: str) -> None:
    with pytest.raises(TokprofError) as caught:
        answer("flops", *arguments)
    assert message in caught.value.message
    assert caught.value.hint


def test_explain_reads_records(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    write_records(path, [make_record("fastv"), make_record("todre", keep=0.1)])
    shown = answer("explain", str(path))
    assert "fastv keep=0.25 needs" in shown and "todre keep=0.1 needs" in shown
    assert "datasheet: H200" in shown
    assert "todre" not in answer("explain", str(path), "--method", "fastv")


@pytest.mark.parametrize("content", ["", "{}", '{"kind": "tokprof.records", "schema_version": 99}'])
def test_explain_refuses_what_it_cannot_read(tmp_path: Path, content: str) -> None:
    path = tmp_path / "records.json"
    path.write_text(content)
    with pytest.raises(TokprofError):
        answer("explain", str(path))
    with pytest.raises(TokprofError, match="no file"):
        answer("explain", str(tmp_path / "absent.json"))


def test_explain_without_a_policy_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    write_records(path, [make_record("fastv")])
    with pytest.raises(TokprofError, match="no record of vtw"):
        answer("explain", str(path), "--method", "vtw")


def test_a_real_run_of_the_demo_model_is_explained_without_a_gap_left_over() -> None:
    recipe = Recipe(
        models=("demo",),
        methods=(Method(name="fastv", parameters={"keep": 0.25}),),
        workloads=(Workload(new_tokens=3),),  # type: ignore[call-arg]
        setting=Setting(device="cpu"),
        measurement=Measurement(rounds=2, warmup_rounds=1, parity=False, memory=False, activity=False),  # type: ignore[call-arg]
    )
    (record,) = profile(recipe)
    found = gap.decompose(record)
    assert found is not None
    assert sum(term.lost_ms for term in found.terms) == pytest.approx(found.lost_ms)
    assert sum(found.in_ratio(term) for term in found.terms) == pytest.approx(found.flops_ratio - found.speedup)
    named = {term.name: term.lost_ms for term in found.terms}
    assert named["selection"] > 0 and named["launch-bound"] == 0
    assert found.flops_ratio > 1
    assert "fastv keep=0.25" in explain.paragraph(record)
