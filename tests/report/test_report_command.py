from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.records import make_record
from tokprof.cli import build_app
from tokprof.errors import InputError, RecordError, TokprofError
from tokprof.record import Failure, write_records


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    one, other = make_record("fastv"), make_record("todre", keep=0.1, per_layer=[288] * 32)
    write_records(folder / "a.json", [one])
    write_records(folder / "b.json", [other], [Failure(key="x", cell=other.cell, reason="out of memory", hint="")])
    return folder


def call(*words: object) -> str:
    found = CliRunner().invoke(build_app(), ["report", *map(str, words)])
    if isinstance(found.exception, TokprofError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("r.html", "<!doctype html>"),
        ("r.md", "| method |"),
        ("r.csv", "model,"),
        ("r.tex", "\\toprule"),
        ("r.json", "tokprof.records"),
    ],
)
def test_the_files_name_decides_the_format(results: Path, tmp_path: Path, name: str, words: str) -> None:
    call(results, "-o", tmp_path / name)
    text = (tmp_path / name).read_text()
    assert words in text and "fastv" in text and "todre" in text


def test_failures_are_on_the_page(results: Path, tmp_path: Path) -> None:
    call(results, "-o", tmp_path / "r.html")
    assert "out of memory" in (tmp_path / "r.html").read_text()


def test_failures_alone_are_a_page_and_no_figure(tmp_path: Path) -> None:
    failure = Failure(key="x", cell=make_record("todre").cell, reason="out of memory")
    write_records(tmp_path / "x.json", [], [failure])
    call(tmp_path / "x.json", "-o", tmp_path / "r.html")
    assert "out of memory" in (tmp_path / "r.html").read_text()
    with pytest.raises(InputError, match="nothing was measured"):
        call(tmp_path / "x.json", "-o", tmp_path / "r.png")


@pytest.mark.parametrize("name", ["r.png", "r.svg"])
def test_figures(results: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    call(results, "-o", tmp_path / name)
    assert (tmp_path / name).read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_a_table_on_stdout(results: Path) -> None:
    text = call(results / "a.json", results / "b.json")
    assert "fastv" in text and "todre" in text and "speed-up" in text


def test_published_scores_are_labelled(results: Path) -> None:
    assert "published: todre, table 1" in " ".join(call(results, "--scores", "published").split())


def test_the_newer_record_of_a_cell_counts(tmp_path: Path) -> None:
    old = make_record("fastv", policy_ms=50)
    new = make_record("fastv", policy_ms=25).model_copy(update={"created": "2026-02-01T00:00:00+00:00"})
    write_records(tmp_path / "a.json", [old])
    write_records(tmp_path / "b.json", [new])
    assert call(tmp_path, "--format", "csv").count("fastv") == 1


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [(["gone.json"], RecordError), (["--format", "docx", "x"], TokprofError), (["x", "--format", "html"], InputError)],
)
def test_what_cannot_be_reported(tmp_path: Path, arguments: list[str], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        call(*arguments)


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        call(tmp_path)
