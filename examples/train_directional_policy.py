"""Train a legged robot to walk into any direction, with RLlib's own PPO or SAC, for maze datasets.

OGBench's antmaze and humanoidmaze datasets come from such a policy: way-points through the maze
give a direction, the policy moves the joints. This script trains one and writes it as a small npz
file, which `rllib data generate` takes:

    python examples/train_directional_policy.py --robot ant --steps 400000 --output ant.npz
    rllib data generate antmaze-giant-navigate-v0 --steps 100000 --seed 0 --policy ant.npz
    rllib data info ~/.ogbench/data/antmaze-giant-navigate-v0.npz

The robot learns on OGBench's own online-ant and online-humanoid (a flat floor), whose observations
are those of the mazes without x and y. Every 100 steps it is given a new direction, a unit vector
at the end of the observation; the reward is its speed in that direction, in m/s.

300,000 steps of PPO, a quarter of an hour of one CPU, gave an ant of 0.16 m/s (seed 0): it makes a
dataset, but crosses no maze; a well-trained one walks at 1.7 m/s. For that take `--steps 10000000`
and as many `--num-env-runners` as there are CPUs; for a humanoid, which must also learn to stand
up, ten times more, and a GPU for SAC. RLlib's checkpoint is left beside the npz file, and
`--resume-from` goes on from it (`--steps` counts from the very beginning).
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.connectors.env_to_module.mean_std_filter import MeanStdFilter
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune.registry import register_env

from rllib_fmq.data.generation.low_level_policy import (
    LowLevelPolicy,
    export_rllib_policy,
    load_low_level_policy,
)

ENV_IDS = {"ant": "online-ant-v0", "humanoid": "online-humanoid-v0"}
STANDING_HEAD_HEIGHT = 1.4  # m


class Directional(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Reward a robot for its speed in a direction that it is told, and that changes now and then.

    Args:
        robot: "ant" (ends when it lies on its back, or leaves its range of heights) or "humanoid"
            (never ends; its reward counts only as far as it stands upright).
        interval: Steps between changes of direction.
    """

    def __init__(self, robot: str, interval: int = 100) -> None:
        import ogbench.online_locomotion  # noqa: F401  (registers the environments)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the simulator probes for a display
            super().__init__(gymnasium.make(ENV_IDS[robot], disable_env_checker=True))
        self.robot = robot
        self.interval = interval
        self.direction = np.array([1.0, 0.0])
        self._steps = 0
        size = self.env.observation_space.shape[0] + 2
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def _observe(self, obs: Any) -> Any:
        return np.concatenate([obs, self.direction]).astype(np.float32)

    def _turn(self) -> None:
        angle = self.np_random.uniform(-np.pi, np.pi)
        self.direction = np.array([np.cos(angle), np.sin(angle)])

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        obs, _ = self.env.reset(**kwargs)
        self._steps = 0
        self._turn()
        return self._observe(obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        data = self.unwrapped.data
        before = data.qpos[:2].copy()
        obs, _, terminated, truncated, _ = self.env.step(np.clip(action, -1.0, 1.0))
        speed = float((data.qpos[:2] - before) @ self.direction) / self.unwrapped.dt
        upright = float(data.xmat[1, 8])  # z of the torso's own z axis
        if self.robot == "ant":
            reward = speed
            terminated = bool(terminated) or upright < 0.0
        else:
            standing = np.clip(data.xpos[2, 2] / STANDING_HEAD_HEIGHT, 0.0, 1.0)
            reward = float(standing * (1.0 + upright) / 2.0 * (1.0 + max(speed, 0.0)))
        self._steps += 1
        if self._steps % self.interval == 0:
            self._turn()
        return self._observe(obs), reward, terminated, bool(truncated), {"speed": speed}


def build_config(args: argparse.Namespace) -> AlgorithmConfig:
    """RLlib's own PPO or SAC on the directional environment."""
    register_env("directional", lambda config: Directional(config["robot"]))
    hidden = [256, 256]
    config: AlgorithmConfig
    if args.algo == "PPO":
        batch = min(2048, max(256, args.steps // 4))
        config = (
            PPOConfig()
            .env_runners(env_to_module_connector=lambda *_, **__: MeanStdFilter())
            .training(
                lr=5e-4,
                gamma=0.95,  # speed is rewarded at once: 2 s of the ant's time are far enough
                lambda_=0.9,
                train_batch_size_per_learner=batch,
                minibatch_size=256,
                num_epochs=10,
                clip_param=0.2,
                vf_clip_param=100.0,
                entropy_coeff=0.0,
                use_kl_loss=False,
                grad_clip=0.5,
                grad_clip_by="global_norm",
            )
            .rl_module(
                model_config=DefaultModelConfig(
                    fcnet_hiddens=hidden,
                    fcnet_activation="tanh",
                    vf_share_layers=False,
                    free_log_std=True,
                    log_std_clip_param=4.0,
                )
            )
        )
    else:
        config = (
            SACConfig()
            .training(
                actor_lr=3e-4,
                critic_lr=3e-4,
                alpha_lr=3e-4,
                gamma=0.99,
                tau=0.005,
                train_batch_size_per_learner=256,
                training_intensity=args.training_intensity,
                num_steps_sampled_before_learning_starts=min(10_000, args.steps // 4),
                replay_buffer_config={
                    "type": "EpisodeReplayBuffer",
                    "capacity": 1_000_000,
                },
            )
            .rl_module(
                model_config=DefaultModelConfig(
                    fcnet_hiddens=hidden, fcnet_activation="relu", head_fcnet_hiddens=[]
                )
            )
        )
    return (
        config.environment("directional", env_config={"robot": args.robot})
        .env_runners(
            num_env_runners=args.num_env_runners,
            num_envs_per_env_runner=args.num_envs,
            rollout_fragment_length="auto" if args.algo == "PPO" else 1,
        )
        .learners(num_gpus_per_learner=args.num_gpus)
        .debugging(seed=args.seed, log_level="ERROR")
    )


def train(algo: Algorithm, steps: int, minutes: float) -> None:
    """Train for so many environment steps or minutes; a line of progress every ten seconds."""
    started = told = time.monotonic()
    done = 0
    first: tuple[int, float] | None = None  # a resumed run does not begin at step 0
    while done < steps and time.monotonic() - started < 60 * minutes:
        result = algo.train()
        runners = result["env_runners"]
        done = int(result["num_env_steps_sampled_lifetime"])
        now = time.monotonic()
        first = first or (done, now)
        if now - told > 10 or done >= steps:
            told = now
            speed = (done - first[0]) / max(now - first[1], 1.0)
            print(
                f"{done:>9,} of {steps:,} steps, {speed:,.0f}/s: "
                f"return {runners.get('episode_return_mean', float('nan')):.1f}, "
                f"length {runners.get('episode_len_mean', float('nan')):.0f}",
                flush=True,
            )


def evaluate(policy: LowLevelPolicy, robot: str, episodes: int, steps: int) -> dict[str, float]:
    """Mean speed in the wanted direction, and how often the robot fell, from the exported file."""
    env = Directional(robot)
    speeds: list[float] = []
    falls = 0
    for episode in range(episodes):
        obs, _ = env.reset(seed=10_000 + episode)
        for _ in range(steps):
            obs, _, terminated, _, info = env.step(policy.act(obs))
            speeds.append(info["speed"])
            if terminated:
                falls += 1
                break
    env.close()
    return {"speed": float(np.mean(speeds)), "falls": falls / episodes}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--robot", choices=sorted(ENV_IDS), default="ant")
    parser.add_argument("--algo", choices=["PPO", "SAC"], default="PPO")
    parser.add_argument("--steps", type=int, default=400_000, help="environment steps in all")
    parser.add_argument(
        "--minutes", type=float, default=np.inf, help="stop after this time at most"
    )
    parser.add_argument("--output", type=Path, required=True, help="npz file to write")
    parser.add_argument("--checkpoint", type=Path, help="folder to save RLlib's checkpoint in")
    parser.add_argument("--resume-from", type=Path, help="checkpoint to go on from (a pickle)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-env-runners", type=int, default=0, help="0 samples in this process")
    parser.add_argument("--num-envs", type=int, default=16, help="environments an env-runner")
    parser.add_argument("--num-gpus", type=float, default=0, help="GPUs of the learner")
    parser.add_argument(
        "--training-intensity",
        type=float,
        default=256.0,
        help="SAC: transitions trained on for each one sampled (256: one update a step)",
    )
    parser.add_argument("--eval-episodes", type=int, default=10)
    parser.add_argument("--eval-steps", type=int, default=200)
    args = parser.parse_args(arguments)
    if args.output.suffix != ".npz":
        parser.error(f"--output must end in .npz, got {args.output}")
    if args.steps < 1:
        parser.error(f"--steps must be at least 1, got {args.steps}")
    return args


def main(arguments: list[str] | None = None) -> int:
    args = parse_arguments(arguments)
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    algo = build_config(args).build_algo()
    try:
        if args.resume_from:
            algo.restore_from_path(str(args.resume_from.resolve()))
        train(algo, args.steps, args.minutes)
        checkpoint = args.checkpoint or args.output.with_suffix(".checkpoint")
        algo.save_to_path(str(checkpoint.resolve()))
    finally:
        algo.stop()
        ray.shutdown()
    path = export_rllib_policy(checkpoint, args.output)
    facts = evaluate(load_low_level_policy(path), args.robot, args.eval_episodes, args.eval_steps)
    print(
        f"{path}: {facts['speed']:.2f} m/s in the wanted direction, "
        f"falls in {facts['falls']:.0%} of {args.eval_episodes} episodes of {args.eval_steps} steps"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
