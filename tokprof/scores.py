"""Accuracies measured elsewhere, joined to records by model, method and budget, and labelled as such.

Three sources: a results file of lmms-eval (its `model_args` name the method: `…,method=fastv,keep=0.25`;
without them it is the dense model's), a CSV with the columns model, method, task, score and keep or
tokens, or `published`: the papers' own averages. A folder stands for all JSON and CSV files in it.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokprof import published
from tokprof.errors import InputError
from tokprof.record import Accuracy, Arm, RunRecord

PUBLISHED = "published"
RELATIVE = "avg_rel"
DENSE = ("dense", "vanilla", "")
TOLERANCE = 0.03  # budgets within 3 % of each other are the same budget
Basis = Literal["keep", "layer mean", "entering"]


@dataclass(frozen=True)
class Score:
    """`budget`: a share (or, above 1, a token count) of what `basis` says; None for the dense model."""

    model: str
    method: str
    budget: float | None
    basis: Basis
    task: str
    value: float
    source: str

    @property
    def dense(self) -> bool:
        return self.method in DENSE

    def fits(self, model: str, arm: Arm) -> bool:
        if self.model and self.model != model:
            return False
        if self.dense or arm.method == "dense":
            return self.dense and arm.method == "dense"
        return self.method == arm.method and (self.budget is None or self._same_budget(arm))

    def _same_budget(self, arm: Arm) -> bool:
        assert self.budget is not None
        observed = {
            "keep": arm.parameters.get("keep"),
            "layer mean": arm.tokens.layer_mean / max(arm.tokens.original, 1),
            "entering": arm.tokens.entering / max(arm.tokens.original, 1),
        }[self.basis]
        wanted = self.budget if self.budget <= 1 else self.budget / max(arm.tokens.original, 1)
        return isinstance(observed, float | int) and math.isclose(observed, wanted, rel_tol=TOLERANCE)


def read_scores(source: str) -> list[Score]:
    if source == PUBLISHED:
        return list(_published())
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".json", ".csv"))
        if not files:
            raise InputError(f"--scores {path}: the folder holds no .json or .csv", "docs/scores.md shows both formats")
        return [score for file in files for score in read_scores(str(file))]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--scores {path}: {error}", "a results file of lmms-eval, a CSV, or the word published"
        ) from error
    found = _lmms_eval(path, text) if path.suffix == ".json" else _csv(path, text)
    if not found:
        raise InputError(f"--scores {path} holds no score", "docs/scores.md shows both formats")
    return found


def _lmms_eval(path: Path, text: str) -> list[Score]:
    try:
        data = json.loads(text)
        results, config = data["results"], data.get("config", {})
        arguments = _arguments(config.get("model_args", ""))
        tasks = {task: _main_metric(values) for task, values in results.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"--scores {path} is no results file of lmms-eval: {error!r}", "it needs `results`") from error
    name = str(arguments.get("pretrained", data.get("model_name", ""))).rstrip("/").split("/")[-1]
    keep, tokens = arguments.get("keep"), arguments.get("tokens")
    return [
        Score(
            model=_alias(name),
            method=str(arguments.get("method", "dense")),
            budget=_number(path, keep if keep is not None else tokens) if keep or tokens else None,
            basis="keep" if keep is not None else "layer mean",
            task=task,
            value=value,
            source=f"lmms-eval, {path.name}",
        )
        for task, value in tasks.items()
        if value is not None
    ]


def _arguments(text: Any) -> dict[str, str]:
    """ "pretrained=a,keep=0.1" → {"pretrained": "a", "keep": "0.1"}"""
    if isinstance(text, dict):
        return {str(key): str(value) for key, value in text.items()}
    return {key.strip(): value.strip() for key, _, value in (part.partition("=") for part in str(text).split(","))}


def _main_metric(values: dict[str, Any]) -> float | None:
    """The first metric that a task reports; its standard error and name are none."""
    for key, value in values.items():
        if key != "alias" and "stderr" not in key and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    return None


def _alias(name: str) -> str:
    """A repository's last word, as this tool calls the model: llava-v1.6-vicuna-7b → llava-next-7b."""
    name = name.lower().removesuffix("-hf")
    for theirs, ours in (
        ("llava-v1.5", "llava-1.5"),
        ("llava-v1.6-vicuna", "llava-next"),
        ("llava-v1.6", "llava-next"),
    ):
        name = name.replace(theirs, ours)
    return name


