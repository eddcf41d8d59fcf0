"""The layer diagnostics on a tiny model, against the same numbers by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.models.tiny import tiny
from tokprof import cli, policies
from tokprof.diagnose import Diagnosis, diagnose
from tokprof.engine.request import run_request
from tokprof.measure.clock import NoClock
from tokprof.recipe import Workload


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    adapter = tiny("llava-next")
    return diagnose(adapter, [adapter.prepare(Workload())], window=2, top=5)  # type: ignore[call-arg]


def test_one_number_per_stop(found: Diagnosis) -> None:
    depth = tiny("llava-next").shape.decoder.depth
    assert found.stops == tuple(range(1, depth))
    lengths = {len(series) for series in (found.visual_change, found.text_change, found.visual_attention, found.ilvas)}
    assert lengths == {depth - 1}
    assert all(0 <= share <= 1 for share in found.visual_attention)


def test_withdrawal_is_the_divergence_of_an_early_exit(found: Diagnosis) -> None:
    adapter = tiny("llava-next")
    prepared = adapter.prepare(Workload())  # type: ignore[call-arg]
    full, gone = (
        run_request(adapter, policy, prepared, NoClock(), 1).logits.double().log_softmax(-1)
        for policy in (policies.build("dense"), policies.build("vtw", layers=(2,)))
    )
    expected = float((gone.exp() * (gone - full)).sum())
    assert found.withdrawal[1] == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_watching_changes_nothing() -> None:
    from tokprof.diagnose import Observer

    adapter = tiny("llava-next")
    prepared = adapter.prepare(Workload())  # type: ignore[call-arg]
    watched = run_request(adapter, Observer(), prepared, NoClock(), 2)
    plain = run_request(adapter, policies.build("dense"), prepared, NoClock(), 2)
    assert torch.equal(watched.logits, plain.logits)


def test_the_exit_is_found_or_its_absence_explained(found: Diagnosis) -> None:
    assert found.exit_stop(eta=1e9, first=2) == 2
    assert "divergence" in str(found.exit_stop(eta=0.0, first=2))


def command(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["tokprof", "diagnose", "--device", "cpu", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("tokprof.models.load", load)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--top", "0"], "--top 0"),
        (["--window", "-1"], "--window -1"),
        (["--first", "0"], "--first 0"),
        (["--eta", "nan"], "--eta nan"),
        (["--eta", "inf"], "--eta inf"),
        (["--eta", "-0.1"], "--eta -0.1"),
        (["--image", "nowhere.png"], "there is no picture nowhere.png"),
        (["--image", "."], "is a folder"),
        (["--prompt", " "], "the prompt is empty"),
        (["--model", "lava"], "lava"),
        (["--model", "llava-1.5-13b"], "llava-1.5-13b on a CPU needs about"),
    ],
)
def test_mistakes_are_said_before_weights_are_loaded(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*words, monkeypatch=monkeypatch) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and said in lines[0] and lines[1].startswith("  try: ")


@pytest.mark.usefixtures("no_weights")
def test_who_insists_goes_past_the_size_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokprof.resolve.available_memory", lambda: 1 << 60)
    monkeypatch.setattr("sys.argv", ["tokprof", "diagnose", "--device", "cpu", "--model", "llava-1.5-13b", "--yes"])
    with pytest.raises(AssertionError, match="weights were loaded"):
        cli.main()


def test_the_command_prints_a_row_per_stop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tokprof.models.load", lambda *_, **__: tiny("llava-next"))
    assert command("--top", "5", "--window", "2", "--first", "2", "--eta", "999", monkeypatch=monkeypatch) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[1:6]] == ["1", "2", "3", "4", "5"]
    assert "exit (VTW, eta 999): 2" in shown
    assert shown[-1] == "! the weights are random: these numbers mean nothing"
