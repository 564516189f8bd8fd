"""FMQ on an environment and a dataset of your own.

    python examples/own_environment.py            # trains at full length
    python examples/own_environment.py --smoke    # every step once, nothing learned

Three things are needed: an environment that Gymnasium can make, a file of recorded transitions in
the plain format (``save_transitions``), and a config that names both. The same from a shell, once
the file is there; "module:id" makes Gymnasium import the module that registers the environment:

    PYTHONPATH=examples rllib train --algo FMQ --env own_environment:Reach-v0 --dataset FILE
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import ray

from rllib_fmq import FMQConfig
from rllib_fmq.data import save_transitions

STEP_SECONDS = 0.05
MAX_SPEED = 2.0


class Reach(gym.Env[dict[str, np.ndarray], np.ndarray]):
    """A point in the plane that is to reach a goal, with velocities as actions.

    Dict observations are flattened for the networks, in the order of ``gymnasium.spaces.flatten``.
    Any bounded Box will do for actions. ``info["success"]`` is what success rates count, and
    ``render`` serves videos only.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": ["rgb_array"],
        "render_fps": round(1 / STEP_SECONDS),
    }
    observation_space = gym.spaces.Dict(
        {
            "position": gym.spaces.Box(-2.0, 2.0, (2,), np.float32),
            "goal": gym.spaces.Box(-1.0, 1.0, (2,), np.float32),
        }
    )
    action_space = gym.spaces.Box(-MAX_SPEED, MAX_SPEED, (2,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self.position, self.goal = self.np_random.uniform(-1.0, 1.0, (2, 2)).astype(np.float32)
        return self._observation(), {}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        moved = self.position + STEP_SECONDS * np.asarray(action)
        self.position = np.clip(moved, -2.0, 2.0).astype(np.float32)
        success = bool(np.linalg.norm(self.goal - self.position) < 0.1)
        return self._observation(), 0.0 if success else -1.0, success, False, {"success": success}

    def render(self) -> np.ndarray:
        frame = np.full((200, 200, 3), 255, np.uint8)
        for place, colour in ((self.goal, (0, 160, 0)), (self.position, (200, 0, 0))):
            x, y = np.round(100 + 45 * place * (1, -1)).astype(int)
            frame[y - 4 : y + 5, x - 4 : x + 5] = colour
        return frame

    def _observation(self) -> dict[str, np.ndarray]:
        return {"position": self.position, "goal": self.goal}


gym.register("Reach-v0", entry_point=Reach, max_episode_steps=30)


def record(path: Path, episodes: int, seed: int) -> Path:
    """Transitions of a controller that heads for the goal with an error of its own each episode."""
    rng = np.random.default_rng(seed)
    env = gym.make("Reach-v0")
    rows: dict[str, list[Any]] = {
        name: []
        for name in (
            *("observations", "actions", "rewards"),
            *("next_observations", "terminated", "truncated"),
        )
    }
    for episode in range(episodes):
        obs, _ = env.reset(seed=seed + episode)
        error, speed = rng.normal(0.0, 1.2), rng.uniform(0.3, 1.0) * MAX_SPEED
        turn = np.array([[np.cos(error), -np.sin(error)], [np.sin(error), np.cos(error)]])
        done = False
        while not done:
            heading = turn @ (obs["goal"] - obs["position"])
            action = speed * heading / (np.linalg.norm(heading) + 1e-6) + rng.normal(0.0, 0.2, 2)
            action = np.clip(action, -MAX_SPEED, MAX_SPEED)
            following, reward, terminated, truncated, _ = env.step(action)
            for name, value in zip(
                rows,
                (
                    gym.spaces.flatten(env.observation_space, obs),
                    action,
                    reward,
                    gym.spaces.flatten(env.observation_space, following),
                    terminated,
                    truncated,
                ),
                strict=True,
            ):
                rows[name].append(value)
            obs, done = following, terminated or truncated
    return save_transitions(path, **rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("results/own_environment"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="every step once, nothing learned")
    args = parser.parse_args()
    episodes, width, updates, steps = (20, 16, 40, 60) if args.smoke else (1_000, 128, 6_000, 6_000)

    args.out.mkdir(parents=True, exist_ok=True)
    dataset = record(args.out / "reach.npz", episodes, args.seed)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    config = (
        FMQConfig()
        .environment("Reach-v0")
        .offline_data(dataset=str(dataset))
        .training(
            eta=1.0,
            horizon_length=3,
            num_candidates=8,
            actor_hidden=(width, width),
            critic_hidden=(width, width),
            diagonal_warmup_updates=updates // 10,
            interval_anneal_end=updates // 2,
        )
        .phases(
            offline_updates=updates,
            online_env_steps=steps,
            updates_per_iteration=max(20, updates // 6),
            learning_starts=steps // 20,
        )
        .evaluation(evaluation_interval=1, evaluation_duration=2 if args.smoke else 50)
        .debugging(seed=args.seed)
    )
    algo = config.build_algo()
    try:
        while algo.phase != "finished":
            result = algo.train()
            evaluation = result["evaluation"]["env_runners"]
            print(
                f"{result['phase']:8} {result['num_updates']:6} updates "
                f"{result['num_online_env_steps']:6} steps: "
                f"success {evaluation['success_rate']:.2f}, "
                f"steps an episode {evaluation['episode_len_mean']:.1f}"
            )
        print("checkpoint:", algo.save_to_path(str((args.out / "checkpoint").resolve())))
    finally:
        algo.stop()
        ray.shutdown()


if __name__ == "__main__":
    main()
