"""`tokprof models`: readable at 80 and 160 columns, complete as JSON, without torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner, Result

from tests.models.tiny import TINY, tiny
from tokprof.cli import build_app
from tokprof.models.catalog import find, names
from tokprof.models.listing import line, matrix_parameters


def listed(*arguments: str, columns: int = 80) -> Result:
    result = CliRunner().invoke(build_app(), ["models", *arguments], env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("columns", [80, 160])
def test_the_table_fits_and_cuts_nothing_off(columns: int) -> None:
    text = listed(columns=columns).output
    assert max(len(row) for row in text.splitlines()) <= columns
    assert "…" not in text and "\x1b" not in text
    for name in names():
        assert name in text
    assert ("llava-hf/" in text) == (columns == 160)
    assert ("tower:" in text) == (columns == 160), "only what is shown is explained"


def test_json_has_every_dimension() -> None:
    found = {each["name"]: each for each in json.loads(listed("--json").output)}
    assert set(found) == set(names())
    assert found["llava-next-7b"]["visual_tokens"] == 2340
    assert found["llava-onevision-7b"]["video_tokens"] == 6273
    assert found["qwen2.5-vl-7b"]["vision"]["window_px"] == 112


def test_one_model() -> None:
    assert [each["name"] for each in json.loads(listed("demo", "--json").output)] == ["demo"]


@pytest.mark.parametrize("family", TINY)
def test_parameters_are_the_models_matrices(family: str) -> None:
    adapter = tiny(family)
    matrices = {
        name: parameter.numel()
        for name, parameter in adapter.model.named_parameters()
        if parameter.dim() > 1 and "position_embedding" not in name
    }
    assert matrix_parameters(adapter.shape) == sum(matrices.values())


def test_known_sizes() -> None:
    assert line(find("llava-1.5-7b")).parameters == pytest.approx(7.063e9, rel=1e-3)
    assert line(find("qwen2-vl-2b")).parameters == pytest.approx(2.209e9, rel=1e-3)


def test_no_torch() -> None:
    code = (
        "import sys; from tokprof.cli import build_app; build_app()(['models'], standalone_mode=False);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
