"""Two processes that measure at the same time, round by round in turns: what the machine does meanwhile befalls both.

A pair of rounds is one turn. Whoever has the turn measures, the other waits in silence; each tells with the turn
whether it has enough, and both stop together, after equally many pairs. (One that is set aside on one side shifts the
neighbours that follow by one: the comparison is still true, and less sharp.)
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass

PLACE = "TOKPROF_TURNS"  # environment variable: which of the two, and the pipes' file descriptors
FIRST, SECOND = "first", "second"
MORE, ENOUGH = b"m", b"e"


@dataclass(frozen=True)
class Turn:
    """Which of the two a process is, and the pipes that it inherits."""

    side: str
    hears: int
    tells: int

    def __str__(self) -> str:
        return f"{self.side}:{self.hears}:{self.tells}"


def two_turns() -> tuple[Turn, Turn]:
    """For two sides that are to hear each other; whoever asks closes the pipes' ends."""
    first_hears, second_tells = os.pipe()
    second_hears, first_tells = os.pipe()
    return Turn(FIRST, first_hears, first_tells), Turn(SECOND, second_hears, second_tells)


class Alone:
    """Nobody to wait for."""

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """From before the first round until after the last one of both."""
        yield

    def take(self) -> None:
        """Wait for the turn, unless it is here."""

    def pass_on(self, *, enough: bool) -> bool:
        """The turn goes to the other side. Whether both have enough."""
        return enough

    def share_core(self) -> None:
        """A process with one thread stays on one core from here on, the same as the other's."""


class Turns(Alone):
    """The sides talk through two pipes. One that is gone (its end of the pipe is closed) is not waited for."""

    def __init__(self, turn: Turn) -> None:
        self._first, self._hears, self._tells = turn.side == FIRST, turn.hears, turn.tells
        self._here = self._alone = self._other_has_enough = False

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        self._tell(MORE)  # ready
        self._hear()
        self._here, self._other_has_enough = self._first, False
        try:
            yield
        except BaseException:
            self._leave()
            raise
        self.pass_on(enough=True)  # and the first waits for the second's last turn

    def take(self) -> None:
        if not self._here:
            self._other_has_enough = self._hear() == ENOUGH
            self._here = True

    def pass_on(self, *, enough: bool) -> bool:
        self._tell(ENOUGH if enough else MORE)
        self._here = False
        if self._first:  # the other's pair completes this one's
            self.take()
        return enough and (self._other_has_enough or self._alone)

    def share_core(self) -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    def _leave(self) -> None:
        self._alone = True
        for end in (self._hears, self._tells):
            os.close(end)

    def _tell(self, word: bytes) -> None:
        if not self._alone:
            try:
                os.write(self._tells, word)
            except OSError:
                self._alone = True

    def _hear(self) -> bytes:
        word = b"" if self._alone else os.read(self._hears, 1)
        self._alone = not word
        return word


@functools.cache
def turns_of_this_process() -> Alone:
    """As whoever started this process has it; what this one starts measures alone."""
    told = os.environ.pop(PLACE, None)
    if told is None:
        return Alone()
    side, hears, tells = told.split(":")
    return Turns(Turn(side, int(hears), int(tells)))
