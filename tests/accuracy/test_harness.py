"""Without lmms-eval, asking for the harness says what to install."""

from __future__ import annotations

import importlib
import sys

import pytest

from tokprof.errors import InputError


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tokprof.harness.model", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "lmms_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    with pytest.raises(InputError) as error:
        importlib.import_module("tokprof.harness.model")
    assert "lmms-eval is not there" in error.value.message and "tokprof[eval]" in error.value.hint


def test_the_entry_point_names_what_exists() -> None:
    from importlib.metadata import entry_points

    points = [point for point in entry_points(group="lmms_eval.models") if point.name == "tokprof"]
    if not points:
        pytest.skip("installed before tokprof had this entry point")
    assert points[0].value == "tokprof.harness:manifest"
    assert callable(points[0].load())
