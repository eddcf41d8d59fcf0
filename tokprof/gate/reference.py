"""The code as it was: a second work tree of the repository, with an environment that fits it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tokprof.errors import InputError, MachineError
from tokprof.measure.apart import Place

DEPENDENCY_FILES = ("pyproject.toml", "requirements.txt", "setup.cfg", "setup.py")


def head_place(folder: Path) -> Place:
    """Here, as it lies in the work tree."""
    top = _top(folder)
    return Place(folder=folder, package=_package(top))


@contextlib.contextmanager
def base_place(reference: str, folder: Path, python: str | None = None) -> Iterator[Place]:
    """The same folder at a git reference; removed afterwards.

    The base runs in this interpreter's environment while both ask for the same dependencies, and
    otherwise in one that is made for it; `python` names an interpreter to use instead.
    """
    top = _top(folder)
    with tempfile.TemporaryDirectory(prefix="tokprof-base-") as scratch:
        tree = Path(scratch) / "tree"
        _git(top, "worktree", "add", "--detach", "--force", str(tree), _commit(top, reference))
        try:
            if python is None:
                python = sys.executable if same_dependencies(top, tree) else _own_environment(tree, Path(scratch))
            yield Place(folder=tree / folder.resolve().relative_to(top), python=python, package=_package(tree))
        finally:
            subprocess.run(
                ["git", "-C", str(top), "worktree", "remove", "--force", str(tree)], capture_output=True, check=False
            )


def same_dependencies(first: Path, second: Path) -> bool:
    return all(_text(first / name) == _text(second / name) for name in DEPENDENCY_FILES)


def _own_environment(tree: Path, scratch: Path) -> str:
    """A virtual environment with what the base asks for."""
    folder = scratch / "venv"
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", str(tree)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise MachineError(
                f"no environment for the base: {(done.stderr or done.stdout).strip().splitlines()[-1:]}",
                "prepare one yourself and name its interpreter: --base-python PATH",
            )
    return str(python)


def _top(folder: Path) -> Path:
    try:
        return Path(_git(folder, "rev-parse", "--show-toplevel")).resolve()
    except InputError as error:
        raise InputError(
            f"{folder} is not in a git repository", "--against-ref needs one; or use --baseline"
        ) from error


def _commit(top: Path, reference: str) -> str:
    try:
        return _git(top, "rev-parse", "--verify", "--end-of-options", f"{reference}^{{commit}}")
    except InputError as error:
        raise InputError(
            f"git knows no {reference!r}", "fetch it first (in a workflow: actions/checkout with fetch-depth: 0)"
        ) from error


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError("git is not installed", "install git, or use --baseline instead of --against-ref") from error
    if done.returncode != 0:
        raise InputError(f"git {words[0]} failed: {done.stderr.strip()}", "is this a git repository?")
    return done.stdout.strip()


def _package(top: Path) -> Path | None:
    """The work tree itself where tokprof is what it holds; elsewhere the installed tokprof is used."""
    return top if (top / "tokprof" / "profiler.py").is_file() else None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
