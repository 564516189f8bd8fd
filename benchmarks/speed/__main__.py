"""The speed suite: measure, print the tables, keep the numbers; or write them into the report.

    python -m benchmarks.speed                    # everything, 25 minutes at most
    python -m benchmarks.speed --only 'decision|replay' --minutes 5
    python -m benchmarks.speed --quick            # does everything run? no compiling, tiny sizes
    python -m benchmarks.speed --report           # docs/PERFORMANCE.md from the kept numbers

One process, one core, one thread. What is compared is timed interleaved, round by round.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from benchmarks.speed.process import one_thread

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "PERFORMANCE.md"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=15, help="at most, default 15")
    parser.add_argument("--minutes", type=float, default=25.0, help="in all, about; default 25")
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="groups, a regular expression"
    )
    parser.add_argument("--list", action="store_true", help="print the groups' names and stop")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, two rounds, no compiling")
    parser.add_argument("--core", type=int, help="which one; default: the last")
    parser.add_argument(
        "--clock", choices=("cpu", "wall"), default="cpu", help="of the ratios, default cpu"
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=ROOT / "results" / "bench.json",
        metavar="FILE",
        help="where the numbers are kept, default results/bench.json",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="measure nothing: write the tables of --document from --json",
    )
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="with --report")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    args = parse(arguments)
    one_thread(args.core)
    from benchmarks.speed.report import render, write_into
    from benchmarks.speed.results import Results

    if args.report:
        write_into(args.document, Results.read(args.json, args.clock))
        return
    from benchmarks.speed.suite import Options, Suite

    rounds = min(args.rounds, 2) if args.quick else args.rounds
    suite = Suite(Options(rounds, args.minutes, args.only, args.quick))
    if args.list:
        print("\n".join(suite.names()))
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    results = suite.run()
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(f"\n{render(Results(results, args.clock))}\n\nnumbers: {args.json}")
    if suite.failed:
        raise SystemExit(f"failed: {', '.join(suite.failed)}")


if __name__ == "__main__":
    main()
