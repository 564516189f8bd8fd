"""Small datasets in other people's formats, written as their own tools write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rllib_fmq.data import TransitionTable

OBS_DIM, ACTION_DIM = 3, 2
ENV_ARGS = {"env_name": "PickPlaceCan", "env_version": "1.5.1", "type": 1, "env_kwargs": {}}
LOW_DIM = {
    "robot0_eef_pos": 3,
    "robot0_eef_quat": 4,
    "robot0_gripper_qpos": 2,
    "object": 14,
}


def make_table(
    lengths: Sequence[int],
    *,
    seed: int = 0,
    ended: Sequence[bool] | None = None,
    inside: bool = False,
    obs_dim: int = OBS_DIM,
) -> TransitionTable:
    """Random episodes; `ended` tells which are terminated, `inside` goes on after such rows."""
    random = np.random.default_rng(seed)
    rows = sum(lengths)
    episode_end = np.zeros(rows, np.bool_)
    episode_end[np.cumsum(lengths) - 1] = True
    terminated = np.zeros(rows, np.bool_)
    flags = np.arange(len(lengths)) % 2 == 0 if ended is None else np.asarray(ended, np.bool_)
    terminated[episode_end] = flags
    if inside:
        terminated |= random.random(rows) < 0.3
    return TransitionTable.from_columns(
        obs=random.normal(size=(rows, obs_dim)),
        actions=random.uniform(-1, 1, (rows, ACTION_DIM)),
        rewards=random.normal(size=rows),
        terminated=terminated,
        episode_end=episode_end,
        final_obs=random.normal(size=(len(lengths), obs_dim)),
        source="made",
    )


def episodes_of(table: TransitionTable) -> list[dict[str, np.ndarray]]:
    """Arrays of each trajectory, with one observation more than steps."""
    stops = np.flatnonzero(table.episode_end) + 1
    starts = [0, *stops[:-1]]
    return [
        {
            "observations": np.concatenate([table.obs[start:stop], table.final_obs[number][None]]),
            "actions": table.actions[start:stop],
            "rewards": table.rewards[start:stop],
            "terminated": table.terminated[start:stop],
        }
        for number, (start, stop) in enumerate(zip(starts, stops, strict=True))
    ]


def write_minari(
    table: TransitionTable, dataset_id: str, data_format: str = "hdf5", nested: bool = False
) -> None:
    """Through Minari, into its own folder; `nested` splits observations into a Dict."""
    import minari
    from minari.data_collector import EpisodeBuffer

    size = table.obs_dim
    space: gym.Space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
    if nested:
        # Not in the order of the alphabet: that of the space counts.
        space = gym.spaces.Dict(
            [
                ("z", gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)),
                ("a", gym.spaces.Box(-np.inf, np.inf, (size - 1,), np.float32)),
            ]
        )
    buffers = []
    for number, episode in enumerate(episodes_of(table)):
        obs: Any = episode["observations"]
        ended = episode["terminated"].copy()
        cut = np.zeros(len(ended), np.bool_)
        cut[-1] = not ended[-1]
        buffers.append(
            EpisodeBuffer(
                id=number,
                observations={"z": obs[:, :1], "a": obs[:, 1:]} if nested else obs,
                actions=episode["actions"],
                rewards=episode["rewards"],
                terminations=ended,
                truncations=cut,
                infos={},
            )
        )
    minari.create_dataset_from_buffers(
        dataset_id,
        buffers,
        observation_space=space,
        action_space=gym.spaces.Box(-1, 1, (ACTION_DIM,), np.float32),
        data_format=data_format,
        author="tests",
        author_email="tests@example.org",
        code_permalink="https://example.org",
        algorithm_name="none",
    )


def pack(value: Any) -> Any:
    """How msgpack_numpy puts an array into msgpack; objects as pickles, as it does."""
    if isinstance(value, np.ndarray):
        pickled = value.dtype.kind == "O"
        return {
            b"nd": True,
            b"type": value.dtype.descr if pickled else value.dtype.str,
            b"kind": b"O" if pickled else b"",
            b"shape": value.shape,
            b"data": value.dumps() if pickled else value.tobytes(),
        }
    if isinstance(value, np.bool_ | np.number):
        return {b"nd": False, b"type": value.dtype.str, b"data": value.tobytes()}
    return value


def rllib_episode(episode: dict[str, Any], name: str, space: gym.Space | None = None) -> Any:
    """An RLlib episode with an episode's steps, not finished."""
    recorded = SingleAgentEpisode(
        id_=name,
        observation_space=space or gym.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float32),
        action_space=gym.spaces.Box(-1, 1, (ACTION_DIM,), np.float32),
    )
    observations = episode["observations"]
    recorded.add_env_reset(observations[0])
    steps = len(episode["rewards"])
    for step in range(steps):
        recorded.add_env_step(
            observations[step + 1],
            episode["actions"][step],
            float(episode["rewards"][step]),
            terminated=bool(episode["terminated"][step]),
            truncated=step == steps - 1 and not episode["terminated"][step],
        )
    return recorded


def fragments_of(recorded: Any, borders: Sequence[int], lookback: int = 1) -> list[Any]:
    """An RLlib episode cut as an env-runner does it, with some steps of lookback."""
    parts = []
    stops = [*borders, len(recorded)]
    for start, stop in zip([0, *borders], stops, strict=True):
        back = min(lookback, start)
        parts.append(recorded.slice(slice(start, stop), len_lookback_buffer=back))
    return parts


def write_rllib(fragments: Sequence[Any], path: Path) -> Path:
    """A Parquet file with a fragment a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    items = [
        part if isinstance(part, bytes) else msgpack.packb(part.get_state(), default=pack)
        for part in fragments
    ]
    pq.write_table(pa.table({"item": pa.array(items, pa.binary())}), path)
    return path


def write_robomimic_file(path: Path, lengths: Sequence[int], **options: Any) -> Path:
    """RoboMimic's low_dim layout through h5py alone; the last row of every demo succeeds."""
    import h5py

    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(lengths)
        data.attrs["env_args"] = json.dumps(ENV_ARGS)
        for number, steps in enumerate(lengths):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = steps
            rewards = np.zeros(steps)
            rewards[-1] = 1.0
            demo.create_dataset("actions", data=random.uniform(-1, 1, (steps, 7)), **options)
            demo.create_dataset("rewards", data=rewards, **options)
            demo.create_dataset("dones", data=rewards, **options)
            for key, size in LOW_DIM.items():
                values = random.normal(size=(steps + 1, size)).astype(np.float32)
                demo.create_dataset(f"obs/{key}", data=values[:-1], **options)
                demo.create_dataset(f"next_obs/{key}", data=values[1:], **options)
        masks = file.create_group("mask")
        masks["train"] = np.array([f"demo_{i}" for i in range(len(lengths) - 1)], "S8")
        masks["valid"] = np.array([f"demo_{len(lengths) - 1}"], "S8")
    return path
