"""Measure how often the scripted demonstrators succeed; prints a markdown table.

python benchmarks/scripted_success.py --episodes 50 --num-workers 2
"""

from __future__ import annotations

import argparse

import numpy as np

from rllib_fmq.analysis.intervals import wilson_interval
from rllib_fmq.data.generation.demonstrate import attempt_outcomes, generated_demonstrations
from rllib_fmq.data.generation.scripted_arm import TIERS


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=generated_demonstrations())
    parser.add_argument("--tiers", nargs="+", default=list(TIERS))
    parser.add_argument("--episodes", type=int, default=50, help="attempts per task and tier")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-workers", type=int, default=0)
    given = parser.parse_args()
    print("| task | tier | attempts | success rate | 95% interval | steps of a success |")
    print("|---|---|---|---|---|---|", flush=True)
    for task in given.tasks:
        for tier in given.tiers:
            outcomes = attempt_outcomes(
                task,
                tier,
                episodes=given.episodes,
                seed=given.seed,
                num_workers=given.num_workers,
                progress=True,
            )
            steps = [length for success, length in outcomes if success]
            low, high = wilson_interval(len(steps), len(outcomes))
            print(
                f"| {task} | {tier} | {len(outcomes)} | {len(steps) / len(outcomes):.2f} "
                f"| [{low:.2f}, {high:.2f}] | {np.median(steps) if steps else float('nan'):.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
