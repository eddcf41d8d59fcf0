from __future__ import annotations

from pathlib import Path

import pytest

from tokprof.errors import RecipeError, UnknownNameError
from tokprof.recipe import Method, Recipe, Row
from tokprof.recipe_file import locate, read_recipe

POLICY = """
from dataclasses import dataclass
from typing import ClassVar
from tokprof.policies.base import Policy

@dataclass(frozen=True, kw_only=True)
class Halve(Policy):
    name: ClassVar[str] = "halve"
    depth: int = 2
"""

GOOD = """
title: Two budgets
model: demo
methods:
  - {method: ./halve.py, keep: 0.5, row: {method: fastv, tokens: 288}}
  - {method: ./halve.py, keep: 0.25}
workloads:
  - {batch: 2}
  - {batch: 4}
published: {paper: todre, table: "3"}
"""


ROW = "model: demo\nmethods:\n  - {method: ./halve.py, row: {method: fastv}}\n"


def write(folder: Path, text: str) -> Path:
    (folder / "halve.py").write_text(POLICY)
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def mistakes(folder: Path, text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read_recipe(write(folder, text))
    return caught.value.message


def test_a_good_recipe_becomes_its_grid(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD))
    assert isinstance(recipe, Recipe) and recipe.models == ("demo",)
    assert [method.parameters for method in recipe.methods] == [{"keep": 0.5}, {"keep": 0.25}]
    assert recipe.methods[0] == Method(name=str(tmp_path / "halve.py"), parameters={"keep": 0.5})
    assert recipe.published is not None
    assert recipe.published.rows == (Row(method="fastv", tokens=288), None)
    assert len(list(recipe.cells())) == 4


def test_all_mistakes_at_once_with_their_lines(tmp_path: Path) -> None:
    message = mistakes(
        tmp_path,
        "titel: x\nmodels: [demo]\nmethods: [./halve.py]\nworkloads:\n  - batch: many\n    new_tokens: 0\n"
        "setting: {dtype: int8}\nmeasurement:\n  rounds: 1\n",
    )
    for line, words in (
        (1, "titel: there is no such key"),
        (5, "batch"),
        (6, "new_tokens"),
        (7, "dtype"),
        (9, "rounds"),
    ):
        assert any(f"line {line}:" in text and words in text for text in message.splitlines()), (line, message)
    assert "5 mistake" in message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("model: demo\nmethods:\n  - {method: ./halve.py, keep: 2}\n", 3, "keep=2"),
        ("model: demo\nmethods:\n  - {method: ./halve.py, kep: 0.5}\n", 3, "no parameter 'kep'"),
        (
            "model: demo\nmethods:\n  - {method: hidivdrop, entry: soon}\n",
            3,
            "entry='soon' (it takes a whole number or",
        ),
        ("model: demo\nmethods:\n  - {method: random, like: 2.5}\n", 3, "like=2.5 (it takes text or nothing)"),
        ("model: demo\nmethods:\n  - {method: ./halve.py, depth: true}\n", 3, "depth=True (it takes a whole number)"),
        ("model: demo\nmethods:\n  - {method: pdrop, layers: nan}\n", 3, "layers='nan'"),
        ("model: demo\nmethods:\n  - {method: v2drop, layers: [1.0e+400]}\n", 3, "no text, number or switch"),
        ("model: demo\nmethods:\n  - fastfv\n", 3, "no method 'fastfv'"),
        ("model: demo\nmethods:\n  - 7\n", 3, "a method is a name"),
        ("model: demo\nmethods:\n  - ./halve.py\n  - ./halve.py\n", 4, "same as methods.0"),
        (f"{ROW}published:\n  paper: todr\n  table: '3'\n", 5, "no published paper 'todr' (did you mean todre?)"),
        (f"{ROW}published:\n  paper: todre\n  table: '33'\n", 6, "no table of todre '33' (known: 1, 2, 3, 4, 5, 6)"),
        (f"{ROW}published: {{paper: todre, table: '4'}}\n", 3, "table 4 of todre has no such row; it has vanilla"),
        (f"{ROW}published: {{paper: todre, table: '3', model: x}}\n", 4, "no part for x; it has llava-next-7b"),
        (f"{ROW}published: {{paper: todre, table: 4}}\n", 4, "published.table: Input should be a valid string"),
        ("model: demo\nmethods: [./halve.py]\nworkloads:\n  - {}\n  - {}\n", 5, "same as workloads.0"),
        ("model: demo\nmodel: demo\nmethods: [./halve.py]\n", 2, "given twice"),
        ("model: demo\nmodels: [demo]\nmethods: [./halve.py]\n", 1, "exclude each other"),
        (
            "model: demo\nmethods: [./halve.py]\nworkload: {images: [../../secret.png]}\n",
            3,
            "outside the recipe's folder",
        ),
        ("model: demo\nmethods: [./halve.py]\nworkload: {images: [/etc/passwd]}\n", 3, "outside the recipe's folder"),
        ("model: demo\nmethods: [../other.py]\n", 2, "outside the recipe's folder"),
        ("model: demo\nmethods: [./halve.py]\nworkload: {video: gone.mp4}\n", 3, "there is no"),
        (
            "model: demo\nmethods: [./halve.py]\nworkload: {image_size: [64, 64], video: recipe.yaml}\n",
            3,
            "video and image_size exclude each other",
        ),
        ("model: demo\nmethods:\n  - {method: ./halve.py, row: {method: fastv}}\n", 3, "row needs `published"),
        ("model: demo\nmethods:\n  - {method: ./halve.py, keep: .nan}\n", 3, "no text, number or switch"),
        ("model: demo\nmethods:\n  - {method: ./halve.py, keep: 2020-01-01}\n", 3, "no text, number or switch"),
        ("model: demo\nmethods: [./halve.py]\nworkload: {prompt: '  '}\n", 3, "the prompt is empty"),
        ("methods: [./halve.py]\n", 1, "models: is missing"),
        ("model: !!python/object/apply:os.system [ls]\nmethods: [./halve.py]\n", 1, ""),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    message = mistakes(tmp_path, text)
    assert any(f"line {line}:" in part and words in part for part in message.splitlines()), message


def test_aliases_cannot_explode(tmp_path: Path) -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(9))
    assert "line 1: anchors and aliases are not allowed" in mistakes(tmp_path, bomb)


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b\n", "a: [", "a: b: c", "a: 1\n---\nb: 2\n", "[" * 5000])
def test_no_recipe_at_all(tmp_path: Path, text: str) -> None:
    assert "recipe.yaml" in mistakes(tmp_path, text)


def test_a_file_too_large_for_a_recipe_and_a_folder(tmp_path: Path) -> None:
    assert "larger than 1 MiB" in mistakes(tmp_path, "#" * (1 << 21))
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(RecipeError, match="no recipe"):
        locate(str(tmp_path / "folder.yaml"))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError):
        read_recipe(path)


def test_unknown_names_are_answered_with_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        locate("no-such-recipe")
    with pytest.raises(RecipeError):
        locate(str(tmp_path / "gone.yaml"))
