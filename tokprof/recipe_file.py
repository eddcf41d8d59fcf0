"""A recipe's YAML → `Recipe`, with every mistake reported at once and the line it is on.

A method is written `fastv`, or `{method: fastv, keep: 0.25, …}`; `row:` beside it names the row of
the published table it stands for. `models` and `workloads` may hold one entry without a list.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tokprof.errors import RecipeError, UnknownNameError
from tokprof.recipe import Recipe
from tokprof.recipe_checks import note_mistakes

SIZE_LIMIT = 1 << 20
DEEPEST = 32  # YAML's parser takes quadratic time on nested brackets
SUFFIX = ".yaml"
SINGULAR = {"model": "models", "method": "methods", "workload": "workloads"}


@dataclass
class _Source:
    """The parsed file: plain data, and the line of everything in it."""

    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)
    mistakes: list[tuple[int, str]] = field(default_factory=list)

    def line(self, place: tuple[str | int, ...]) -> int:
        """Of the place itself, or of what encloses it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def note(self, place: tuple[str | int, ...], text: str) -> None:
        self.mistakes.append((self.line(place), text))


def folder() -> Path:
    """Where the bundled recipes lie: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parent
    beside = package.parent / "recipes"
    return beside if beside.is_dir() else package / "recipes"


def bundled() -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder().glob(f"*{SUFFIX}"))}


def locate(name: str) -> Path:
    """A path, or the name of a bundled recipe."""
    if name.endswith((SUFFIX, ".yml")) or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise RecipeError(f"no recipe {path}", "tokprof recipes lists the bundled ones")
        return path
    known = bundled()
    if name not in known:
        raise UnknownNameError("recipe", name, known)
    return known[name]


def read_recipe(path: Path, *, demo: bool = False) -> Recipe:
    """The recipe in a file, at the bundled demo model's size if asked, with equal budgets solved.

    RecipeError lists all that is wrong with it.
    """
    from tokprof.demo_size import at_demo_size

    recipe = parse_recipe(path)
    return matched(at_demo_size(recipe) if demo else recipe)


def matched(recipe: Recipe) -> Recipe:
    """`match` written out: every method once per metric, with the parameter that gives it the first one's budget."""
    from tokprof.resolve import with_matched_budgets

    if not recipe.match:
        return recipe
    solved = [method for metric in recipe.match for method in with_matched_budgets(recipe, metric).methods]
    return recipe.model_copy(
        update={"methods": tuple(m for i, m in enumerate(solved) if m not in solved[:i]), "match": ()}
    )


def parse_recipe(path: Path) -> Recipe:
    """As written."""
    source = _Source()
    data = _plain(_node(path), (), source)
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping (title, models, methods …)", "see recipes/quickstart.yaml")
    recipe = None if source.mistakes else _validated(_canonical(data, path.parent, source), source)
    if recipe is not None:
        note_mistakes(recipe, source.note)
    if source.mistakes or recipe is None:
        listed = "".join(f"\n  line {line}: {text}" for line, text in sorted(set(source.mistakes)))
        raise RecipeError(
            f"{path} has {len(set(source.mistakes))} mistake(s):{listed}", "docs/recipes.md shows every key"
        )
    return recipe


