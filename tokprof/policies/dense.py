"""Dense: the model as it is, the baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokprof.errors import ParameterError
from tokprof.policies.base import Policy


@dataclass(frozen=True, kw_only=True)
class Dense(Policy):
    """Every visual token through every layer. It has no parameters; `keep` can only be 1."""

    name: ClassVar[str] = "dense"
    acts: ClassVar[str] = "nowhere"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep != 1.0:
            raise ParameterError(
                f"dense keeps every token, not a share of {self.keep:g}",
                "leave it out: it is measured beside every method anyway",
            )
