"""From nothing to a policy that improved online: dataset, offline phase, online phase, evaluation.

    python examples/quickstart.py            # reduced scale; about an hour on two CPU cores
    python examples/quickstart.py --smoke    # every step once, nothing learned

The networks, the number of candidates and the phases are a fraction of the paper's, which are the
defaults of ``FMQConfig()`` and in ``tuned_examples/fmq_cube_single.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ray

from rllib_fmq import FMQConfig
from rllib_fmq.data.generation.generate import generate_dataset

TASK = "cube-single-play-singletask-task2-v0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("results/quickstart"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="every step once, nothing learned")
    args = parser.parse_args()
    width, scale, episodes = (16, 0.002, 1) if args.smoke else (256, 1.0, 50)

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    dataset = args.out / "cube-single-play-v0.npz"
    if not dataset.exists():
        generate_dataset(TASK, dataset, steps=int(100_000 * scale), seed=args.seed)

    config = (
        FMQConfig()
        .environment(TASK)
        .offline_data(dataset=str(dataset))
        .training(
            eta=1.0,
            beta=0.3,
            actor_hidden=(width,) * 3,
            critic_hidden=(width,) * 3,
            target_num_candidates=4,
            collection_num_candidates=4,
            diagonal_warmup_updates=int(1_000 * scale),
            interval_anneal_end=int(8_000 * scale),
        )
        .phases(
            offline_updates=int(15_000 * scale),
            online_env_steps=int(12_000 * scale),
            updates_per_iteration=int(1_000 * scale) or 1,
            learning_starts=int(500 * scale),
        )
        .evaluation(evaluation_interval=15, evaluation_duration=episodes)
        .debugging(seed=args.seed)
    )
    algo = config.build_algo()
    try:
        while algo.phase != "finished":
            result = algo.train()
            line = (
                f"{result['phase']:8} {result['num_updates']:6} updates "
                f"{result['num_online_env_steps']:6} steps"
            )
            if result["evaluated_this_iteration"]:
                line += f", success {result['evaluation']['env_runners']['success_rate']:.2f}"
            print(line)
            if result["phase"] != algo.phase:  # a phase ended: keep its policy
                folder = (args.out / result["phase"]).resolve()
                print("checkpoint:", algo.save_to_path(str(folder)))
    finally:
        algo.stop()
        ray.shutdown()


if __name__ == "__main__":
    main()
