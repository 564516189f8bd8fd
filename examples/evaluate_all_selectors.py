"""One checkpoint, all selectors, the same episodes: what search at evaluation buys, and costs.

    python examples/evaluate_all_selectors.py results/quickstart/online --episodes 50 --workers 2

``sample``, ``best_of_n`` and ``qgbs`` jump along the flow map, so they fit FMQ, QGBS and MVP;
``euler`` follows the diagonal: for QC, and for MVP or FMQ after the offline phase. The online phase
of FMQ does not train the diagonal (D16 in docs/DEPARTURES.md); its ``euler`` row shows the effect.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rllib_fmq.analysis.intervals import wilson_interval
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.rollout.checkpoints import (
    check_selector,
    evaluate_checkpoint,
    load_policy,
)
from rllib_fmq.rollout.evaluation import summarise
from rllib_fmq.seeds import FINAL_EVALUATION_SEED

SELECTORS = {
    "sample": SelectorSettings(kind="sample"),
    "best of 4": SelectorSettings(kind="best_of_n", num_candidates=4),
    "best of 32": SelectorSettings(kind="best_of_n", num_candidates=32),
    "euler, best of 32": SelectorSettings(kind="euler", euler_steps=10, num_candidates=32),
    "qgbs M=4 K=0": SelectorSettings(kind="qgbs", beam_width=4, search_iters=0),
    "qgbs M=4 K=1 B=4": SelectorSettings(kind="qgbs", beam_width=4, search_iters=1, branches=4),
    "qgbs M=4 K=2 B=4": SelectorSettings(kind="qgbs", beam_width=4, search_iters=2, branches=4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("checkpoint", type=Path, help="checkpoint, trial or experiment folder")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=FINAL_EVALUATION_SEED)
    parser.add_argument("--workers", type=int, default=0, help="Ray processes; 0: this process")
    args = parser.parse_args()

    _, record = load_policy(args.checkpoint)
    seeds = range(args.seed, args.seed + args.episodes)
    print(f"{record.algorithm} on {record.env}, {args.episodes} episodes")
    print(f"{'selector':18} {'NFE':>4} {'ms':>6} {'steps':>6} {'success':>8}  95% interval")
    for name, selector in SELECTORS.items():
        try:
            check_selector(record, selector)
        except ValueError:
            print(f"{name:18} does not fit this policy")
            continue
        outcomes = evaluate_checkpoint(args.checkpoint, selector, seeds, args.workers)
        summary = summarise(outcomes)
        successes = sum(bool(outcome.success) for outcome in outcomes)
        low, high = wilson_interval(successes, len(outcomes))
        print(
            f"{name:18} {selector.nfe:4} {summary['planning_latency_ms']:6.1f} "
            f"{summary['episode_len_mean']:6.1f} {successes / len(outcomes):8.2f}  "
            f"{low:.2f} to {high:.2f}"
        )


if __name__ == "__main__":
    main()
