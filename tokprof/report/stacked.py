"""A table that goes on below itself where the terminal is too narrow, instead of cutting its columns. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

GAP = 1
LONGEST_LABEL = 40


class Stacked:
    """Labels on the left of every piece, right-aligned columns; pieces break between columns."""

    def __init__(self, first: str, titles: Sequence[str]) -> None:
        self._first, self._titles = first, list(titles)
        self._rows: list[tuple[str, Sequence[str], str]] = []

    def add(self, label: str, *cells: str, style: str = "") -> None:
        assert len(cells) in (0, len(self._titles)), "a row has all cells, or is only a label"
        self._rows.append((label, cells or [""] * len(self._titles), style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for piece, columns in enumerate(self._pieces(options.max_width)):
            if piece:
                yield Text("")
            table = Table(box=SIMPLE_HEAD, padding=(0, GAP, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
            table.add_column(self._first, overflow="fold", max_width=LONGEST_LABEL)
            for column in columns:
                table.add_column(self._titles[column], justify="right", no_wrap=True)
            for label, cells, style in self._rows:
                table.add_row(Text(label), *(cells[column] for column in columns), style=style)
            yield table

    def _pieces(self, width: int) -> list[list[int]]:
        labels = max(len(text) for text in (self._first, *(label for label, _, _ in self._rows)))
        room = width - min(labels, LONGEST_LABEL) - GAP
        pieces: list[list[int]] = [[]]
        used = 0
        for column, title in enumerate(self._titles):
            wide = max(len(text) for text in (title, *(cells[column] for _, cells, _ in self._rows))) + GAP + 1
            if pieces[-1] and used + wide > room:
                pieces.append([])
                used = 0
            pieces[-1].append(column)
            used += wide
        return pieces
