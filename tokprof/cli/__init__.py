"""The command line: parse, call, print, exit code; nothing else.

Every module of this package with a function `register(app)` adds its commands; heavy imports
(torch, transformers, pydantic) stay inside the commands, so that `tokprof --help` is instant.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import Annotated

import typer

from tokprof.errors import TokprofError

INTERRUPTED = 130


def _about(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from tokprof import __version__

        print(f"tokprof {__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    app = typer.Typer(
        name="tokprof",
        help="Measure what visual-token reduction really buys: time, memory, FLOPs, fidelity.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_about)
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name):
        register = getattr(importlib.import_module(f"{__name__}.{module.name}"), "register", None)
        if register is not None:
            register(app)
    return app


def main() -> None:
    """Entry point: the only place that turns a TokprofError into two lines and an exit code."""
    try:
        build_app()()
    except TokprofError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  try: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted; what was finished is written", file=sys.stderr)
        sys.exit(INTERRUPTED)
