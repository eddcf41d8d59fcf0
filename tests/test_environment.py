"""The machine as a record has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.records import make_environment
from tokprof import environment
from tokprof.cli import build_app
from tokprof.cli.device import facts
from tokprof.errors import TokprofError
from tokprof.measure import ceilings
from tokprof.record import Ceilings, Environment


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_a_cpu_has_no_gpu_facts() -> None:
    found = environment.snapshot("cpu")
    assert found.device.kind == "cpu" and found.device.name
    assert found.device.sm_clock_mhz is None and found.device.other_processes is None
    assert found.cores >= 1 and found.libraries["torch"]
    assert Environment.model_validate_json(found.model_dump_json()) == found
    assert environment.state_reader("cpu")() is None


def test_the_commit_is_this_checkouts_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found = environment.snapshot("cpu")
    assert found.git_commit is None or len(found.git_commit) == 40
    monkeypatch.setenv("PATH", "")
    assert environment.snapshot("cpu").git_commit is None


def test_a_busy_cpu_and_too_many_threads_are_said_with_their_remedy() -> None:
    busy = make_environment("CPU", load_average=3.0, threads=8)
    warnings = environment.machine_warnings(busy)
    assert "load 3.0 on 2 cores" in warnings[0] and "OMP_NUM_THREADS=2" in warnings[1]
    assert environment.machine_warnings(make_environment("CPU", load_average=0.1, threads=2)) == []


def test_a_gpu_with_company_throttled_and_hot() -> None:
    troubled = make_environment(other_processes=2, throttle=("power cap",), temperature_c=90.0, sm_clock_max_mhz=None)
    warnings = environment.machine_warnings(troubled)
    for word, warning in zip(("2 other", "power cap", "90 °C", "clocks"), warnings, strict=True):
        assert word in warning
    assert environment.machine_warnings(make_environment()) == []


def test_ceilings_are_kept_per_device_and_dtype() -> None:
    fast = Ceilings(source="measured", flops_per_s=2e12, bytes_per_s=1e11, dtype="bfloat16")
    slow = Ceilings(source="measured", flops_per_s=1e12, bytes_per_s=1e11, dtype="float32")
    ceilings.store_ceilings("one", fast)
    ceilings.store_ceilings("one", slow)
    assert ceilings.stored_ceilings("one", "float32") == slow
    assert ceilings.stored_ceilings("one", "float16") is None
    assert ceilings.stored_ceilings("one") == fast
    assert ceilings.stored_ceilings("two") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"one": 3}', '{"one": {"float32": {"flops_per_s": "x"}}}'])
def test_a_damaged_cache_is_no_cache(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "tokprof"
    folder.mkdir()
    (folder / "ceilings.json").write_text(text)
    assert ceilings.stored_ceilings("one", "float32") is None
    ceilings.store_ceilings("two", Ceilings(source="measured", flops_per_s=1, bytes_per_s=1, dtype="float32"))
    assert ceilings.stored_ceilings("two") is not None


def test_measured_ceilings_are_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ceilings.SIDE, "cpu", 64)
    monkeypatch.setitem(ceilings.COPY_BYTES, "cpu", 1 << 16)
    found = ceilings.measure_ceilings("cpu", "float32")
    assert found.flops_per_s > 0 and found.bytes_per_s > 0 and found.source == "measured"


def test_the_device_command_says_cpu_and_its_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ceilings.SIDE, "cpu", 64)
    monkeypatch.setitem(ceilings.COPY_BYTES, "cpu", 1 << 16)
    done = CliRunner().invoke(build_app(), ["device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "device         CPU" in done.output and "FLOP/s in float32 (measured)" in done.output
    assert "SM clock" not in done.output, "a CPU has none"
    assert ceilings.stored_ceilings(environment.cpu_name(), "float32") is not None


def test_the_device_command_refuses_what_is_not_there() -> None:
    assert isinstance(CliRunner().invoke(build_app(), ["device", "tpu"]).exception, TokprofError)
    assert isinstance(CliRunner().invoke(build_app(), ["device", "cpu", "--dtype", "int8"]).exception, TokprofError)


def test_every_known_fact_of_a_gpu_is_shown() -> None:
    busy = make_environment(other_processes=3, throttle=("power cap",))
    shown = dict(facts(busy))
    assert shown["SM clock"] == "1980 of 1980 MHz" and shown["held back by"] == "power cap"
    assert shown["others on it"] == "3" and shown["driver"] == "570.1"
