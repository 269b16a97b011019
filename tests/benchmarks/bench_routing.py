"""How well routers of every kind choose, on real results of other people's models; and how fast. One table of each.

    COSTGUARD_DATA=path/to/data python tests/benchmarks/bench_routing.py [dev|heldout] [KIND]...

A KIND is ``learnt``, ``cascade``, ``semantic``, ``affinity`` or ``speed`` alone; without one, all of them.
One configuration for all of it, that of the package. On ``dev``: cross-validation, so that nothing is judged by what it
was learnt from. What is known of others, or of simple rules, is beside it. The modules beside this one say what each
figure is.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

# One vector is no work for several threads: where the machine is busy, they wait for each other.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import routing_affinity  # noqa: E402
import routing_cascade  # noqa: E402
import routing_learnt  # noqa: E402
import routing_semantic  # noqa: E402
import routing_speed  # noqa: E402

from langchain_costguard.observe.tables import table  # noqa: E402

KINDS = {
    "learnt": routing_learnt.rows,
    "cascade": routing_cascade.rows,
    "semantic": routing_semantic.rows,
    "affinity": routing_affinity.rows,
}


def main() -> int:
    words = sys.argv[1:]
    part = next((word for word in words if word in ("dev", "heldout")), "dev")
    kinds = [kind for kind in KINDS if kind in words] or ([] if "speed" in words else list(KINDS))
    rows = []
    data = bool(os.environ.get("COSTGUARD_DATA"))
    if data:
        for kind in kinds:
            start = time.perf_counter()
            rows += list(KINDS[kind](part))
            print(f"{kind}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    if rows:
        print(f"Routing, {part} part\n")
        print(table(["data set, prompts", "measure", "known", "result", "target"], rows, left=5))
    elif not data:
        print("The public data are not here: set COSTGUARD_DATA to their folder. No router was measured.")
    print("\nOne decision, microseconds: the median, and what 99 of 100 stay under\n")
    print(table(["router", *routing_speed.HEADER, "target"], list(routing_speed.rows()), left=1))
    print(f"\n{routing_speed.note()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
