"""The command line: parse, call, print, exit code; nothing else.

Every module of this package with a function `register(app)` adds its commands; heavy imports
(torch, transformers, pydantic) stay inside the commands, so that `tokprof --help` is instant.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import signal
import sys
from typing import Annotated, NoReturn

import typer

from tokprof.errors import RecipeError, TokprofError

INTERRUPTED = 130
PIPE_CLOSED = 141  # what a shell reports of a program that SIGPIPE ended
UsageError = typer.BadParameter.__mro__[1]  # click's, or that of the click inside typer


def _about(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from tokprof import __version__

        print(f"tokprof {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def build_app() -> typer.Typer:
    app = typer.Typer(
        name="tokprof",
        help="Measure what visual-token reduction really buys: time, memory, FLOPs, fidelity.",
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
    """Entry point: the only place that turns what went wrong into two lines and an exit code."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  (closed by the caller: nobody reads)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # child processes and scratch folders go, too
    try:
        code = build_app()(standalone_mode=False, prog_name="tokprof")
        sys.stdout.flush()
    except TokprofError as error:
        listed = isinstance(error, RecipeError)  # line by line
        _fail(error.message if listed else _one_line(error.message), error.hint, error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):
            _nobody_reads()
        raise
    except BrokenPipeError:
        _nobody_reads()
    except OSError as error:
        _forget_stdout()
        _fail(f"{error.filename or 'the output'}: {error.strerror or error}", "check the path and the room on the disk")
    except MemoryError:
        _fail("out of memory", "lower --batch, --frames or the size of the pictures")
    except Exception as error:
        message, hint = _explained(error)
        _fail(_one_line(message), hint)
    if code == INTERRUPTED:
        print("interrupted; what was finished is written", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, hint: str, code: int = 2) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"  try: {hint}", file=sys.stderr)
    sys.exit(code)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _explained(error: Exception) -> tuple[str, str]:
    """Mistakes on the command line and in a user's own policy; everything else is ours, and its traceback is wanted."""
    if isinstance(error, UsageError):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "tokprof"
        said: str = error.format_message()  # type: ignore[attr-defined]
        return said, f"{command} --help"
    from tokprof import policies

    place = policies.place_in_own_file(error)
    if place is None:
        raise error
    return f"{place}: {type(error).__name__}: {error}", "mend that line; docs/adding-a-method.md has a complete example"


def _nobody_reads() -> NoReturn:
    _forget_stdout()
    sys.exit(PIPE_CLOSED)


def _forget_stdout() -> None:
    """What is still buffered cannot be written; the interpreter would complain about it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
