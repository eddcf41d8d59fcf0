"""Flags that several commands share, turned into parts of a recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import typer

from tokprof.errors import InputError, ParameterError

KEEP = typer.Option(help="Share of visual tokens to keep; several with commas.")
TOKENS = typer.Option(help="Instead: visual tokens on the mean over layers.")
SET = typer.Option("--set", help="A method's own parameter, name=value or method.name=value.")

Part = TypeVar("Part")


def words(text: str | None, flag: str = "") -> list[str]:
    """ "todre, fastv" → ["todre", "fastv"]; an empty or repeated one is a slip of the pen (or an unset variable)."""
    if text is None:
        return []
    found = [word.strip() for word in text.split(",")]
    if not all(found):
        raise ParameterError(f"{flag} {text!r}: something is missing", f"give it a value, or leave {flag} out")
    twice = [word for index, word in enumerate(found) if word in found[:index]]
    if twice:
        raise ParameterError(f"{flag} {text!r}: {twice[0]} is there twice", "once is enough")
    return found


def numbers(text: str | None, flag: str, kind: type = float) -> list[Any]:
    """ "0.25,0.1" → [0.25, 0.1]; anything else says which flag and what it wants."""
    found = []
    for word in words(text, flag):
        try:
            number = kind(word)
            if not math.isfinite(number):
                raise ValueError("no finite number")
            found.append(number)
        except (ValueError, OverflowError) as error:
            example = "20" if kind is int else "0.25"
            raise ParameterError(f"{flag}: {word!r} is not a number", f"for example {flag} {example}") from error
    return found


def size(text: str | None, flag: str) -> tuple[int, int] | None:
    """ "640x480" → (640, 480)"""
    if text is None:
        return None
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(_pixels(part) for part in parts):
        raise ParameterError(f"{flag}: {text!r} is not a size in pixels", f"width x height, for example {flag} 640x480")
    return int(parts[0]), int(parts[1])


def _pixels(text: str) -> bool:
    return text.strip().isdecimal() and len(text) < 9 and 0 < int(text) <= 65536


def assignments(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """["tau=0.05", "fastv.layer=3"] → {"": {"tau": 0.05}, "fastv": {"layer": 3}}; "" is for every method."""
    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise ParameterError(
                f"--set {pair!r} is not name=value", "for example --set tau=0.05, or --set fastv.layer=3"
            )
        method, _, parameter = name.strip().rpartition(".")
        if parameter in found.setdefault(method, {}):
            raise ParameterError(f"--set {name.strip()} is given twice", "once is enough")
        found[method][parameter] = parsed(value.strip())
    return found


def parsed(value: str) -> Any:
    """A number, true/false, none, or the text itself."""
    constants = {"true": True, "false": False, "none": None}
    if value.lower() in constants:
        return constants[value.lower()]
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def method_grid(
    methods: Sequence[str], keeps: Sequence[float], settings: dict[str, dict[str, Any]]
) -> list[tuple[str, dict[str, Any]]]:
    """Every method at every budget: (name, parameters). Settings for methods that are not there are mistakes."""
    strangers = sorted(set(settings) - {""} - set(methods))
    if strangers:
        raise InputError(f"--set {strangers[0]}.…: that method is not in --method", f"add --method {strangers[0]}")
    grid = []
    for name in methods:
        own = {**settings.get("", {}), **settings.get(name, {})}
        for keep in keeps or (None,):
            grid.append((name, own if keep is None else {"keep": keep, **own}))
    return grid


def validated(kind: type[Part], values: dict[str, Any], command: str) -> Part:
    """A part of the recipe; what is wrong with it is said in the words of the command line."""
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if first["loc"]:  # without a place it is the parts together that make no sense
            flag = "--" + str(first["loc"][0]).replace("images", "image").replace("_", "-")
            message = f"{flag} {first['input']!r}: {message[0].lower()}{message[1:]}"
        raise ParameterError(message, f"`tokprof {command} --help` shows what fits") from error
