"""One method = one file = one name: `policies/fastv.py` is `--method fastv`.

Nothing is listed by hand. A file of the user's own (`--method ./mine.py`) and the entry point
`tokprof.policies` of an installed package are found in the same way.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, TracebackType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tokprof.errors import InputError, ParameterError, UnknownNameError
from tokprof.policies.base import Need, Policy

ENTRY_POINTS = "tokprof.policies"
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "nothing"}
OWN_FILE = "tokprof_policy_"  # how modules of a user's own files are called


def _own_policy(module: ModuleType) -> type[Policy] | None:
    """The policy class that a module defines itself (not one it imported)."""
    found = [value for value in vars(module).values() if _is_policy(value) and value.__module__ == module.__name__]
    return found[-1] if found else None


def _is_policy(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Policy) and isinstance(value.name, str) and value.name != ""


def names() -> list[str]:
    """Every method on this machine."""
    own = [m.name for m in pkgutil.iter_modules(__path__) if _defines_policy(m.name)]
    return sorted({*own, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def _defines_policy(module: str) -> bool:
    return _own_policy(importlib.import_module(f"{__name__}.{module}")) is not None


def find(name: str) -> type[Policy]:
    """The class behind a method's name, or behind a path to a Python file that defines one."""
    if name.endswith(".py") or "/" in name:
        return _from_file(Path(name))
    module = name.replace("-", "_").replace("+", "_plus")
    if module.isidentifier() and importlib.util.find_spec(f"{__name__}.{module}"):
        policy = _own_policy(importlib.import_module(f"{__name__}.{module}"))
        if policy is not None:
            return policy
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            loaded: type[Policy] = point.load()
            return loaded
    raise UnknownNameError("method", name, names(), "")


def _from_file(path: Path) -> type[Policy]:
    if not path.is_file():
        raise InputError(f"no file {path}", "give the path of a Python file that defines one Policy class")
    module_name = f"{OWN_FILE}{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file", "its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's file raises is the user's to read
        raise InputError(
            f"{path} cannot be loaded: {type(error).__name__}: {error}", "run it with python to see where"
        ) from error
    policy = _own_policy(module)
    if policy is None:
        raise InputError(f"{path} defines no policy", "see docs/adding-a-method.md for a complete example")
    for wrong in (name for name in ("needs", "optional") if not _are_needs(getattr(policy, name))):
        raise InputError(f"{path}: `{wrong}` is no frozenset of Need", "such as frozenset({Need.PATCH_FEATURES})")
    return policy


def _are_needs(declared: object) -> bool:
    return isinstance(declared, frozenset) and all(isinstance(need, Need) for need in declared)


def place_in_own_file(error: BaseException) -> str | None:
    """Where in a user's own file (`--method ./mine.py`) something was raised, if it was."""
    places = [
        f"{frame.tb_frame.f_code.co_filename} line {frame.tb_lineno}"
        for frame in _frames(error)
        if frame.tb_frame.f_globals.get("__name__", "").startswith(OWN_FILE)
    ]
    return places[-1] if places else None


def is_own_file(policy: Policy) -> bool:
    return type(policy).__module__.startswith(OWN_FILE)


def _frames(error: BaseException) -> Iterator[TracebackType]:
    frame = error.__traceback__
    while frame is not None:
        yield frame
        frame = frame.tb_next


def _check_kind(policy: type[Policy], parameter: str, value: Any) -> None:
    """That a plain parameter got a value of its kind; lists and choices are the method's own to read."""
    try:
        hint = get_type_hints(policy)[parameter]
    except (NameError, TypeError):  # annotations of a user's file that only a type checker can read
        return
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    plain = tuple(kind for kind in kinds if kind in KINDS)
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if not plain or len(plain) + bool(choices) < len(kinds):
        return
    if type(value) not in plain and not (type(value) is int and float in plain) and value not in choices:
        words = [*(KINDS[kind] for kind in plain), *map(str, choices)]
        raise ParameterError(f"{policy.name}: {parameter}={value!r}", f"it takes {' or '.join(words)}")


def build(name: str, /, **parameters: Any) -> Policy:
    """A policy with its parameters checked; unknown ones are answered with the list of known ones."""
    policy = find(name)
    known = {f.name: f for f in fields(policy)}
    for parameter in parameters:
        if parameter not in known:
            raise ParameterError(f"{policy.name} has no parameter {parameter!r}", f"it has {', '.join(sorted(known))}")
        _check_kind(policy, parameter, parameters[parameter])
    try:
        return policy(**parameters)
    except TypeError as error:
        raise ParameterError(f"{policy.name} cannot be built: {error}", "give its parameters with --set") from error
