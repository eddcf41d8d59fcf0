"""Memory on a CPU, of a process that measures."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # glibc's names for what mallopt sets
SPARE = 1 << 26  # bytes fetched beyond what is asked for


def keep_freed_memory() -> bool:
    """From here on, what is freed stays with the process, as CUDA's allocator has it. Whether that could be had.

    glibc hands large pieces back and fetches them anew, a page fault for every 4 KiB: in some processes and not in
    others, and not always from the first round on, which made runs of the same code differ by a fifth.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False  # no glibc
    return all(mallopt(name, value) for name, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1), (TOP_PAD, SPARE)))
