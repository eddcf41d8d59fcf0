"""Before any weight is loaded: names, parameters, inputs and budgets of every cell, checked with integers. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from tokprof import budget, policies, units
from tokprof.errors import InputError, MachineError, ParameterError
from tokprof.fit import check_fit
from tokprof.models import catalog
from tokprof.policies.base import Policy, Scene
from tokprof.policies.views import ATTENTION
from tokprof.recipe import Cell, Method, Recipe, Workload
from tokprof.sources import light_sources
from tokprof.workload import scene_of

METRICS = ("layer-mean", "flops", "kv-bytes")
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
ROOM = 1.15  # activations and cache on top of the weights, roughly
LARGE_FOR_A_CPU = 3 << 30  # bytes of weights beyond which a CPU run takes more than a coffee break


@dataclass(frozen=True)
class Ready:
    """A cell whose names and numbers hold. `pruned_scene` differs where a method wants smaller pictures."""

    cell: Cell
    entry: catalog.Entry
    policy: Policy
    scene: Scene
    pruned_scene: Scene
    sources: dict[str, str] = field(default_factory=dict)  # of the method and the pictures, as they were read

    @cached_property
    def device(self) -> str:
        return chosen_device(self.cell.setting.device)

    @property
    def dtype(self) -> str:
        wanted = self.cell.setting.dtype
        if wanted != "auto":
            return wanted
        return "bfloat16" if self.device.startswith("cuda") else "float32"

    @property
    def weight_bytes(self) -> int:
        from tokprof.flops.traffic import weight_values

        return weight_values(self.entry.shape) * DTYPE_BYTES[self.dtype]


def resolve(recipe: Recipe) -> list[Ready]:
    """Every cell, or the first mistake."""
    return [ready(cell) for cell in recipe.cells()]


def ready(cell: Cell) -> Ready:
    entry, sources = catalog.find(cell.model), light_sources(cell)
    policy = policies.build(cell.method.name, **cell.method.parameters).on(entry.shape)
    scene = scene_of(cell.workload, entry)
    check_fit(policy, scene)
    workload = scaled(cell.workload, policy, scene)
    pruned = scene if workload is cell.workload else scene_of(workload, entry)
    return Ready(cell, entry, policy, scene, pruned, sources)


def with_official_scores(cells: list[Ready]) -> list[Ready]:
    """Beside each method that reads attention, the same with its scores computed as the official code does."""
    found = []
    for each in cells:
        found.append(each)
        if (each.policy.needs | each.policy.optional) & ATTENTION and each.cell.setting.scores != "eager":
            setting = each.cell.setting.model_copy(update={"scores": "eager"})
            found.append(replace(each, cell=each.cell.model_copy(update={"setting": setting})))
    if len(found) == len(cells):
        raise InputError("--scores eager: none of these methods reads attention", "it is for fastv, sparsevlm and such")
    return found


def scaled(workload: Workload, policy: Policy, scene: Scene) -> Workload:
    """The workload itself, or with smaller pictures for a method that asks for them."""
    factor = 1.0 if policy.identity else policy.image_scale(scene)
    return workload if factor == 1.0 else workload.model_copy(update={"scale": workload.scale * factor})


def chosen_device(wanted: str) -> str:
    """auto → the GPU if there is one; a GPU that is not there is a mistake of the user's."""
    if wanted == "cpu":
        return "cpu"
    import torch

    available = torch.cuda.is_available()
    if wanted == "auto":
        return "cuda" if available else "cpu"
    kind, _, index = wanted.partition(":")
    if kind != "cuda" or (index and not index.isdigit()):
        raise ParameterError(f"--device {wanted!r}", "one of auto, cpu, cuda, cuda:1 …")
    if not available:
        raise MachineError(f"--device {wanted}: no CUDA device on this machine", "leave --device out to use the CPU")
    if index and int(index) >= torch.cuda.device_count():
        raise MachineError(f"--device {wanted}: there are {torch.cuda.device_count()} GPUs", "count from cuda:0")
    return wanted


def refuse_the_hopeless(recipe: Recipe, *, yes: bool) -> None:
    """A model that does not fit, or that would keep a CPU busy for hours, is said before it is loaded."""
    for found in resolve(recipe):
        if found.device != "cpu":
            continue
        needed = int(found.weight_bytes * ROOM)
        if found.weight_bytes > LARGE_FOR_A_CPU and not yes:
            raise MachineError(
                f"{found.cell.model} on a CPU needs about {units.bytes_(needed)} of memory and very long per round",
                "use a GPU (--device cuda), --model demo, or `tokprof flops` for counts; --yes goes on all the same",
            )
        available = available_memory()
        if needed > available:
            raise MachineError(
                f"{found.cell.model} needs about {units.bytes_(needed)}; {units.bytes_(available)} are free",
                "take a smaller model, or --dtype bfloat16",
            )


def available_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def with_layer_means(recipe: Recipe, layer_means: list[float]) -> Recipe:
    """Every method at every layer mean: `keep` solved from the plan."""

    def methods() -> Iterator[Method]:
        for method in recipe.methods:
            for target in layer_means:
                yield _solved(recipe, method, "layer-mean", target, published=True)

    return recipe.model_copy(update={"methods": tuple(methods())})


def with_matched_budgets(recipe: Recipe, metric: str) -> Recipe:
    """Every method at the budget of the first."""
    if metric not in METRICS:
        raise ParameterError(f"--match {metric!r}", f"one of {', '.join(METRICS)}")
    first = recipe.methods[0]
    scene = _one_scene(recipe)
    policy = policies.build(first.name, **first.parameters).on(scene.model)
    target = budget.measure(metric, policy, scene, new_tokens=recipe.workloads[0].new_tokens)
    matched = [first, *(_solved(recipe, method, metric, target) for method in recipe.methods[1:])]
    return recipe.model_copy(update={"methods": tuple(matched)})


def budgets_in_words(recipe: Recipe, metric: str) -> list[str]:
    """What `with_matched_budgets` chose and what it comes to by the plan: one line per method."""
    scene, new_tokens = _one_scene(recipe), recipe.workloads[0].new_tokens
    lines = []
    for method in recipe.methods:
        policy = policies.build(method.name, **method.parameters).on(scene.model)
        reached = budget.measure(metric, policy, scene, new_tokens=new_tokens)
        most = "" if policy.schedule(scene).exact else "at most "
        lines.append(f"{method.name} keep={units.number(policy.keep)}: {most}{budget.in_words(metric, reached)}")
    return lines


def _solved(recipe: Recipe, method: Method, metric: str, target: float, *, published: bool = False) -> Method:
    found = budget.solve(
        policies.find(method.name),
        {name: value for name, value in method.parameters.items() if name != "keep"},
        _one_scene(recipe),
        metric,
        target,
        new_tokens=recipe.workloads[0].new_tokens,
        published=published,
    )
    return Method(name=method.name, parameters={**method.parameters, "keep": found.policy.keep})


def _one_scene(recipe: Recipe) -> Scene:
    if len(recipe.models) > 1:
        raise InputError("budgets are solved for one model at a time", "run the models one by one")
    workload: Workload = recipe.workloads[0]
    return scene_of(workload, catalog.find(recipe.models[0]))
