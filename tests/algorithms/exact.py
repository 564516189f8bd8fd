"""A problem with long episodes, and everything that two runs can be compared by."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.tune.registry import register_env

from rllib_fmq import ALGORITHMS
from rllib_fmq.checkpointing.plain_pickle import load_plain
from rllib_fmq.data.formats.transitions_npz import save_transitions

DRIFT = "rllib_fmq_tests/Drift"
# Of results: what a clock or the process says, and the settings.
_UNEQUAL = frozenset(
    (
        "config",
        "date",
        "hostname",
        "iterations_since_restore",
        "node_ip",
        "perf",
        "pid",
        "sample",
        "time_between_sampling",
        "time_since_restore",
        "time_this_iter_s",
        "time_total_s",
        "timers",
        "timestamp",
        "trial_id",
    )
)
_UNEQUAL_ENDS = ("_timer", "_latency_ms", "_throughput", "_duration_sec_mean")


class Drift(gym.Env[np.ndarray, np.ndarray]):
    """A point that is pushed about by chance; its episodes last 9 to 23 steps."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._left = int(self.np_random.integers(9, 24))
        self._place = self.np_random.normal(size=3).astype(np.float32)
        return self._place.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        push = np.append(action, action.sum()) + 0.1 * self.np_random.normal(size=3)
        self._place = (0.9 * self._place + 0.1 * push).astype(np.float32)
        distance = float(np.square(self._place).sum())
        done = self._left == 0
        return self._place.copy(), -distance, done and distance < 0.5, done, {"success": done}


def write_drift(path: Path, num_episodes: int = 30) -> Path:
    """Episodes of random actions."""
    env, rng = Drift(), np.random.default_rng(0)
    rows: dict[str, list[Any]] = {
        name: []
        for name in (
            "observations",
            "actions",
            "rewards",
            "next_observations",
            "terminated",
            "truncated",
        )
    }
    for episode in range(num_episodes):
        obs, _ = env.reset(seed=episode)
        done = False
        while not done:
            action = rng.uniform(-1, 1, 2).astype(np.float32)
            after, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            values = (obs, action, reward, after, terminated, truncated and not terminated)
            for column, value in zip(rows.values(), values, strict=True):
                column.append(value)
            obs = after
    return save_transitions(path, **{name: np.array(values) for name, values in rows.items()})


def drift_config(name: str, dataset: Path, **phases: Any) -> Any:
    """20 offline updates in two iterations, then iterations of 14 steps, 7 of each environment.

    Chunks have 5 steps: after 7 there are 3 of the second one left.
    """
    register_env(DRIFT, lambda config: Drift(dict(config)))
    config = (
        ALGORITHMS[name]
        .get_default_config()
        .environment(DRIFT)
        .offline_data(dataset=str(dataset))
        .env_runners(num_envs_per_env_runner=2, rollout_fragment_length=7)
        .training(
            horizon_length=5,
            actor_hidden=(8,),
            critic_hidden=(8,),
            num_candidates=2,
            diagonal_warmup_updates=2,
            interval_anneal_end=30,
            train_batch_size_per_learner=8,
        )
        .evaluation(evaluation_interval=2, evaluation_duration=2)
        .debugging(seed=3)
    )
    return config.phases(
        **{
            "offline_updates": 20,
            "online_env_steps": 70,
            "updates_per_iteration": 10,
            "utd_ratio": 10 / 14,
            "learning_starts": 4,
        }
        | phases
    )


def snapshot(algo: Any) -> dict[str, Any]:
    """Everything of all learners: networks, moments, counters, generators, replay."""
    return {f"learner {i}": part for i, part in enumerate(algo.ask_learners(_learner_snapshot))}


def _learner_snapshot(learner: Any) -> dict[str, Any]:
    table = learner.replay
    stored = len(table) - table._base
    generator = torch.Generator().manual_seed(1)
    state = {
        "networks": {k: v.numpy() for k, v in learner.flow_module.state_dict().items()},
        "optimizer": [o.state_dict()["state"] for o in learner._named_optimizers.values()],
        "counters": [learner.num_updates, learner.online, learner._weights_seq_no],
        "generator": learner.generator_state(),
        "rows": [getattr(table, c)[:stored].numpy() for c in ("obs", "actions", "rewards")],
        "added": [table.num_added, table.num_offline],
        "windows": [part.numpy() for part in table.sample(500, 5, generator)],
    }
    return copy.deepcopy(state)  # nothing that the learner goes on to change


def of_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """What of a result two equal runs must have in common."""
    return {
        key: of_result(value) if isinstance(value, Mapping) else value
        for key, value in result.items()
        if key not in _UNEQUAL and not key.endswith(_UNEQUAL_ENDS)
    }


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two nested values are not the same, bit for bit; NaN equals NaN."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        found = [f"{where}/{key}: only in one" for key in one.keys() ^ other.keys()]
        for key in one.keys() & other.keys():
            found += differences(one[key], other[key], f"{where}/{key}")
        return found
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{where}: {len(one)} and {len(other)} parts"]
        pairs = enumerate(zip(one, other, strict=True))
        return [line for i, pair in pairs for line in differences(*pair, f"{where}/{i}")]
    if isinstance(one, torch.Tensor | np.ndarray):
        pair = np.asarray(one), np.asarray(other)
        same = np.array_equal(*pair, equal_nan=pair[0].dtype.kind == "f")
        return [] if same else [f"{where}: arrays differ"]
    both_nan = isinstance(one, float) and isinstance(other, float) and one != one and other != other
    return [] if one == other or both_nan else [f"{where}: {one!r} and {other!r}"]


def transitions(algo: Any) -> Counter[bytes]:
    """The multiset of the online transitions in the first learner's replay."""
    return Counter(algo.ask_learners(_online_transitions)[0])


def _online_transitions(learner: Any) -> list[bytes]:
    table = learner.replay
    rows = range(table.num_offline - table._base, len(table) - table._base)
    return [
        b"".join(getattr(table, c)[row].numpy().tobytes() for c in ("obs", "actions", "rewards"))
        for row in rows
    ]


def unfinished(checkpoint: Path) -> list[tuple[int, int]]:
    """Steps of each running episode at a checkpoint, and actions left of its chunk."""
    with (checkpoint / "resume_state.pkl").open("rb") as file:
        runners = load_plain(file)["runners"].values()
    return [
        (episode["t"], len(runner["queues"].get(episode["id_"], ())))
        for runner in runners
        for episode in runner["episodes"]
        if episode is not None
    ]


def finite(result: Mapping[str, Any]) -> bool:
    """Whether the learner's losses are."""
    losses = result["learners"]["default_policy"]
    return all(math.isfinite(v) for k, v in losses.items() if k.endswith("_loss"))