def _csv(path: Path, text: str) -> list[Score]:
    rows = list(csv.DictReader(text.splitlines()))
    missing = {"model", "method", "task", "score"} - set(rows[0] if rows else ())
    if missing:
        raise InputError(f"--scores {path}: no column {', '.join(sorted(missing))}", "model,method,keep,task,score")
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise InputError(f"--scores {path}, row {line}: not one value per column", "fill it in, or leave it out")
    return [
        Score(
            model=row["model"].strip(),
            method=row["method"].strip(),
            budget=_number(path, row.get("keep") or row.get("tokens")),
            basis="keep" if row.get("keep") else "layer mean",
            task=row["task"].strip(),
            value=_required(path, row["score"]),
            source=path.name,
        )
        for row in rows
    ]


def _required(path: Path, text: str | None) -> float:
    found = _number(path, text)
    if found is None:
        raise InputError(f"--scores {path}: an empty score", "leave the row out")
    return found


def _number(path: Path, text: str | None) -> float | None:
    if text is None or not str(text).strip():
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"--scores {path}: {text!r} is not a number", "for example 0.25") from error
    if not math.isfinite(value):
        raise InputError(f"--scores {path}: {text!r} is not a score", "leave the row out")
    return value


def _published() -> Iterator[Score]:
    """Average accuracy relative to the unpruned model, in percent, as each paper prints it.

    A method's own paper comes first. Rows whose budget counts something that a record does not show
    are left out: budgets of different bases are not comparable.
    """
    for paper in published.PAPERS:
        for cell in sorted(published.cells(paper), key=lambda cell: (cell.method != paper, bool(cell.variant))):
            basis = _basis(cell.token_basis)
            if cell.metric == RELATIVE and not cell.variant and (basis or cell.method in DENSE):
                yield Score(
                    model=cell.model,
                    method=cell.method,
                    budget=float(cell.retained_ratio) if cell.retained_ratio else None,
                    basis=basis or "keep",
                    task="average relative to the unpruned model, %",
                    value=cell.value,
                    source=f"{_whose(cell)}; not this run",
                )


def _whose(cell: published.Cell) -> str:
    return f"published: {cell.paper}, table {cell.table}, {cell.budget_label} ({cell.token_basis})"


def _basis(text: str) -> Basis | None:
    if text.startswith("layer_avg"):
        return "layer mean"
    if text.startswith("pre_llm"):
        return "entering"
    return "keep" if text == "as_labelled" else None


def join_scores(records: Sequence[RunRecord], scores: Sequence[Score]) -> list[RunRecord]:
    """The records with an accuracy on each side for which there is a score; measured ones stay."""
    joined = []
    for record in records:
        sides = {}
        for name in ("baseline", "policy"):
            arm: Arm = getattr(record, name)
            found = _accuracy([score for score in scores if score.fits(record.model.name, arm)], _dense(record, scores))
            if found is not None and arm.accuracy is None:
                sides[name] = arm.model_copy(update={"accuracy": found})
        joined.append(record.model_copy(update=sides) if sides else record)
    return joined


def _dense(record: RunRecord, scores: Iterable[Score]) -> dict[str, float]:
    return {score.task: score.value for score in scores if score.fits(record.model.name, record.baseline)}


def _accuracy(found: Sequence[Score], dense: dict[str, float]) -> Accuracy | None:
    """One task as it is; several as the mean of their ratios to the dense model's, as the papers average."""
    by_task: dict[str, Score] = {}
    for score in found:
        by_task.setdefault(score.task, score)
    if not by_task:
        return None
    source = next(iter(by_task.values())).source
    if len(by_task) == 1:
        task, score = next(iter(by_task.items()))
        return Accuracy(source=source, task=task, questions=0, score=score.value)
    shared = [task for task in by_task if dense.get(task)]
    if not shared:
        raise InputError(
            f"{source}: {len(by_task)} tasks of different units and no score of the dense model",
            "add the dense model's scores, or leave one task in the file",
        )
    mean = 100 * sum(by_task[task].value / dense[task] for task in shared) / len(shared)
    return Accuracy(
        source=source, task=f"mean of {len(shared)} tasks relative to the dense model, %", questions=0, score=mean
    )
