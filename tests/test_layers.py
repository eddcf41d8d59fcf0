"""Who may import whom. A new arrow is a decision: argue for it in docs/decisions.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tokprof import policies

PACKAGE = Path(__file__).parents[1] / "tokprof"

# layer → the layers of tokprof it may import, itself aside; the longest matching name counts
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "units": set(),
    "shapes": set(),
    "layout": {"errors", "shapes"},
    "recipe": set(),
    "atomic": {"errors"},
    "record": {"errors", "recipe", "atomic"},
    "policies": {"errors", "shapes"},
    "models.hub": {"errors"},
    "models.catalog": {"errors", "shapes", "models.configuration", "models.hub"},
    "models": {"errors", "shapes", "layout", "policies.base", "workload", "recipe", "engine.cache"},
    "workload": {"errors", "layout", "shapes", "recipe", "models.catalog", "models.prompts", "policies.base"},
    "engine": {"errors", "shapes", "policies.base", "models.adapter", "models.decoder", "measure.clock"},
    "measure.stats": {"errors"},
    "measure": {"errors", "units", "recipe", "record", "environment", "atomic"},
    "flops": {
        *("errors", "units", "shapes", "layout", "recipe", "record", "policies", "published", "workload", "resolve"),
        *("measure.stats", "measure.clock", "models.catalog", "models.adapter", "models.prompts", "fit"),
    },
    "flops.counted": {
        "errors",
        "shapes",
        "recipe",
        "workload",
        "policies",
        "flops",
        "engine",
        "models",
        "measure.clock",
    },
    "flops.residuals": {"errors", "shapes", "recipe", "workload", "policies", "flops", "engine", "models"},
    "flops.second_opinion": {"errors", "shapes", "policies", "flops", "engine", "models", "measure.clock"},
    "report": {
        "errors",
        "units",
        "shapes",
        "recipe",
        "record",
        "measure.stats",
        "measure.verdict",
        "flops",
        "published",
        "policies",
    },
    "accuracy.proportions": set(),
    "accuracy.scoring": set(),
    "accuracy.questions": {"accuracy", "layout", "workload", "models.catalog", "demo.questions"},
    "accuracy.question_file": {"accuracy", "errors", "layout", "workload"},
    "accuracy.evaluation": {"accuracy", "record"},
    "accuracy.table": {"accuracy", "units"},
    "accuracy": {
        *("errors", "layout", "workload", "record", "policies", "models", "engine.request", "measure.clock"),
        *("flops.analytic", "fit", "profiler", "session"),
    },
    "harness": {*("errors", "layout", "recipe", "workload", "resolve", "profiler", "session", "accuracy")},
    "gate": {"errors", "atomic", "recipe", "record", "measure.stats", "measure.verdict", "measure.apart", "report"},
}
TORCH_FREE = (
    "errors", "units", "shapes", "layout", "recipe", "record", "resolve", "budget", "workload", "measure.stats",
    "measure.stopping", "flops.analytic", "flops.work", "flops.traffic", "report", "policies", "published",
    "models.catalog", "models.adapter", "cli", "gate", "accuracy.proportions", "accuracy.scoring", "accuracy.questions",
    "accuracy.question_file", "accuracy.evaluation", "accuracy.table", "accuracy.asking", "measure.verdict",
    "measure.apart",
)  # fmt: skip


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found.append((name, path))
    return found


def layer_of(name: str) -> str | None:
    fitting = [layer for layer in ALLOWED if name == layer or name.startswith(f"{layer}.")]
    return max(fitting, key=len, default=None)


def imports(path: Path, *, top_level_only: bool = False) -> list[str]:
    """Names of modules that a file imports; those under TYPE_CHECKING do not count."""
    found: list[str] = []

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if top_level_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.Import):
                found.extend(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                inner = [f"{child.module}.{alias.name}" for alias in child.names]
                modules_inside = [
                    name for name in inner if (PACKAGE.parent / name.replace(".", "/")).with_suffix(".py").exists()
                ]
                found.extend(modules_inside or [child.module])
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_imports_follow_the_table(name: str, path: Path) -> None:
    layer = layer_of(name)
    if layer is None:
        return
    known = {module for module, _ in modules()}
    for imported in imports(path):
        inside = imported.removeprefix("tokprof.")
        if not imported.startswith("tokprof.") or inside not in known:
            continue
        own = inside == layer or inside.startswith(f"{layer}.")
        fits = any(inside == allowed or inside.startswith(f"{allowed}.") for allowed in ALLOWED[layer])
        assert own or fits, f"{name} (layer {layer}) imports {imported}"


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_torch_stays_out_of_what_must_be_instant(name: str, path: Path) -> None:
    if not any(name == free or name.startswith(f"{free}.") for free in TORCH_FREE):
        return
    heavy = {"torch", "transformers"} & {imported.split(".")[0] for imported in imports(path, top_level_only=True)}
    assert not heavy, f"{name} imports {heavy} when it is imported"


def test_no_special_cases_for_a_policy_or_a_model() -> None:
    concrete = set(policies.names())
    for name, path in modules():
        source = path.read_text(encoding="utf-8")
        assert "isinstance(policy" not in source, f"{name} asks what kind of policy it has"
        if name.startswith("engine"):
            tree = ast.parse(source)
            texts = {
                node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            assert not texts & concrete, f"{name} names the policy {texts & concrete}"


@pytest.mark.parametrize("arguments", [["--help"], ["methods"], ["models"], ["flops", "--help"]])
def test_the_command_line_answers_without_torch(arguments: list[str]) -> None:
    code = (
        "import sys, atexit\n"
        f"sys.argv = ['tokprof', *{arguments!r}]\n"
        "atexit.register(lambda: print('LOADED', *sorted({m.split('.')[0] for m in sys.modules})))\n"
        "from tokprof.cli import main\n"
        "main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    loaded = result.stdout.rsplit("LOADED", 1)[1].split()
    assert not {"torch", "transformers"} & set(loaded)
