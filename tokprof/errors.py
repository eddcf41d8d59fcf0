"""Errors for people: what is wrong, where, and what to do.

TokprofError
├── InputError            what the user typed or handed in
│   ├── UnknownNameError  no such model, method, recipe, convention …
│   ├── ParameterError    a value out of range or a parameter that does not exist
│   ├── WorkloadError     a picture, video, prompt or question file that cannot be used
│   ├── RecipeError       a recipe with mistakes, all of them listed
│   └── RecordError       a result file that is broken, foreign or of another version
├── UnsupportedError      a method that makes no sense on this model or setting
├── MachineError          the device is missing, too small, or went away
├── ParityError           our loop and Hugging Face's forward disagree: nothing else means anything
└── BrokenPromiseError    a policy did not do what it declared
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TokprofError(Exception):
    """One line that says what is wrong, one that says what to do. Exit code 2."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(TokprofError):
    pass


class UnknownNameError(InputError):
    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        if not hint:
            hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
        super().__init__(f"there is no {what} {name!r}", hint)


class ParameterError(InputError):
    pass


class WorkloadError(InputError):
    pass


class RecipeError(InputError):
    pass


class RecordError(InputError):
    pass


class UnsupportedError(TokprofError):
    pass


class MachineError(TokprofError):
    pass


class ParityError(TokprofError):
    pass


class BrokenPromiseError(TokprofError):
    pass
