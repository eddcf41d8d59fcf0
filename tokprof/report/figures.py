"""Static figures for papers and pull requests, by matplotlib: trade-off, stages, tokens per layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokprof.errors import InputError
from tokprof.record import REQUEST_STAGES, RunRecord
from tokprof.report import derived
from tokprof.report.charts import QUALITY_KEYS, STAGE_WORDS
from tokprof.report.columns import column
from tokprof.report.derived import Side
from tokprof.report.tradeoff import front

COLOURS = ("#3d4449", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07a00", "#56b4e9", "#7a6a00")
MARKERS = ("o", "s", "^", "D", "x", "+", "v", "P")
STYLE = {
    "font.size": 8, "axes.titlesize": 9, "axes.grid": True, "grid.alpha": 0.3, "svg.fonttype": "none",
    "svg.hashsalt": "tokprof", "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
}  # fmt: skip


def draw(records: Sequence[RunRecord], path: Path) -> None:
    """One row of panels per model, machine and workload; the file's suffix says the format."""
    try:
        import matplotlib
    except ImportError as error:
        raise InputError("figures need matplotlib", 'pip install "tokprof[report]"') from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = derived.by_subject(records)
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(
            len(groups), 3, figsize=(11, 3.2 * len(groups)), squeeze=False, layout="constrained"
        )
        for row, group in zip(axes, groups, strict=True):
            sides = derived.sides(group)
            labels = [_plain(label) for label in derived.short_labels(sides)]
            _tradeoff(row[0], sides, labels)
            _stages(row[1], sides, labels)
            _staircase(row[2], sides, labels)
            row[1].set_title(_plain(f"{group[0].model.name}, {group[0].environment.device.name}"))
        try:
            figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}", "choose another file") from error
        finally:
            pyplot.close(figure)


def _plain(text: str) -> str:
    """A dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def _look(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def _legend(axis: Any, **where: Any) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=6, **where)


def _tradeoff(axis: Any, rows: Sequence[Side], labels: Sequence[str]) -> None:
    """Speed-up against the best-grounded quality figure there is."""
    measured = [found for key in QUALITY_KEYS if any((found := column(key)).value(row) is not None for row in rows[1:])]
    quality = measured[0] if measured else None
    if quality is None:
        axis.text(0.5, 0.5, "no fidelity or accuracy measured", ha="center", transform=axis.transAxes)
        return
    points = []
    for index, row in enumerate(rows):
        value, speed = quality.value(row), None if row.dense else derived.speedup(row.record)
        if value is None or (speed is None and not row.dense):
            continue
        ratio = speed.ratio if speed else 1.0
        reach = [[ratio - speed.low], [speed.high - ratio]] if speed else None
        axis.errorbar([ratio], [value], xerr=reach, label=labels[index], linestyle="none", capsize=2, **_look(index))
        points.append((ratio, value))
    best = [points[index] for index in front(points, True, quality.better == "higher")]
    axis.plot(*zip(*best, strict=True), color="0.5", linestyle="--", linewidth=0.8, zorder=0)
    axis.axvline(1.0, color="0.8", linewidth=0.8, zorder=0)
    axis.set(xlabel="speed-up of a request", ylabel=quality.title, title="trade-off")
    _legend(axis)


def _stages(axis: Any, rows: Sequence[Side], labels: Sequence[str]) -> None:
    start = [0.0] * len(rows)
    for index, stage in enumerate(REQUEST_STAGES):
        times = [derived.stage_ms(row.arm, stage) or 0.0 for row in rows]
        if any(times):
            axis.barh(labels, times, left=start, color=COLOURS[index % len(COLOURS)], label=STAGE_WORDS[stage])
            start = [before + time for before, time in zip(start, times, strict=True)]
    axis.invert_yaxis()
    axis.set(xlabel="time of a request, ms")
    _legend(axis, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)


def _staircase(axis: Any, rows: Sequence[Side], labels: Sequence[str]) -> None:
    for index, row in enumerate(rows):
        counts = row.arm.tokens.per_layer
        axis.stairs(
            counts, range(len(counts) + 1), label=labels[index], color=COLOURS[index % len(COLOURS)], baseline=None
        )
    axis.set(xlabel="decoder layer", ylabel="visual tokens", title="tokens per layer", ylim=(0, None))
    _legend(axis)
