"""Run some recipes on the demo model and put their records into reports/recipes; `make docs` makes the pages.

    python scripts/build_reports.py [--rounds 20] [--out reports/recipes] [NAME …]

Give it a quiet machine. It can be killed and started again: what is measured
already (results/reports) is not measured a second time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from tokprof.demo_size import at_demo_size
from tokprof.recipe import Recipe
from tokprof.recipe_file import bundled, matched, parse_recipe
from tokprof.record import Failure, write_records
from tokprof.sweep import Entry, Listener, Store, Sweep, cells_of, run

ROOT = Path(__file__).parents[1]
NAMES = (
    "budgets", "output-length", "batch", "todre-table3", "visiondrop-table4", "v2drop-table4", "hidivdrop-table2",
)  # fmt: skip
MOST = {"batch": 4, "new_tokens": 64, "image_count": 2}  # so much the demo does in reasonable time


def recipe_at_demo_size(name: str, rounds: int) -> Recipe:
    small = at_demo_size(parse_recipe(bundled()[name]), MOST)
    enough = {"rounds": rounds, "warmup_rounds": min(3, rounds), "timeout": 60.0}
    return matched(small.model_copy(update={"measurement": small.measurement.model_copy(update=enough)}))


def say(entry: Entry) -> None:
    reason = f": {entry.reason}" if isinstance(entry, Failure) else ""
    print(f"  {entry.cell.method.name} {entry.cell.method.parameters}{reason}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "recipes")
    parser.add_argument("--scratch", type=Path, default=ROOT / "results" / "reports")
    asked = parser.parse_args()
    subprocess.run([sys.executable, "-m", "tokprof", "device", "cpu"], check=True)  # ceilings, for the roofline
    for name in asked.names:
        began = time.monotonic()
        sweep = Sweep(cells_of([recipe_at_demo_size(name, asked.rounds)]), Store(asked.scratch / name), retry=True)
        print(f"{name}: {len(sweep.open)} of {len(sweep.cells)} cells to measure", flush=True)
        run(sweep, Listener(on_done=say))
        found = sweep.results()
        write_records(asked.out / f"{name}.json", found.records, found.failures)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
