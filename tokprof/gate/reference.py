"""The code as it was: a second work tree of the repository, with an environment that fits it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tokprof.errors import InputError, MachineError
from tokprof.measure.apart import Place

DEPENDENCY_FILES = ("pyproject.toml", "requirements.txt", "setup.cfg", "setup.py")
IS_A_PACKAGE = re.compile(r"^\[(project|build-system|metadata|tool\.poetry)\]|\bsetup\(", re.MULTILINE)
PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"


def head_place(folder: Path) -> Place:
    """Here, as it lies in the work tree."""
    top = _top(folder)
    return Place(folder=folder, package=_package(top))


@contextlib.contextmanager
def base_place(reference: str, folder: Path, python: str | None = None) -> Iterator[Place]:
    """The same folder at a git reference; removed afterwards.

    The base runs in this interpreter's environment while both ask for the same dependencies, and
    otherwise in one that is made for it; `python` names an interpreter to use instead. Where the
    dependencies differ, whatever of them the base does not pin is the same on both sides.
    """
    top = _top(folder)
    with tempfile.TemporaryDirectory(prefix="tokprof-base-") as scratch:
        tree = Path(scratch) / "tree"
        _git(top, "worktree", "add", "--detach", "--force", str(tree), _commit(top, reference))
        try:
            inside = _same_folder(tree, folder.resolve().relative_to(top), reference)
            package = _same_kind_of_package(top, tree, reference)
            if python is None:
                python = sys.executable if same_dependencies(top, tree) else _own_environment(tree, Path(scratch))
            yield Place(folder=inside, python=python, package=package, name=f"at {reference}")
        finally:
            subprocess.run(
                ["git", "-C", str(top), "worktree", "remove", "--force", str(tree)], capture_output=True, check=False
            )


def _same_folder(tree: Path, inside: Path, reference: str) -> Path:
    if not (tree / inside).is_dir():
        raise InputError(f"{reference} has no folder {inside}", "run this from a folder that is there at both")
    return tree / inside


def _same_kind_of_package(top: Path, tree: Path, reference: str) -> Path | None:
    """A base that falls back on the tokprof of the head would only compare that with itself."""
    found = _package(tree)
    if found is None and _package(top) is not None:
        raise InputError(f"{reference} holds no tokprof that can be measured", "choose a later reference")
    return found


def same_dependencies(first: Path, second: Path) -> bool:
    return all(_text(first / name) == _text(second / name) for name in DEPENDENCY_FILES)


def _own_environment(tree: Path, scratch: Path) -> str:
    """A virtual environment with what the base asks for, and what is here where it asks for nothing else."""
    folder = scratch / "venv"
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    _prepare([sys.executable, "-m", "venv", str(folder)])
    (Path(_ask(python, PURELIB)) / "tokprof-base.pth").write_text(_packages_of_this_environment(), encoding="utf-8")
    wanted = _requirements(tree)
    if wanted:
        _prepare([str(python), "-m", "pip", "install", "--quiet", *wanted])
    return str(python)


def _packages_of_this_environment() -> str:
    """So that what fits is shared (torch is large) and a tokprof that the base does not name is there."""
    folders = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return "".join(f"import site; site.addsitedir({path!r})\n" for path in folders)


def _requirements(tree: Path) -> list[str]:
    """What pip installs: a list of requirements, the package itself, or both."""
    found = ["-r", str(tree / "requirements.txt")] if (tree / "requirements.txt").is_file() else []
    described = any(IS_A_PACKAGE.search(_text(tree / name)) for name in ("pyproject.toml", "setup.cfg", "setup.py"))
    return [*found, str(tree)] if described else found


def _prepare(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise MachineError(
            f"no environment for the base: {' '.join(said) or 'it said nothing'}",
            "prepare one yourself and name its interpreter: --base-python PATH",
        )


def _ask(python: Path, script: str) -> str:
    return subprocess.run([str(python), "-c", script], capture_output=True, text=True, check=True).stdout.strip()


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
