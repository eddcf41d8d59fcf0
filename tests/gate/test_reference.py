"""The code as it was: work trees, environments, and what git may say."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import tokprof
from tokprof.errors import InputError, MachineError
from tokprof.gate.reference import _requirements, base_place, head_place, same_dependencies


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "inside").mkdir(parents=True)
    git(tmp_path, "init", "-q", str(folder))
    for text in ("old", "new"):
        (folder / "inside" / "mine.py").write_text(text)
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", text)
    return folder


def worktrees(folder: Path) -> int:
    listed = subprocess.run(["git", "-C", str(folder), "worktree", "list"], capture_output=True, text=True)
    return len(listed.stdout.splitlines())


def test_the_base_is_the_same_folder_as_it_was(repository: Path) -> None:
    with base_place("HEAD~1", repository / "inside") as place:
        assert place.folder is not None and (place.folder / "mine.py").read_text() == "old"
        assert place.python == sys.executable and place.package is None
        tree = place.folder
    assert not tree.exists()
    assert worktrees(repository) == 1
    assert head_place(repository / "inside").folder == repository / "inside"


def test_other_dependencies_need_another_environment(repository: Path) -> None:
    assert same_dependencies(repository, repository)
    (repository / "requirements.txt").write_text("torch==2.8\n")
    assert not same_dependencies(repository, repository / "inside")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "newer")
    with base_place("HEAD~1", repository, python="/opt/python") as place:
        assert place.python == "/opt/python"


def test_git_mistakes_are_said(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no 'elsewhere'"), base_place("elsewhere", repository):
        pass
    with pytest.raises(InputError, match="git knows no '--help'"), base_place("--help", repository):
        pass
    with pytest.raises(InputError, match="not in a git repository"), base_place("HEAD", tmp_path):
        pass
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"not in a git repository|not installed"), base_place("HEAD", repository):
        pass


# other dependencies

BACKEND = """
import zipfile
def build_wheel(folder, *_):
    name = "ours-1.0-py3-none-any.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        about = ["Metadata-Version: 2.1", "Name: ours", "Version: 1.0", "Requires-Dist: light==1.0"]
        wheel.writestr("ours-1.0.dist-info/METADATA", "\\n".join(about) + "\\n")
        wheel.writestr("ours-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("ours-1.0.dist-info/RECORD", "")
    return name
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def wheel_of(name: str, version: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


def committed(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "next")


@pytest.mark.slow
@pytest.mark.parametrize(
    "files", [{"requirements.txt": "light==1.0\n"}, {"pyproject.toml": PYPROJECT, "backend.py": BACKEND}]
)
def test_each_side_has_its_own_dependencies(
    files: dict[str, str], repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0", "2.0"):
        wheel_of("light", version, tmp_path / "wheels")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    committed(repository, files)
    committed(repository, {name: text.replace("light==1.0", "light==2.0") + "\n" for name, text in files.items()})
    with base_place("HEAD~1", repository) as place:
        assert place.python != sys.executable
        asked = "import light, torch, tokprof; print(light.VERSION, torch.__version__, tokprof.__file__)"
        answer = subprocess.run([place.python, "-c", asked], capture_output=True, text=True, cwd=place.folder)
        said = answer.stdout.split()
    assert said == ["1.0", torch.__version__, tokprof.__file__], answer.stderr
    assert importlib.util.find_spec("light") is None, "and this environment is left as it was"


@pytest.mark.slow
def test_dependencies_that_nobody_has_are_said(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    committed(repository, {"requirements.txt": "nobody-has-this==1.0\n"})
    committed(repository, {"requirements.txt": ""})
    with pytest.raises(MachineError, match="nobody-has-this") as refused, base_place("HEAD~1", repository):
        pass
    assert "--base-python" in refused.value.hint
    assert worktrees(repository) == 1


def test_what_is_installed_for_the_base(tmp_path: Path) -> None:
    assert _requirements(tmp_path) == []
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    (tmp_path / "requirements.txt").write_text("light\n")
    assert _requirements(tmp_path) == ["-r", str(tmp_path / "requirements.txt")], "no package, only settings"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "ours"\n')
    assert _requirements(tmp_path)[-1] == str(tmp_path)


def test_a_base_without_this_folder_or_without_tokprof_is_refused(repository: Path) -> None:
    (repository / "later").mkdir()
    committed(repository, {"later/mine.py": ""})
    with pytest.raises(InputError, match="HEAD~1 has no folder later"), base_place("HEAD~1", repository / "later"):
        pass
    (repository / "tokprof").mkdir()
    committed(repository, {"tokprof/profiler.py": ""})
    with pytest.raises(InputError, match="HEAD~1 holds no tokprof"), base_place("HEAD~1", repository):
        pass
    assert worktrees(repository) == 1
