"""Which methods nothing else beats in both figures at once."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]], x_higher: bool, y_higher: bool) -> list[int]:
    """Indices of the Pareto front, from the best x on; of equal points the first."""
    signed = [(x if x_higher else -x, y if y_higher else -y) for x, y in points]
    order = sorted(range(len(points)), key=lambda index: (-signed[index][0], -signed[index][1], index))
    found: list[int] = []
    for index in order:
        if not found or signed[index][1] > signed[found[-1]][1]:
            found.append(index)
    return found
