"""Kill real jobs at random moments, resume them, and compare.

    python -m benchmarks.chaos --output results/chaos

Results are appended to OUTPUT/kills.jsonl as soon as a job is over; jobs whose results are there
are not run again. In the end OUTPUT/table.md and OUTPUT/table.json are written, and with
`--document docs/ROBUSTNESS.md` the table goes there as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.chaos.cases import Case, plan, run
from benchmarks.chaos.table import markdown, summarise
from benchmarks.marked import write_parts
from rllib_fmq.atomic import replacing


def main() -> int:
    """Run what is missing; 1 if a kill was not survived, or not carried out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("results/chaos"))
    parser.add_argument("--short", action="store_true", help="8 kills")
    parser.add_argument("--jobs", type=int, default=1, help="at a time")
    parser.add_argument("--only", default="", help="jobs whose name holds this")
    parser.add_argument("--at-most", type=int, default=1000, help="jobs; the rest another time")
    parser.add_argument("--document", type=Path, help="write the table into it")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    results = output / "kills.jsonl"
    planned = plan(arguments.short)
    over = {kill["case"] for kill in read(results)}
    missing = [case for case in planned if case.name not in over and arguments.only in case.name][
        : arguments.at_most
    ]
    lock, started = Lock(), time.monotonic()

    def work(case: Case) -> str:
        kills, problem = run(case, output)
        with lock, open(results, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(kill) + "\n" for kill in kills)
            minutes = (time.monotonic() - started) / 60
            print(
                f"{minutes:5.1f} min  {case.name}: {len(kills)} of {len(case.kills)} kills, "
                f"{problem or 'all recovered'}",
                flush=True,
            )
        return problem

    with ThreadPoolExecutor(arguments.jobs) as pool:
        problems = list(pool.map(work, missing))
    kills = read(results)
    rows = summarise(kills)
    for name, text in (("table.md", markdown(rows)), ("table.json", json.dumps(rows, indent=1))):
        with replacing(output / name) as path:
            path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    if arguments.document:
        number = sum(len(case.kills) for case in planned)
        text = f"{len(kills)} of {number} kills were carried out:\n\n{markdown(rows).strip()}"
        write_parts(arguments.document, {"kills": text})
    print(markdown(rows))
    done = Counter(kill["case"] for kill in kills)
    missed = [c.name for c in planned if done[c.name] < len(c.kills)]
    if missed:
        print(f"not all of their kills were carried out: {', '.join(missed)}")
    return int(bool(missed) or any(problems) or not all(kill["recovered"] for kill in kills))


def read(results: Path) -> list[dict[str, Any]]:
    """The kills so far."""
    if not results.is_file():
        return []
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    sys.exit(main())
