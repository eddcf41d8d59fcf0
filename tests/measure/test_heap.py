"""What a process freed on a CPU stays with it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tokprof.measure.heap import keep_freed_memory

SCRIPT = """
import resource, sys
from tokprof.measure.heap import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    before = faults()
    piece = bytearray(b"x") * (64 << 20)
    del piece
print(faults() - before)
"""


def faults_of_the_third_piece(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone can be told")
def test_memory_is_not_fetched_anew() -> None:
    pages = (64 << 20) // 4096
    assert faults_of_the_third_piece("keep") < pages // 100
    assert faults_of_the_third_piece("hand back") > 2  # as large pages or small ones


def test_another_libc_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokprof.measure.heap.ctypes.CDLL", lambda name: object())
    assert keep_freed_memory() is False
