"""Ray Tune over eta and beta: a 2 x 2 grid of online phases from one offline checkpoint.

    python examples/tune_eta_beta.py results/quickstart/offline \\
        --dataset results/quickstart/cube-single-play-v0.npz
    python examples/tune_eta_beta.py ... --smoke    # every step once, nothing learned

eta and beta act online only, so the four trials share the offline phase that
``examples/quickstart.py`` ran. Leave ``initial_checkpoint`` out and set ``offline_updates`` for
trials that do both phases.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ray
from ray import tune

from rllib_fmq import FMQConfig
from rllib_fmq.rollout.checkpoints import load_policy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/tune_eta_beta"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpus", type=int, default=2, help="one trial takes one")
    parser.add_argument("--smoke", action="store_true", help="every step once, nothing learned")
    args = parser.parse_args()
    steps, iterations, episodes = (20, 1, 1) if args.smoke else (12_000, 6, 20)

    _, trained = load_policy(args.checkpoint)
    config = (
        FMQConfig()
        .environment(trained.env)
        # Trials run in folders of their own: paths must be absolute.
        .offline_data(dataset=str(args.dataset.resolve()))
        .training(
            eta=tune.grid_search([0.3, 1.0]),
            beta=tune.grid_search([0.0, 0.3]),
            actor_hidden=trained.actor_hidden,
            critic_hidden=trained.critic_hidden,
            horizon_length=trained.horizon_length,
            target_num_candidates=4,
            collection_num_candidates=4,
        )
        .phases(
            offline_updates=0,
            initial_checkpoint=str(args.checkpoint.resolve()),
            online_env_steps=steps,
            updates_per_iteration=steps // iterations,
            learning_starts=0,
        )
        .evaluation(evaluation_interval=1, evaluation_duration=episodes)
        .debugging(seed=args.seed)
    )
    ray.init(
        num_cpus=args.cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    try:
        results = tune.Tuner(
            "FMQ",
            param_space=config,
            run_config=tune.RunConfig(
                storage_path=str(args.out.resolve()), name="grid", verbose=1 if args.smoke else 2
            ),
        ).fit()
    finally:
        ray.shutdown()
    if results.errors:
        raise SystemExit(f"{len(results.errors)} of {len(results)} trials failed")
    print(" eta  beta  success  displacement / eta_eff")
    for result in sorted(results, key=lambda r: (r.config["eta"], r.config["beta"])):
        learner = result.metrics["learners"]["default_policy"]
        print(
            f"{result.config['eta']:4.1f}  {result.config['beta']:4.1f}  "
            f"{result.metrics['evaluation']['env_runners']['success_rate']:7.2f}  "
            f"{learner['displacement']:.3f} / {learner['eta_eff']:.3f}"
        )
    print("curves: rllib plot", args.out / "grid")


if __name__ == "__main__":
    main()
