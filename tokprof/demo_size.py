"""A recipe cut down to the bundled demo model, so that it runs on any laptop in a minute or two.

Layers are carried over in proportion to the depth, long videos and batches shrink, and the number of
rounds is small: it exercises the recipe, it does not measure what the recipe is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokprof import policies
from tokprof.errors import ParameterError, TokprofError
from tokprof.models import catalog
from tokprof.policies.stages import scaled
from tokprof.recipe import Measurement, Method, Recipe, Setting, Workload
from tokprof.workload import scene_of

DEMO = "demo"
LAYER_PARAMETERS = ("layer", "layers", "entry", "exit", "exit_layer")
MOST = {"batch": 2, "new_tokens": 8, "image_count": 2}
ROUNDS = 3


def at_demo_size(recipe: Recipe, most: Mapping[str, int] = MOST) -> Recipe:
    """`most`: of each size of a workload."""
    depth, demo_depth = (catalog.find(name).shape.decoder.depth for name in (recipe.models[0], DEMO))
    if recipe.models == (DEMO,):
        return recipe
    methods, rows = _distinct(
        [_method(method, depth, demo_depth) for method in recipe.methods],
        recipe.published.rows if recipe.published else (),
    )
    small = recipe.on(DEMO)
    return small.model_copy(
        update={
            "methods": methods,
            "workloads": tuple(dict.fromkeys(_workload(workload, most) for workload in recipe.workloads)),
            "setting": Setting(device=recipe.setting.device, scores=recipe.setting.scores),
            "measurement": _measurement(recipe.measurement),
            "published": small.published and small.published.model_copy(update={"rows": rows}),
        }
    )


def _method(method: Method, depth: int, demo_depth: int) -> Method:
    parameters = dict(method.parameters)
    for name in LAYER_PARAMETERS:
        if name in parameters:
            parameters[name] = _layers(parameters[name], depth, demo_depth)
    while not _reachable(method.name, parameters):
        parameters["keep"] = round(1.25 * _keep(method.name, parameters), 4)
    return Method(name=method.name, parameters=parameters)


def _keep(name: str, parameters: dict[str, Any]) -> float:
    given = parameters.get("keep", policies.find(name).keep)
    return float(given) if isinstance(given, int | float) else 1.0


def _layers(value: Any, depth: int, demo_depth: int) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return min(max(round(value * demo_depth / depth), 1), demo_depth - 1)
    return list(scaled(value, depth, demo_depth)) if isinstance(value, list | tuple) else value


def _reachable(name: str, parameters: dict[str, Any]) -> bool:
    """Few layers put a floor under some budgets. What is wrong in another way is for the run to say."""
    if not 0 < _keep(name, parameters) <= 0.8:
        return True
    entry = catalog.find(DEMO)
    try:
        policy = policies.build(name, **parameters).on(entry.shape)
        policy.check(scene_of(Workload(), entry).seen_by(policy))  # type: ignore[call-arg]
    except ParameterError as error:
        return "out of reach" not in error.message
    except TokprofError:
        return True
    return True


def _distinct(methods: list[Method], rows: tuple[Any, ...]) -> tuple[tuple[Method, ...], tuple[Any, ...]]:
    """On few layers two settings may become one; the first one stays."""
    kept = [index for index, method in enumerate(methods) if methods.index(method) == index]
    return tuple(methods[index] for index in kept), tuple(rows[index] for index in kept) if rows else ()


def _workload(workload: Workload, most: Mapping[str, int]) -> Workload:
    """Pictures and prompts stay; a video becomes two pictures."""
    small = {name: min(getattr(workload, name), largest) for name, largest in most.items()}
    if workload.frames or workload.video:
        small["image_count"] = most["image_count"]
    if workload.images:
        small["image_count"] = 1
    return workload.model_copy(update={**small, "frames": None, "video": None, "anyres": "native"})


def _measurement(measurement: Measurement) -> Measurement:
    return measurement.model_copy(
        update={
            "rounds": ROUNDS,
            "warmup_rounds": 1,
            "min_seconds": 0.0,
            "timeout": 20.0,
            "energy": False,
            "isolate": False,
        }
    )
