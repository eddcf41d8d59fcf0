"""One line on stderr that says what is going on; silent when nobody looks."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class ProgressLine:
    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("starting")

    def __enter__(self) -> ProgressLine:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, stage: str, rounds: int) -> None:
        self._progress.update(self._task, description=f"{stage} · round {rounds}" if rounds else stage)

    def note(self, note: str) -> None:
        """Something the user has to know, terminal or not."""
        self._progress.console.print(f"note: {note}", markup=False, soft_wrap=True)
