"""FMQ piece by piece: an online phase from a trained checkpoint, its metrics, acting by hand.

    python examples/fmq_in_python.py results/quickstart/offline \\
        --dataset results/quickstart/cube-single-play-v0.npz
    python examples/fmq_in_python.py ... --smoke    # every step once, nothing learned

The checkpoint may be one of FMQ, QGBS or MVP (``examples/quickstart.py`` makes one); the run takes
its networks and optimiser from there, and everything else from its own config.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import ray
import torch

from rllib_fmq import FMQConfig
from rllib_fmq.data import unscale_actions
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.nn import FlowMapModule
from rllib_fmq.rollout.checkpoints import load_policy
from rllib_fmq.rollout.evaluation import evaluate_episodes, summarise
from rllib_fmq.tasks.registry import make_env


def adapt(checkpoint: Path, dataset: Path, out: Path, steps: int, seed: int) -> Path:
    """Run an online phase of ``steps`` environment steps and return its checkpoint."""
    _, trained = load_policy(checkpoint)
    config = (
        FMQConfig()
        .environment(trained.env)
        .offline_data(dataset=str(dataset))  # stays in the replay beside the new transitions
        .training(
            eta=1.0,
            actor_hidden=trained.model_config["actor_hidden"],
            critic_hidden=trained.model_config["critic_hidden"],
            horizon_length=trained.model_config["horizon_length"],
            target_num_candidates=4,
            collection_num_candidates=4,
        )
        .phases(
            offline_updates=0,
            initial_checkpoint=str(checkpoint),
            online_env_steps=steps,
            updates_per_iteration=max(1, steps // 10),
            learning_starts=0,
        )
        .evaluation(evaluation_interval=None)  # done by hand, below
        .debugging(seed=seed)
    )
    algo = config.build_algo()
    try:
        while algo.phase != "finished":
            result = algo.train()
            learner = result["learners"]["default_policy"]
            print(
                f"{result['num_online_env_steps']:6} steps: "
                f"displacement {learner['displacement']:.3f} of {learner['eta_eff']:.3f}, "
                f"loss {learner['q_guidance_loss']:.4f}, Q {learner['q_mean']:.2f}"
            )
        return Path(algo.save_to_path(str((out / "fmq").resolve())))
    finally:
        algo.stop()


def act(policy: FlowMapModule, env_name: str, selector: SelectorSettings, seed: int) -> None:
    """One episode by hand: plan a chunk of H actions, execute it, plan again."""
    env = make_env(env_name)
    obs, _ = env.reset(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    steps, done = 0, False
    while not done:
        batch = torch.as_tensor(np.asarray(obs, np.float32)).unsqueeze(0)
        chunk = (
            policy.plan(batch, selector, generator).actions.view(policy.horizon_length, -1).numpy()
        )
        for action in unscale_actions(chunk, env.action_space.low, env.action_space.high):
            obs, _, terminated, truncated, info = env.step(action)
            steps += 1
            done = terminated or truncated
            if done:  # the rest of the chunk is dropped
                break
    print(f"episode of {steps} steps, success {info['success']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/fmq_in_python"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="every step once, nothing learned")
    args = parser.parse_args()

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    steps, episodes = (20, 1) if args.smoke else (12_000, 20)
    checkpoint = adapt(args.checkpoint, args.dataset, args.out, steps, args.seed)
    ray.shutdown()

    # Evaluation needs neither Ray nor a dataset.
    seeds = range(2_000_000_000, 2_000_000_000 + episodes)
    search = SelectorSettings(kind="qgbs", beam_width=4, search_iters=1, branches=4, eta=0.3)
    for name, path in (("before", args.checkpoint), ("after", checkpoint)):
        policy, record = load_policy(path)
        for selector in (policy.evaluation_selector, search):
            env = make_env(record.env)
            summary = summarise(evaluate_episodes(policy, env, seeds, selector))
            print(
                f"{name:6} {selector.kind:9} NFE {selector.nfe:3}: success "
                f"{summary['success_rate']:.2f}, {summary['episode_len_mean']:.0f} steps, "
                f"{summary['planning_latency_ms']:.1f} ms a decision"
            )
    act(policy, record.env, search, seed=seeds[0])


if __name__ == "__main__":
    main()
