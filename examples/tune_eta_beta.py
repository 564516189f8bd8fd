"""Ray Tune over eta and beta: Optuna proposes, ASHA stops what falls behind, a picture shows it.

    python examples/tune_eta_beta.py results/quickstart/offline \\
        --dataset results/quickstart/cube-single-play-v0.npz
    python examples/tune_eta_beta.py ... --smoke    # every step once, nothing learned

eta and beta act online only, so all trials share the offline phase that
``examples/quickstart.py`` ran. Leave ``initial_checkpoint`` out and set ``offline_updates`` for
trials that do both phases. Writes trials.csv and search.png into --out. Needs the extras [search]
and [plots].
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import pandas as pd
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from rllib_fmq import FMQConfig
from rllib_fmq.cli.progress import ProgressCallback
from rllib_fmq.rollout.checkpoints import load_policy

SUCCESS = "evaluation/env_runners/success_rate"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/tune_eta_beta"))
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--steps", type=int, default=8_000, help="environment steps of a trial")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpus", type=int, default=2, help="one trial takes one")
    parser.add_argument("--smoke", action="store_true", help="every step once, nothing learned")
    args = parser.parse_args()
    trials, steps, episodes = (3, 40, 1) if args.smoke else (args.trials, args.steps, 20)
    rounds = 4  # evaluations of a trial, after each of which ASHA decides
    if steps < rounds or steps % rounds:
        parser.error(f"--steps {steps}: expected a multiple of {rounds}, one part an evaluation")
    name = time.strftime("search-%Y%m%d-%H%M%S")

    ray.init(
        num_cpus=args.cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    try:
        results = tune.Tuner(
            "FMQ",
            param_space=search_space(args, steps, steps // rounds, episodes),
            tune_config=tune.TuneConfig(
                metric=SUCCESS,
                mode="max",
                num_samples=trials,
                search_alg=OptunaSearch(seed=args.seed),
                scheduler=ASHAScheduler(max_t=rounds, grace_period=1, reduction_factor=2),
                max_concurrent_trials=args.cpus,
            ),
            run_config=tune.RunConfig(
                storage_path=str(args.out.resolve()),
                name=name,
                verbose=0,  # Tune's own reports print the whole config of the best trial each time
                callbacks=[ProgressCallback()],
            ),
        ).fit()
    finally:
        ray.shutdown()
    if results.errors:
        raise SystemExit(f"{len(results.errors)} of {len(results)} trials failed")
    table = pd.DataFrame([outcome(result, steps) for result in results])
    table = table.sort_values("success", ascending=False, ignore_index=True)
    table.to_csv(args.out / "trials.csv", index=False)
    draw(table, steps, args.out / "search.png")
    print(table.to_string(index=False, float_format="%.3f"))
    print(f"look at {args.out / 'search.png'}; curves: rllib plot {args.out / name}")


def search_space(args: argparse.Namespace, steps: int, round_steps: int, episodes: int) -> Any:
    """The config of all trials, with what is searched in it."""
    _, trained = load_policy(args.checkpoint)
    return (
        FMQConfig()
        .environment(trained.env, env_config=trained.env_config)
        # Trials run in folders of their own: paths must be absolute.
        .offline_data(dataset=str(args.dataset.resolve()))
        .training(
            eta=tune.loguniform(0.1, 3.0),
            beta=tune.uniform(0.0, 1.0),
            actor_hidden=trained.model_config["actor_hidden"],
            critic_hidden=trained.model_config["critic_hidden"],
            num_critics=trained.model_config["num_critics"],
            time_embedding_dim=trained.model_config["time_embedding_dim"],
            horizon_length=trained.model_config["horizon_length"],
            target_num_candidates=4,
            collection_num_candidates=4,
        )
        .phases(
            offline_updates=0,
            initial_checkpoint=str(args.checkpoint.resolve()),
            online_env_steps=steps,
            updates_per_iteration=round_steps,
            learning_starts=0,
        )
        .evaluation(evaluation_interval=1, evaluation_duration=episodes)
        .debugging(seed=args.seed)
    )


def outcome(result: Any, steps: int) -> dict[str, float | bool]:
    """One line of the table."""
    metrics = result.metrics
    learner = metrics["learners"]["default_policy"]
    return {
        "eta": result.config["eta"],
        "beta": result.config["beta"],
        "success": metrics["evaluation"]["env_runners"]["success_rate"],
        "env_steps": metrics["num_online_env_steps"],
        "stopped_early": metrics["num_online_env_steps"] < steps,
        "eta_eff": learner["eta_eff"],
        "displacement": learner["displacement"],
    }


def draw(table: pd.DataFrame, steps: int, path: Path) -> None:
    """eta against beta: colour is success, size how far ASHA let the trial go."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    points = axes.scatter(
        table["eta"],
        table["beta"],
        c=table["success"],
        s=40 + 260 * table["env_steps"] / steps,
        vmin=0,
        vmax=max(table["success"].max(), 0.1),
        cmap="viridis",
        edgecolors=["tab:red" if early else "black" for early in table["stopped_early"]],
        linewidths=1.5,
    )
    for rank, (eta, beta) in enumerate(zip(table["eta"], table["beta"], strict=True), start=1):
        axes.annotate(f" {rank}", (eta, beta), xytext=(6, 6), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel("eta: trust-region radius")
    axes.set_ylabel("beta: sensitivity to critic disagreement")
    axes.set_title("size: environment steps; red edge: stopped early by ASHA; number: rank")
    axes.title.set_fontsize(9)
    figure.colorbar(points, label="success rate at the last evaluation")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