def _node(path: Path) -> yaml.Node:
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise RecipeError(f"{path} is larger than {SIZE_LIMIT >> 20} MiB", "that is no recipe")
        text = path.read_text(encoding="utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise RecipeError(f"{path} is nested too deeply", "that is no recipe")
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise RecipeError(f"{path}: line {line}: anchors and aliases are not allowed", "write the value out")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {error}", "is it a YAML file?") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise RecipeError(f"{path}: {where}{getattr(error, 'problem', error)}", "it is not valid YAML") from error
    except RecursionError as error:
        raise RecipeError(f"{path} is nested too deeply", "that is no recipe") from error
    if node is None:
        raise RecipeError(f"{path} is empty", "see recipes/quickstart.yaml")
    return node


def _plain(node: yaml.Node, place: tuple[str | int, ...], source: _Source) -> Any:
    """Lists, mappings, strings, numbers, booleans; anything else is a mistake."""
    source.lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*place, index), source) for index, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, child in node.value:
            key = str(key_node.value)
            here = (*place, key)
            source.lines[here] = key_node.start_mark.line + 1
            if key in found:
                source.note(here, f"{key} is given twice")
            found[key] = _plain(child, here, source)
        return found
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        source.note(place, f"{node.value!r}: {getattr(error, 'problem', error)}")
        return None
    if not isinstance(value, str | int | float | bool | None) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        source.note(place, f"{node.value!r} is no text, number or switch")
        return None
    return value


def _canonical(data: dict[str, Any], home: Path, source: _Source) -> dict[str, Any]:
    """The shapes people write → the one shape that the schema knows."""
    data = dict(data)
    for one, many in SINGULAR.items():
        if one in data:
            if many in data:
                source.note((one,), f"{one} and {many} exclude each other")
            source.lines.update(
                {(many, 0, *place[1:]): line for place, line in source.lines.items() if place[:1] == (one,)}
            )
            data[many] = [data.pop(one)]
    methods, rows = [], []
    for index, entry in enumerate(_listed(data.get("methods"))):
        method, row = _method(entry, ("methods", index), home, source)
        methods.append(method)
        rows.append(row)
    if "methods" in data:
        data["methods"] = methods
    if any(rows):
        if isinstance(data.get("published"), dict):
            data["published"] = {**data["published"], "rows": rows}
        else:
            source.note(
                ("methods", next(i for i, row in enumerate(rows) if row)), "row needs `published: {paper, table}`"
            )
    for index, workload in enumerate(_listed(data.get("workloads"))):
        if isinstance(workload, dict):
            _inside(workload, ("workloads", index), home, source)
    return data


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _method(entry: Any, place: tuple[str | int, ...], home: Path, source: _Source) -> tuple[Any, Any]:
    if isinstance(entry, str):
        entry = {"method": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("method"), str):
        source.note(place, "a method is a name, or {method: NAME, parameter: value …}")
        return {"name": ""}, None
    name = entry["method"]
    if name.endswith(".py") or "/" in name:
        name = _path_inside(name, (*place, "method"), home, source)
    parameters = {key: value for key, value in entry.items() if key not in ("method", "row")}
    return {"name": name, "parameters": parameters}, entry.get("row")


def _inside(workload: dict[str, Any], place: tuple[str | int, ...], home: Path, source: _Source) -> None:
    """Pictures and videos of a recipe lie in its own folder."""
    if isinstance(workload.get("images"), list):
        workload["images"] = [
            _path_inside(image, (*place, "images", index), home, source) if isinstance(image, str) else image
            for index, image in enumerate(workload["images"])
        ]
    if isinstance(workload.get("video"), str):
        workload["video"] = _path_inside(workload["video"], (*place, "video"), home, source)


def _path_inside(text: str, place: tuple[str | int, ...], home: Path, source: _Source) -> str:
    path = home / text
    if Path(text).is_absolute() or not path.resolve().is_relative_to(home.resolve()):
        source.note(place, f"{text} lies outside the recipe's folder")
    elif not path.exists():
        source.note(place, f"there is no {path}")
    return str(path)


def _validated(data: dict[str, Any], source: _Source) -> Recipe | None:
    try:
        return Recipe.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        for problem in error.errors():
            place = tuple(part for part in problem["loc"] if part != "parameters")
            name = ".".join(str(part) for part in problem["loc"]) or "the recipe"
            source.note(place, f"{name}: {_said(problem['type'], problem['msg'])}")
        return None


def _said(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such key"
    if kind == "missing":
        return "is missing"
    return message.removeprefix("Value error, ")
